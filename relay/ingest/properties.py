"""Properties of AMQP messages that our library cannot read, though RabbitMQ hands them on.

A time in milliseconds, say, or a name that is not UTF-8. The library would raise before anybody knows which message it
is, the link would break, and the same message be brought again for ever, with all others behind it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from amqp.serialization import decode_properties_basic, dumps

HEADER_FRAME = 2
_UNREADABLE = "x-smtpproxy-unreadable"
_FIXED = 12
"""Octets before the properties: class, weight and size of the body (AMQP 0-9-1 §4.2.6.1)."""
_HEADERS_ONLY = b"\x20\x00"


def legible(header: bytes) -> bytes:
    """A content header as it came, or one that says that its properties could not be read, and nothing else."""
    try:
        decode_properties_basic(header, _FIXED)
    except Exception:  # noqa: BLE001 - whatever the library fails at, it would fail at each time
        header = header[:_FIXED] + _HEADERS_ONLY + dumps("F", ({_UNREADABLE: True},))
    return header


def unreadable(headers: Mapping[str, Any]) -> bool:
    """Whether these came from `legible` in place of others."""
    return _UNREADABLE in headers
