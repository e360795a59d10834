"""Messages for the tests of the providers, and a small reading of them."""

from __future__ import annotations

import email
import email.policy
import uuid
from collections.abc import Sequence
from email.message import EmailMessage
from email.utils import getaddresses
from typing import Any

from providers.base import Attachment, Content, Mailbox, OutboundMessage

PNG = bytes.fromhex("89504e470d0a1a0a") + bytes(range(256))
PDF = b"%PDF-1.7\n\xe2\xe3\xcf\xd3\n" + b"x" * 3000
ANNA, BERT, CARA, DORA = "anna@globex.test", "bert@globex.test", "cara@initech.test", "dora@initech.test"
SENDER = "shop@acme.test"


def parse(raw: bytes) -> Content:
    """A plain reading for messages that this file makes; delivery has a real one."""
    message = email.message_from_bytes(raw, policy=email.policy.default)
    body, page = message.get_body(("plain",)), message.get_body(("html",))
    attachments = []
    for part in message.walk():
        if part.is_multipart() or part in (body, page):
            continue
        content = part.get_payload(decode=True)
        if part is message and not content:
            continue
        attachments.append(
            Attachment(
                part.get_filename() or "",
                part.get_content_type(),
                content,
                str(part.get("Content-ID", "")).strip("<> "),
                part.get_content_disposition() == "inline" or "Content-ID" in part,
                {k: v for k, v in part["Content-Type"].params.items() if k not in {"name", "boundary"}},
            )
        )
    headers = tuple((name, str(value)) for name, value in message.items())
    return Content(
        subject=str(message.get("Subject", "")),
        from_=boxes(message, "From"),
        sender=next(iter(boxes(message, "Sender")), None),
        reply_to=boxes(message, "Reply-To"),
        to=boxes(message, "To"),
        cc=boxes(message, "Cc"),
        text=body.get_content() if body else "" if not page and not attachments else None,
        html=page.get_content() if page else None,
        attachments=tuple(attachments),
        headers=headers,
    )


def boxes(message: EmailMessage, name: str) -> tuple[Mailbox, ...]:
    values = [str(value) for value in message.get_all(name, [])]
    return tuple(Mailbox(found, address) for found, address in getaddresses(values) if address)


def letter(**headers: Any) -> EmailMessage:
    """An empty message from acme to Anna; give header names with underscores, None leaves one out."""
    message = EmailMessage(policy=email.policy.SMTP)
    usual = {
        "From": f"Acme Shop <{SENDER}>",
        "To": f"Anna Arndt <{ANNA}>",
        "Subject": "Your order",
        "Message-ID": "<order-1@acme.test>",
        "X-Order": "4711",
    }
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    for name, value in {**usual, **given}.items():
        if value is not None:
            message[name] = value
    return message


def text_only(**headers: Any) -> EmailMessage:
    message = letter(**headers)
    message.set_content("Thank you.\n.\n..dots\nGrüße\n", cte="8bit")
    return message


def plain(**headers: Any) -> EmailMessage:
    """A dated message whose text is encoded for 7-bit routes."""
    message = letter(Date="Sun, 22 Nov 2026 10:00:00 +0000", **headers)
    message.set_content("Grüße,\n.\nÄÖÜ\n", cte="quoted-printable")
    return message


def outbound(
    message: EmailMessage | bytes | Content,
    recipients: Sequence[str] = (ANNA,),
    *,
    mail_from: str = SENDER,
    everybody: Sequence[str] | None = None,
    smtputf8: bool = False,
    key: str | None = None,
) -> OutboundMessage:
    """An OutboundMessage for one call. A `Content` stands for a message that needs no parsing."""
    raw = message if isinstance(message, bytes) else b"" if isinstance(message, Content) else message.as_bytes()
    return OutboundMessage(
        message_id=str(uuid.uuid4()),
        idempotency_key=key or str(uuid.uuid4()),
        mail_from=mail_from,
        recipients=tuple(recipients),
        envelope_recipients=tuple(everybody or recipients),
        raw=raw,
        smtputf8=smtputf8,
        parse=(lambda _: message) if isinstance(message, Content) else parse,
    )
