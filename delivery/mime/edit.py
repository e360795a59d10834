"""Editing a message by its octets: signed bodies and signed header fields stay as they are (SMTP-8, PRV-3)."""

from collections.abc import Iterable

from delivery.mime.fields import read_fields, skip_blank_lines

REMOVED_AT_DELIVERY = ("bcc", "resent-bcc", "x-send-at", "x-smtpproxy-*")
"""Fields no reader may see: blind copies, and what a client tells us alone."""


def strip_headers(raw: bytes, names: Iterable[str] = REMOVED_AT_DELIVERY) -> bytes:
    """The message without the top-level header fields of these names, every other octet unchanged.

    Names are matched in any case; one that ends in `*` matches every name that begins so. A field goes with its
    folded lines and with lines after it that are no field (a broken fold). Bodies and attached messages are not
    touched. When nothing matches, `raw` itself is returned. Never raises.
    """
    wanted = [name.lower().encode("ascii", "replace") for name in names]
    exact = {name for name in wanted if not name.endswith(b"*")}
    prefixes = tuple(name[:-1] for name in wanted if name.endswith(b"*"))
    start = skip_blank_lines(raw)
    kept: list[bytes] = []
    done = 0
    for field in read_fields(raw, start, limit=len(raw), most=len(raw)).fields:
        if field.key in exact or field.key.startswith(prefixes):
            kept.append(raw[done : field.start])
            done = field.end
    if not done:
        return raw
    kept.append(raw[done:])
    return b"".join(kept)
