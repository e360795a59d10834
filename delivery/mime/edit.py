"""Editing a message by its octets: signed bodies and signed header fields stay as they are (SMTP-8, PRV-3)."""

import re
from collections.abc import Iterable
from functools import lru_cache

from delivery.mime.fields import extent, skip_blank_lines

REMOVED_AT_DELIVERY = ("bcc", "resent-bcc", "x-send-at", "x-smtpproxy-*")
"""Fields no reader may see: blind copies, and what a client tells us alone."""

_NAME = rb"[!-9;-~]++[ \t]*+:(?!//)"
_FOLDED = rb"[ \t]*+:[^\n]*+\n?(?:[ \t][^\n]*+\n?)*+"
# Lines that are no field (a broken fold) go with the field before them, unless they may be the body.
_JUNK = rb"(?:(?:(?!--|" + _NAME + rb")[^\n]*+\n)++(?=" + _NAME + rb"))?"


def strip_headers(raw: bytes, names: Iterable[str] = REMOVED_AT_DELIVERY) -> bytes:
    """The message without the top-level header fields of these names, every other octet unchanged.

    Names are matched in any case; one that ends in `*` matches every name that begins so. A field goes with its
    folded lines and with lines after it that are no field (a broken fold). Bodies and attached messages are not
    touched. When nothing matches, `raw` itself is returned. Never raises, linear.
    """
    wanted = tuple(names)
    if not wanted:
        return raw
    start = skip_blank_lines(raw)
    stop, _ = extent(raw, start, len(raw))
    kept, removed = _fields_named(wanted).subn(b"", raw[start:stop])
    return b"".join((raw[:start], kept, raw[stop:])) if removed else raw


@lru_cache(maxsize=32)
def _fields_named(names: tuple[str, ...]) -> re.Pattern[bytes]:
    patterns = []
    for name in names:
        stem = re.escape(name.removesuffix("*").encode("ascii", "replace"))
        patterns.append(stem + (rb"[!-9;-~]*+" if name.endswith("*") else b""))
    return re.compile(rb"^(?:" + b"|".join(patterns) + rb")" + _FOLDED + _JUNK, re.IGNORECASE | re.MULTILINE)
