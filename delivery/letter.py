"""A message that comes as fields, and is written here: for the doors that take JSON (AMQP-1, API-2)."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from accounts.domains import canonical
from delivery import mime
from delivery.exceptions import Rejected
from delivery.mime.compose import Item
from delivery.spool import Spool
from delivery.submission import Submission
from providers.base import Mailbox


@dataclass(frozen=True, slots=True, kw_only=True)
class Letter:
    """What a sender wants to say, to whom. `bcc` are in the envelope only. Addresses have been checked."""

    from_: Mailbox
    to: Sequence[Mailbox] = ()
    cc: Sequence[Mailbox] = ()
    bcc: Sequence[Mailbox] = ()
    reply_to: Sequence[Mailbox] = ()
    subject: str = ""
    text: str | None = None
    html: str | None = None
    attachments: Sequence[Item] = ()
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def recipients(self) -> list[str]:
        return [mailbox.address for mailbox in (*self.to, *self.cc, *self.bcc)]

    @property
    def international(self) -> bool:
        """Whether it can only go where SMTPUTF8 is spoken (RFC 6531)."""
        everybody = (self.from_, *self.to, *self.cc, *self.bcc, *self.reply_to)
        return not all(mailbox.address.isascii() for mailbox in everybody)


@dataclass(frozen=True, slots=True)
class Limits:
    """How large a letter may become; above `spool_threshold` octets it is written to a file in `spool_path`."""

    max_message_size: int
    max_recipients: int
    spool_threshold: int
    spool_path: str

    @classmethod
    def of(cls, smtp: Mapping[str, Any]) -> Limits:
        """The SMTP listener's: a message is no smaller for having come through another door."""
        names = ("MAX_MESSAGE_SIZE", "MAX_RECIPIENTS", "SPOOL_THRESHOLD", "SPOOL_PATH")
        return cls(*(smtp[name] for name in names))

    def spool(self) -> Spool:
        return Spool(self.spool_threshold, self.spool_path)

    def check_size(self, octets: int) -> None:
        """Raises Rejected."""
        if octets > self.max_message_size:
            text = f"The message is larger than {self.max_message_size:,} octets."
            raise Rejected(text, code="too_large", status="5.3.4")


def submit(
    letter: Letter,
    limits: Limits,
    *,
    message_id: uuid.UUID,
    account_id: uuid.UUID,
    source: str,
    received_at: datetime,
    **besides: Any,
) -> Submission:
    """Write a letter and make it ready for acceptance; `besides` are further fields of the Submission.

    Its body is a Spool, which whoever hands it over closes. Raises Rejected when it cannot be written, and OSError.
    """
    if not letter.recipients:
        raise Rejected("The message has no recipients.", code="no_recipients", status="5.5.1")
    if len(letter.recipients) > limits.max_recipients:
        text = f"The message has more than {limits.max_recipients:,} recipients."
        raise Rejected(text, code="too_many_recipients", status="5.5.3")
    body = limits.spool()
    try:
        _write(letter, limits, body, message_id, received_at)
    except ValueError as error:
        body.close()
        raise Rejected(f"The message cannot be written: {error}.", code="bad_field", status="5.6.0") from error
    except BaseException:
        body.close()
        raise
    return Submission(
        message_id=message_id,
        account_id=account_id,
        source=source,
        mail_from=letter.from_.address,
        recipients=letter.recipients,
        body=body,
        received_at=received_at,
        smtputf8=letter.international,
        **besides,
    )


def _write(letter: Letter, limits: Limits, body: Spool, message_id: uuid.UUID, date: datetime) -> None:
    for piece in mime.pieces(
        from_=letter.from_,
        to=letter.to,
        cc=letter.cc,
        reply_to=letter.reply_to,
        subject=letter.subject,
        message_id=f"{message_id}@{_host(letter.from_)}",
        date=date,
        text=letter.text,
        html=letter.html,
        attachments=letter.attachments,
        headers=letter.headers,
    ):
        body.write(piece)
        limits.check_size(body.size)
        if body.overfull:
            body.spill()
    if body.on_disk:
        body.spill()


def _host(mailbox: Mailbox) -> str:
    """The right side of a Message-ID: the sender's domain, in ASCII."""
    domain = mailbox.address.rpartition("@")[2]
    return domain if domain.startswith("[") else canonical(domain)
