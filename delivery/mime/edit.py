"""Editing a message by its octets: signed bodies and signed header fields stay as they are (SMTP-8, PRV-3)."""

import re
from collections.abc import Iterable
from functools import lru_cache

from delivery.mime.fields import extent, skip_blank_lines

REMOVED_AT_DELIVERY = ("bcc", "resent-bcc", "x-send-at", "x-smtpproxy-*")
"""Fields no reader may see: blind copies, and what a client tells us alone."""
MOST_TOLD = 20
LONGEST_TOLD = 76

_NAME = rb"[!-9;-~]++[ \t]*+:(?!//)"
_FOLDED = rb"[ \t]*+:[^\n]*+\n?(?:[ \t][^\n]*+\n?)*+"
# Lines that are no field (a broken fold) go with the field before them, unless they may be the body.
_JUNK = rb"(?:(?:(?!--|" + _NAME + rb")[^\n]*+\n)++(?=" + _NAME + rb"))?"


def strip_headers(raw: bytes, names: Iterable[str] = REMOVED_AT_DELIVERY) -> bytes:
    """As `without_headers`, but for the names."""
    return without_headers(raw, names)[0]


def without_headers(raw: bytes, names: Iterable[str] = REMOVED_AT_DELIVERY) -> tuple[bytes, tuple[str, ...]]:
    """The message without the top-level header fields of these names, every other octet unchanged; and the names of
    those it had, as they were written, each once (the first MOST_TOLD, cut to LONGEST_TOLD).

    Names are matched in any case; one that ends in `*` matches every name that begins so. A field goes with its
    folded lines and with lines after it that are no field (a broken fold). Bodies and attached messages are not
    touched. When nothing matches, `raw` itself is returned. Never raises, linear.
    """
    wanted = tuple(names)
    if not wanted:
        return raw, ()
    start = skip_blank_lines(raw)
    stop, _ = extent(raw, start, len(raw))
    removed: dict[str, None] = {}

    def remove(field: re.Match[bytes]) -> bytes:
        if len(removed) < MOST_TOLD:
            removed[field[0].partition(b":")[0].strip()[:LONGEST_TOLD].decode("ascii", "replace")] = None
        return b""

    kept = _fields_named(wanted).sub(remove, raw[start:stop])
    return (b"".join((raw[:start], kept, raw[stop:])), tuple(removed)) if removed else (raw, ())


@lru_cache(maxsize=32)
def _fields_named(names: tuple[str, ...]) -> re.Pattern[bytes]:
    patterns = []
    for name in names:
        stem = re.escape(name.removesuffix("*").encode("ascii", "replace"))
        patterns.append(stem + (rb"[!-9;-~]*+" if name.endswith("*") else b""))
    return re.compile(rb"^(?:" + b"|".join(patterns) + rb")" + _FOLDED + _JUNK, re.IGNORECASE | re.MULTILINE)
