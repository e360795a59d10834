"""Messages for tests of acceptance and delivery, put through the real doors."""

from __future__ import annotations

import io
from collections.abc import Sequence

from django.utils import timezone

from accounts.ids import uuid7
from delivery import intake, mime
from delivery.models import Message
from delivery.submission import Accepted, Submission


class BytesBody:
    """A body in memory."""

    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        self.size = len(raw)

    def open(self) -> io.BytesIO:
        return io.BytesIO(self.raw)

    def header_block(self) -> bytes:
        return mime.header_block(self.raw)


def raw_message(*headers: str, sender: str = "crm@acme.example", body: str = "Hello.\r\n") -> bytes:
    lines = [f"From: {sender}", "To: someone@outside.example", "Subject: Greetings", *headers]
    return ("\r\n".join(lines) + "\r\n\r\n" + body).encode()


def submission(account, raw: bytes | None = None, recipients: Sequence[str] = ("someone@outside.example",), **values):
    values.setdefault("mail_from", "crm@acme.example")
    return Submission(
        message_id=uuid7(),
        account_id=account.pk,
        source=Message.Source.SMTP,
        recipients=list(recipients),
        body=BytesBody(raw_message() if raw is None else raw),
        received_at=timezone.now(),
        **values,
    )


def accepted(account, raw: bytes | None = None, recipients: Sequence[str] = ("someone@outside.example",), **values):
    """The row of a message that came in through acceptance."""
    [answer] = intake.accept([submission(account, raw, recipients, **values)])
    assert isinstance(answer, Accepted), answer
    return Message.objects.get(pk=answer.message_id)
