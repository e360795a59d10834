"""Whether a submission may come in (ACC-1): one small function a rule, rejecting before deferring."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from django.utils import timezone

from accounts.identity import Identity, identity_of, sender_allowed
from accounts.models import Account, Tenant
from delivery import mime, schedule, sizes
from delivery.exceptions import Rejected
from delivery.submission import Submission


@dataclass(frozen=True, slots=True)
class Headers:
    """What acceptance reads from a message; the rest is left to the worker. `send_at` is None for at once."""

    originators: mime.Originators
    subject: str
    message_id: str
    has_attachments: bool
    send_at: datetime | None


def admit(submission: Submission, account: Account | None) -> Headers:
    """Apply every rule to one submission; raises Rejected or Deferred with the first that says no."""
    if account is None:
        raise Rejected("The account does not exist any more.", code="unknown_account", status="5.7.1")
    check_active(account)
    identity = identity_of(account)
    check_recipients(submission)
    check_size(submission, account)
    check_envelope_sender(submission, identity)
    headers = read_headers(submission)
    check_header_senders(headers, identity)
    return headers


def check_active(account: Account) -> None:
    """The account or its tenant may have been suspended since the client signed in (SMTP-4)."""
    if account.status != Account.Status.ACTIVE or account.tenant.status != Tenant.Status.ACTIVE:
        raise Rejected("This account is suspended.", code="suspended", status="5.7.1")


def check_recipients(submission: Submission) -> None:
    if not submission.recipients:
        raise Rejected("The message has no recipients.", code="no_recipients", status="5.5.1")


def check_size(submission: Submission, account: Account) -> None:
    """PRV-8: what no provider of the account can take is refused at the door."""
    refusal = sizes.refusal(account, submission.body.size)
    if refusal is not None:
        raise refusal


def check_envelope_sender(submission: Submission, identity: Identity) -> None:
    """SMTP-6: the reverse-path must be of a domain the account may send from."""
    if not sender_allowed(identity, submission.mail_from):
        who = submission.mail_from or "the empty sender"
        raise Rejected(f"This account may not send as {who}.", code="sender_not_allowed", status="5.7.1")


def check_header_senders(headers: Headers, identity: Identity) -> None:
    """SMTP-6: the same for every address in From and Sender, as any reader may understand them."""
    who = headers.originators
    if not who.from_:
        raise Rejected("The From header has no address that can be read.", code="no_from", status="5.6.0")
    if who.doubts:
        text = f"From or Sender cannot be read with certainty: {who.doubts[0]}."
        raise Rejected(text, code="doubtful_from", status="5.6.0")
    for address in (*who.from_, *who.sender):
        if not sender_allowed(identity, address):
            raise Rejected(
                f"This account may not send with {address} in From or Sender.",
                code="header_sender_not_allowed",
                status="5.7.1",
            )


def read_headers(submission: Submission) -> Headers:
    """The few headers that acceptance needs. Raises Rejected for a message that says when to send it, and says so in
    a way that cannot be followed (DEL-11); for nothing else, whatever it looks like."""
    raw = submission.body.header_block()
    block = mime.read_header(raw)
    values = mime.first_values(block, ("subject", "message-id", "content-type"))
    return Headers(
        originators=mime.originators(raw, block),
        subject=_fit(values["subject"], 500),
        message_id=_fit(values["message-id"], 500),
        has_attachments=mime.is_multipart(values["content-type"]),
        send_at=_send_at(submission, block),
    )


def _send_at(submission: Submission, block: mime.HeaderBlock) -> datetime | None:
    values = mime.values_of(block, schedule.HEADER.lower())
    if not values and submission.scheduled_at is None:
        return None
    return schedule.send_at(values, submission.scheduled_at, timezone.now())


def _fit(value: str, length: int) -> str:
    # PostgreSQL takes no NUL in text.
    return value.replace("\x00", "").strip()[:length]
