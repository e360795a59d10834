"""Structured content to a message, for what we write ourselves and what arrives as JSON."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from email.headerregistry import Address
from email.message import EmailMessage, MIMEPart
from email.policy import SMTP, SMTPUTF8
from email.utils import format_datetime

from providers.base import Attachment, Mailbox


def compose(
    *,
    from_: Mailbox,
    to: Sequence[Mailbox],
    subject: str,
    message_id: str,
    date: datetime,
    cc: Sequence[Mailbox] = (),
    reply_to: Sequence[Mailbox] = (),
    text: str | None = None,
    html: str | None = None,
    attachments: Sequence[Attachment] = (),
    headers: Mapping[str, str] | None = None,
) -> bytes:
    """The octets of a message with CRLF line ends.

    `message_id` is without angle brackets, `date` aware. Blind copies are the envelope's business and have no
    argument. Raises ValueError when an address or a header cannot be written (a line break in a value, no "@", a
    header that is named twice).
    """
    message = EmailMessage(policy=SMTP)
    message["From"] = _address(from_)
    for name, mailboxes in (("To", to), ("Cc", cc), ("Reply-To", reply_to)):
        if mailboxes:
            message[name] = [_address(m) for m in mailboxes]
    message["Subject"] = subject
    message["Date"] = format_datetime(date)
    message["Message-ID"] = f"<{message_id}>"
    for name, value in (headers or {}).items():
        message[name] = value
    _set_bodies(message, text, html, attachments)
    mailboxes = [from_, *to, *cc, *reply_to]
    ascii_only = all(m.address.isascii() for m in mailboxes)
    return message.as_bytes(policy=SMTP if ascii_only else SMTPUTF8)


def _address(mailbox: Mailbox) -> Address:
    local, at, domain = mailbox.address.rpartition("@")
    if not at or not local or not domain:
        raise ValueError("an address needs a local part and a domain")
    return Address(mailbox.name, local.strip('"') if local.startswith('"') else local, domain)


def _set_bodies(message: EmailMessage, text: str | None, html: str | None, attachments: Sequence[Attachment]) -> None:
    if text is not None or html is None:
        message.set_content(text or "")
    if html is not None and text is None:
        message.set_content(html, subtype="html")
    elif html is not None:
        message.add_alternative(html, subtype="html")
    shown = [a for a in attachments if a.inline and a.content_id and html is not None]
    body = message.get_body(("html",)) if shown else None
    for item in attachments:
        _attach(body if body is not None and item in shown else message, item, related=item in shown)


def _attach(message: MIMEPart, item: Attachment, *, related: bool) -> None:
    main, _, sub = item.content_type.partition("/")
    if main in ("message", "multipart") or not sub:
        main, sub = "application", "octet-stream"
    add = message.add_related if related else message.add_attachment
    add(
        item.content,
        maintype=main,
        subtype=sub,
        filename=item.filename or None,
        cid=f"<{item.content_id}>" if item.content_id else None,
        disposition="inline" if item.inline else "attachment",
        params=dict(item.parameters) or None,
    )
