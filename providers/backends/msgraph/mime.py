"""Whether a message may go to Graph as MIME, which reads the recipients from the header (PRV-3).

Anything but the plainest way to write addresses is left to the structured form: what Exchange would make of it nobody
knows for sure, and an address too many is mail to a stranger.
"""

from __future__ import annotations

import re

from providers.base import OutboundMessage
from providers.envelope import ascii_address, same

MAX_HEADER = 64 * 1024
"""Octets of a header block that is looked into; larger ones are left to the structured form."""

_BOX = r"[\w!#$%&'*+/=?^`{|}~.-]+@[\w.-]+"
_WORD = r'(?:"(?:[^"\\]|\\.)*"|[^\s"<>,;:@()\[\]\\]+)'
_NAMED = re.compile(rf"(?:{_WORD}(?:\s+{_WORD})*\s*)?<({_BOX})>|({_BOX})", re.ASCII)
_BETWEEN = re.compile(r"\s*,\s*")
_FOLD = re.compile(rb"\r\n(?=[ \t])")


def as_it_is(message: OutboundMessage, *, blind: bool) -> bytes | None:
    """The bytes to send, when the header names exactly the recipients of this call; None when it does not.

    With `blind`, recipients in no header are named in a Bcc header, which Exchange takes out of what it sends
    (https://learn.microsoft.com/en-us/graph/outlook-send-mime-message).
    """
    named = _named(message.raw)
    wanted = {same(recipient): recipient for recipient in message.recipients}
    if named is None or not set(named) <= set(wanted):
        return None
    others = [ascii_address(recipient) for key, recipient in wanted.items() if key not in named]
    if not others:
        return message.raw
    if not blind or not all(re.fullmatch(_BOX, other, re.ASCII) for other in others):
        return None
    return b"Bcc: " + ",\r\n ".join(others).encode("ascii") + b"\r\n" + message.raw


def _named(raw: bytes) -> list[str] | None:
    """The keys of the addresses in To and Cc, None when they cannot be told for sure."""
    header = raw[: MAX_HEADER + 4].partition(b"\r\n\r\n")
    if not header[1] or not header[0].isascii():
        return None
    found: list[str] = []
    seen: set[str] = set()
    for line in _FOLD.sub(b"", header[0]).decode("ascii").split("\r\n"):
        name, colon, value = line.partition(":")
        name = name.rstrip().lower()
        if not colon or name == "bcc" or name.startswith("resent-"):
            return None
        if name in {"to", "cc"}:
            addresses = _addresses(value.strip())
            if addresses is None or name in seen:
                return None
            seen.add(name)
            found += [same(address) for address in addresses]
    return found if len(set(found)) == len(found) else None


def _addresses(value: str) -> list[str] | None:
    found: list[str] = []
    place = 0
    while match := _NAMED.match(value, place):
        found.append(match[1] or match[2])
        place = match.end()
        if place == len(value):
            return found
        comma = _BETWEEN.match(value, place)
        if comma is None:
            return None
        place = comma.end()
    return None
