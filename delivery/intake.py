"""Acceptance: the only way a message comes in (ACC-1).

Check, bytes into the store, rows in one transaction, ring. A crash after the bytes leaves a body nobody refers to; a
crash after the rows leaves a message the sweeper finds. Nothing is answered before both are durable (ACC-2).
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from datetime import timedelta

import structlog
from django.conf import settings
from django.db import DatabaseError, OperationalError, connection, transaction
from django.utils import timezone

from accounts import changes, wall
from accounts.ids import uuid7
from accounts.models import Account
from delivery import events, policy, queues, quotas, receipts, ringing, rows, sizes, store
from delivery.admitted import Admitted
from delivery.exceptions import Deferred, NotAccepted, Rejected
from delivery.models import EventType, Message, MessageStatus, Recipient
from delivery.pressure import pressure
from delivery.submission import Accepted, Answer, Submission

log = structlog.get_logger(__name__)

FIRST_LOOK = timedelta(minutes=1)
"""A fresh row is not due for this long: its ring is under way (ACC-3)."""
ACCOUNT_SECONDS = 1.0
"""How long an account is remembered where no change is heard of (SMTP-5 asks for seconds)."""
MOST_ACCOUNTS = 10_000


_known_accounts: dict[uuid.UUID, tuple[Account, float, int]] = {}


_message = rows.Blank(
    Message,
    "id",
    "tenant_id",
    "account_id",
    "status",
    "source",
    "mail_from",
    "header_from",
    "subject",
    "message_id_header",
    "size",
    "recipient_count",
    "has_attachments",
    "smtputf8",
    "queue",
    "client_ip",
    "session_id",
    "accepted_at",
    "scheduled_at",
    "next_attempt_at",
)
_recipient = rows.Blank(Recipient, "id", "message_id", "address", "updated_at")


def accept(submissions: Sequence[Submission], *, within: float | None = None) -> list[Answer]:
    """Check, store, record and ring for messages that ended at the same moment; one answer each, in order.

    With `within` (seconds) nothing is committed later than that: who asks has given up by then (ACC-1).

    Blocks on disk, database and broker: call it from a thread that looks after its connection. Never raises for a
    single message's sake; an unforeseen error is a Deferred for every message it concerns.
    """
    answers: dict[int, Answer] = {}
    deadline = None if within is None else time.monotonic() + within
    try:
        # Whether there is room is a question about all tenants, and routes lead to the platform's providers as well.
        with wall.lifted():
            pressure.check()
            _accept(submissions, answers, deadline)
    except Deferred as refusal:
        return [refusal] * len(submissions)
    except Exception:
        log.exception("acceptance failed", messages=len(submissions))
    return [answers.get(id(submission)) or _our_failure() for submission in submissions]


def withdraw(message_id: uuid.UUID) -> bool:
    """Take back what was accepted too late for its client, who was told to send again; whether it was in time."""
    if not ringing.give_up([message_id]):
        return False
    quotas.withdrawn(message_id)
    return True


def size_refusal(account_id: uuid.UUID, size: int) -> Rejected | None:
    """Why a message of `size` octets would be refused for its size alone, whatever is in it (PRV-8); None when not.

    Blocks on the database: call it from a thread.
    """
    account = _accounts({account_id}).get(account_id)
    return None if account is None else sizes.refusal(account, size)


def _accept(submissions: Sequence[Submission], answers: dict[int, Answer], deadline: float | None) -> None:
    first, again = receipts.apart(submissions)
    fresh = receipts.answer_known(first, answers)
    with quotas.charged(_check(fresh, answers), answers) as admitted:
        stored = _store(admitted, answers)
        written = _write(stored, answers, deadline)
        for one in ringing.ring(written, answers):
            answers[id(one.submission)] = Accepted(one.message.pk, one.receipt)
    receipts.answer_again(again, answers)


def _our_failure() -> Deferred:
    return Deferred("Not accepted for a reason of our own; please try again.", code="internal", status="4.3.0")


def _check(submissions: Sequence[Submission], answers: dict[int, Answer]) -> list[Admitted]:
    accounts = _accounts({submission.account_id for submission in submissions})
    admitted = []
    for submission in submissions:
        try:
            headers = policy.admit(submission, accounts.get(submission.account_id))
        except NotAccepted as refusal:
            answers[id(submission)] = refusal
        except Exception:
            log.exception("check failed", message_id=str(submission.message_id))
        else:
            admitted.append(_rows(submission, accounts[submission.account_id], headers))
    return admitted


def _accounts(ids: set[uuid.UUID]) -> dict[uuid.UUID, Account]:
    """The accounts with their tenants, at most ACCOUNT_SECONDS old and not changed since."""
    # Several threads come here: single look-ups and stores only, never a walk over what another may be changing.
    now, mark = time.monotonic(), changes.mark()
    known = {id_: account for id_ in ids if (account := _known_account(id_, now))}
    if missing := ids - known.keys():
        if len(_known_accounts) > MOST_ACCOUNTS:
            _known_accounts.clear()
        for id_, account in Account.objects.select_related("tenant").in_bulk(missing).items():
            known[id_] = account
            _known_accounts[id_] = (account, now, mark)
    return known


def _known_account(id_: uuid.UUID, now: float) -> Account | None:
    account, read_at, mark = _known_accounts.get(id_, (None, 0.0, 0))
    if account is None or now - read_at >= ACCOUNT_SECONDS or changes.since(mark, id_, account.tenant_id):
        return None
    return account


def forget_accounts() -> None:
    """Read every account anew."""
    _known_accounts.clear()


def _rows(submission: Submission, account: Account, headers: policy.Headers) -> Admitted:
    now = timezone.now()
    addresses = list(dict.fromkeys(_spelling(address) for address in submission.recipients))
    scheduled = headers.send_at is not None and headers.send_at > now
    message = _message(
        submission.message_id,
        account.tenant_id,
        account.pk,
        MessageStatus.SCHEDULED if scheduled else MessageStatus.QUEUED,
        submission.source,
        submission.mail_from,
        headers.originators.from_[0][:320],
        headers.subject,
        headers.message_id,
        submission.body.size,
        len(addresses),
        headers.has_attachments,
        submission.smtputf8,
        queues.of(
            transactional=account.transactional,
            has_attachments=headers.has_attachments,
            size=submission.body.size,
            large_from=settings.QUEUE_LARGE_SIZE,
        ),
        submission.client_ip,
        submission.session_id,
        now,
        headers.send_at,
        headers.send_at if scheduled else now + FIRST_LOOK,
    )
    recipients = [_recipient(uuid7(), message.pk, address, now) for address in addresses]
    return Admitted(submission, account, message, recipients, receipts.new(submission))


def _spelling(address: str) -> str:
    """One spelling for one mailbox: domains know no case (RFC 5321 §2.4), local parts may."""
    local, at, domain = address.rpartition("@")
    return f"{local}{at}{domain.lower()}"


def _store(admitted: Sequence[Admitted], answers: dict[int, Answer]) -> list[Admitted]:
    keys = store.keys_for([(one.message.pk, one.submission.body.size) for one in admitted])
    for one, key in zip(admitted, keys, strict=True):
        one.message.store_key = key
    outcomes = store.put_many([(one.message.store_key, one.submission.body) for one in admitted])
    stored = []
    for one, problem in zip(admitted, outcomes, strict=True):
        if problem is None:
            stored.append(one)
            continue
        log.error("body not stored", message_id=str(one.message.pk), error=repr(problem))
        answers[id(one.submission)] = _our_failure()
    return stored


class _TooLate(Exception):
    """The rows would be committed after their clients have been told to send again."""


def _write(stored: list[Admitted], answers: dict[int, Answer], deadline: float | None) -> list[Admitted]:
    """Commit the rows; returns those that are committed, and takes the bodies of the others away again."""
    if not stored:
        return []
    repeats: dict[int, Answer] = {}
    link = connection.connection
    try:
        written = _insert(stored, repeats, deadline)
    except _TooLate:
        log.error("not accepted in time", messages=[str(one.message.pk) for one in stored])
        for one in stored:
            store.forget(one.message.store_key)
        return []
    except DatabaseError as error:
        if len(stored) > 1 and not isinstance(error, OperationalError):
            # One message's values must not cost the others their place.
            return [one for each in stored for one in _write([each], answers, deadline)]
        return _after_failed_commit(stored, answers, error, broken=connection.connection is not link)
    answers |= repeats
    for one in stored:
        if id(one.submission) in repeats:
            store.forget(one.message.store_key)
    return written


def _insert(stored: Sequence[Admitted], repeats: dict[int, Answer], deadline: float | None) -> list[Admitted]:
    with transaction.atomic():
        written = receipts.write(stored, repeats)
        rows.insert_all([one.message for one in written])
        rows.insert_all([recipient for one in written for recipient in one.recipients])
        events.record(
            events.about(
                one.message,
                EventType.RECEIVED,
                one.message.accepted_at,
                source=one.message.source,
                client_ip=one.message.client_ip,
                recipients=len(one.recipients),
            )
            for one in written
        )
        events.record(
            events.about(one.message, EventType.SCHEDULED, one.message.accepted_at, at=at.isoformat())
            for one in written
            if one.message.status == MessageStatus.SCHEDULED and (at := one.message.scheduled_at) is not None
        )
        if deadline is not None and time.monotonic() > deadline:
            raise _TooLate
    return written


def _after_failed_commit(
    stored: list[Admitted], answers: dict[int, Answer], error: Exception, *, broken: bool
) -> list[Admitted]:
    """A connection that broke in COMMIT may have committed: look before saying no (ACC-1).

    It may commit even after the look, so that its bodies stay: those without rows a consistency job removes (ACC-2).
    """
    ids = [one.message.pk for one in stored]
    log.error("rows not written", messages=[str(id_) for id_ in ids], error=f"{type(error).__name__}: {error}")
    if not connection.in_atomic_block:
        connection.close_if_unusable_or_obsolete()
    try:
        committed = set(Message.objects.filter(pk__in=ids).values_list("pk", flat=True))
    except DatabaseError:
        # Unknown. Bodies stay, so that a row which did get through has its content.
        log.exception("cannot tell whether rows were written", messages=[str(id_) for id_ in ids])
        return []
    for one in stored:
        if one.message.pk not in committed:
            if not broken:
                store.forget(one.message.store_key)
            answers[id(one.submission)] = _our_failure()
    return [one for one in stored if one.message.pk in committed]
