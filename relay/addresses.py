"""Paths as they stand after MAIL FROM and RCPT TO (RFC 5321 §4.1.2)."""

from __future__ import annotations

import re
from dataclasses import dataclass

from delivery.mailbox import MalformedAddress

_SOURCE_ROUTE = re.compile(r"@[A-Za-z0-9.\u0080-\U0010ffff-]+(?:,@[A-Za-z0-9.\u0080-\U0010ffff-]+)*:")
_PATH = re.compile(r'<(?P<path>(?:[^<>"\\]|"(?:[^"\\]|\\.)*")*)>(?: +(?P<rest>.*))?\Z')


@dataclass(frozen=True, slots=True)
class Path:
    """What stands between the angle brackets (source route left out), and the parameters after them."""

    address: str
    parameters: str


def split_path(text: str) -> Path:
    """Take `<path> parameters` apart. Raises MalformedAddress; the address itself is not looked at."""
    match = _PATH.match(text)
    if match is None:
        raise MalformedAddress
    path = match["path"]
    if path.startswith("@"):
        route = _SOURCE_ROUTE.match(path)
        if route is None:
            raise MalformedAddress
        path = path[route.end() :]
        if not path:
            raise MalformedAddress
    return Path(path, (match["rest"] or "").strip(" "))
