"""What the load generator sends: messages, and the commands around them."""

from __future__ import annotations

import base64
from dataclasses import dataclass

SENDER, RECIPIENT = "load@bench.example", "somebody@recipient.example"


def message(size: int) -> tuple[bytes, bytes]:
    """A message of about `size` octets, as lines of text, ready for DATA up to and including the final dot.

    In two parts: a number of its own goes between them, into the subject.
    """
    before = f"From: Load <{SENDER}>\r\nTo: {RECIPIENT}\r\nSubject: Load ".encode()
    after = (
        b"\r\nDate: Sun, 22 Nov 2026 12:00:00 +0000\r\nMIME-Version: 1.0\r\n"
        b"Content-Type: text/plain; charset=utf-8\r\n\r\n"
    )
    line = b"All the lines of this message are alike and of seventy octets or so.\r\n"
    return before, after + line * max(1, (size - len(before + after)) // len(line)) + b".\r\n"


@dataclass
class Plan:
    """What every connection does."""

    address: tuple[str, int]
    message: tuple[bytes, bytes]
    tls: bool = False
    user: str = ""
    password: str = ""
    ramp: float = 0.0
    pause: float = 0.0
    recipients: int = 1

    def greeting_steps(self) -> list[tuple[bytes, bytes]]:
        steps = [(b"EHLO client.bench.example\r\n", b"250")]
        if self.tls:
            steps += [(b"STARTTLS\r\n", b"220"), (b"EHLO client.bench.example\r\n", b"250")]
        if self.user:
            secret = base64.b64encode(f"\0{self.user}\0{self.password}".encode())
            steps.append((b"AUTH PLAIN " + secret + b"\r\n", b"235"))
        return steps

    def message_steps(self) -> list[tuple[bytes, bytes]]:
        name, _, domain = RECIPIENT.partition("@")
        to = [RECIPIENT] + [f"{name}{number}@{domain}" for number in range(1, self.recipients)]
        return [
            (f"MAIL FROM:<{SENDER}>\r\n".encode(), b"250"),
            *((f"RCPT TO:<{address}>\r\n".encode(), b"250") for address in to),
            (b"DATA\r\n", b"354"),
            (b"", b"250"),  # the message
        ]
