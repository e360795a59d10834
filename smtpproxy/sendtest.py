"""Sends one message through the listener by SMTP, as any application would, and tells what became of it."""

from __future__ import annotations

import mimetypes
import re
import smtplib
import ssl
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from delivery.mime.compose import compose
from delivery.models import ENDED_STATUSES, Message, MessageStatus
from providers.base import Attachment, Mailbox

TIMEOUT = 60  # seconds without an answer of the listener
_QUEUED_AS = re.compile(rb"queued as ([0-9a-f-]{36})")
_RESTING = {*ENDED_STATUSES, MessageStatus.HELD}


class NotSent(Exception):
    """The listener did not take the message; the text says why."""


@dataclass(frozen=True, slots=True)
class Door:
    """Where to hand the message in, and as whom. `tls` is `starttls`, `implicit` or `none`."""

    host: str
    port: int
    tls: str
    username: str
    password: str = field(repr=False)


def test_message(sender: str, recipients: Sequence[str], subject: str, files: Sequence[Path]) -> bytes:
    """The octets of a message with these files attached. Raises OSError for a file that cannot be read."""
    return compose(
        from_=Mailbox("", sender),
        to=[Mailbox("", recipient) for recipient in recipients],
        subject=subject,
        message_id=f"{uuid.uuid4()}@{sender.rpartition('@')[2]}",
        date=datetime.now(UTC),
        text="This message was sent by `manage.py sendtest`.\n",
        attachments=[_attachment(path) for path in files],
    )


def _attachment(path: Path) -> Attachment:
    guessed, encoding = mimetypes.guess_type(path.name)
    content_type = guessed if guessed and not encoding else "application/octet-stream"
    return Attachment(filename=path.name, content_type=content_type, content=path.read_bytes())


def send(door: Door, sender: str, recipients: Sequence[str], message: bytes) -> uuid.UUID:
    """Hand the message in and return the id it was accepted with. The listener's certificate is not checked.

    Raises NotSent with the listener's answer when it refuses any step or any recipient.
    """
    try:
        with _connect(door) as client:
            client.login(door.username, door.password)
            _expect(client.mail(sender, ["SMTPUTF8"] if _international(sender, *recipients) else []))
            for recipient in recipients:
                _expect(client.rcpt(recipient))
            accepted = _QUEUED_AS.search(_expect(client.data(message)))
    except (OSError, smtplib.SMTPException) as error:
        hint = "; is `make run` running?" if isinstance(error, ConnectionRefusedError) else ""
        raise NotSent(f"{door.host}:{door.port}: {error}{hint}") from error
    if accepted is None:
        raise NotSent("The listener accepted the message without naming an id; is it another server?")
    return uuid.UUID(accepted[1].decode())


def _connect(door: Door) -> smtplib.SMTP:
    unverified = ssl.create_default_context()
    unverified.check_hostname, unverified.verify_mode = False, ssl.CERT_NONE
    if door.tls == "implicit":
        return smtplib.SMTP_SSL(door.host, door.port, timeout=TIMEOUT, context=unverified)
    client = smtplib.SMTP(door.host, door.port, timeout=TIMEOUT)
    if door.tls == "starttls":
        client.starttls(context=unverified)
    return client


def _expect(answer: tuple[int, bytes]) -> bytes:
    code, text = answer
    if code != 250:
        raise NotSent(f"{code} {text.decode('utf-8', 'replace')}")
    return text


def _international(*addresses: str) -> bool:
    return not all(address.isascii() for address in addresses)


def outcome(message_id: uuid.UUID, wait: float) -> list[str]:
    """What became of the message, a line for it and one per recipient, once it rests or after `wait` seconds."""
    deadline = time.monotonic() + wait
    message = Message.objects.get(pk=message_id)
    while message.status not in _RESTING and time.monotonic() < deadline:
        time.sleep(0.1)
        message.refresh_from_db()
    reason = f" ({message.status_reason})" if message.status_reason else ""
    return [
        f"{message.status}{reason}",
        *(
            f"  {recipient.address}: {recipient.status} {recipient.error_text}".rstrip()
            for recipient in message.recipients.all()
        ),
    ]
