"""What goes over an SMTP connection: replies, addresses and messages as octets (RFC 5321)."""

from __future__ import annotations

import functools
import re
import socket
from dataclasses import dataclass

_FORBIDDEN = re.compile(r"[\x00-\x20\x7f<>]")


@dataclass(frozen=True, slots=True)
class Reply:
    """A server's reply (RFC 5321 §4.2)."""

    code: int
    text: str

    @property
    def positive(self) -> bool:
        return 200 <= self.code < 300

    @property
    def temporary(self) -> bool:
        return not 200 <= self.code < 300 and not 500 <= self.code < 600

    @property
    def status_code(self) -> int | None:
        """The code, None when the server's line has none."""
        return self.code if 200 <= self.code < 600 else None

    @property
    def enhanced(self) -> str:
        """The enhanced status code (RFC 3463), "" when there is none."""
        match = re.match(r"[245]\.\d{1,3}\.\d{1,3}\b", self.text)
        return match[0] if match else ""

    def __str__(self) -> str:
        return f"{self.code} {self.text}".strip() if self.status_code else f"The server said: {self.text}"


def stuffed(raw: bytes) -> bytes:
    """The message as it goes over the line: dots doubled at line starts, and the final dot."""
    body = (b"." if raw.startswith(b".") else b"") + raw.replace(b"\r\n.", b"\r\n..")
    return body + (b".\r\n" if not raw or raw.endswith(b"\r\n") else b"\r\n.\r\n")


def path(address: str) -> str:
    """An address for MAIL or RCPT. What could end the command is refused; a quoted local part may hold spaces."""
    local, at, domain = address.rpartition("@")
    if local.startswith('"') and local.endswith('"') and not re.search(r"[\x00-\x1f\x7f]", local):
        local = ""
    if _FORBIDDEN.search(local + at + domain):
        raise ValueError("an address with a control character, a space or an angle bracket")
    return address


@functools.cache
def own_name() -> str:
    """The name for EHLO when none is configured: the host's, or its address as a literal (RFC 5321 §4.1.4)."""
    name = socket.getfqdn()
    if "." in name and name != "localhost.localdomain":
        return name
    try:
        return f"[{socket.gethostbyname(socket.gethostname())}]"
    except OSError:
        return "[127.0.0.1]"
