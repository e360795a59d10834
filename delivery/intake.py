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

from accounts.ids import uuid7
from accounts.models import Account
from delivery import events, policy, queue, quotas, rows, sizes, store
from delivery.admitted import Admitted
from delivery.exceptions import Deferred, NotAccepted, Rejected, StoreUnavailable
from delivery.models import EventType, Message, MessageStatus, Recipient
from delivery.pressure import pressure
from delivery.submission import Accepted, Answer, Submission

log = structlog.get_logger(__name__)

FIRST_LOOK = timedelta(minutes=1)
"""A fresh row is not due for this long: its ring is under way (ACC-3)."""
RING_WAITS = (0.5, 1.0, 2.0)
ACCOUNT_SECONDS = 1.0
"""How long an account is remembered; a suspension counts after that at the latest (SMTP-5 asks for seconds)."""
MOST_ACCOUNTS = 10_000

_known_accounts: dict[uuid.UUID, tuple[Account, float]] = {}


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
        pressure.check()
        _accept(submissions, answers, deadline)
    except Deferred as refusal:
        return [refusal] * len(submissions)
    except Exception:
        log.exception("acceptance failed", messages=len(submissions))
    return [answers.get(id(submission)) or _our_failure() for submission in submissions]


def withdraw(message_id: uuid.UUID) -> bool:
    """Take back what was accepted too late for its client, who was told to send again; whether it was in time."""
    if not _give_up([message_id]):
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
    with quotas.charged(_check(submissions, answers), answers) as admitted:
        stored = _store(admitted, answers)
        written = _write(stored, answers, deadline)
        for one in _ring(written, answers):
            answers[id(one.submission)] = Accepted(one.message.pk)


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
    """The accounts with their tenants, at most ACCOUNT_SECONDS old."""
    # Several threads come here: single look-ups and stores only, never a walk over what another may be changing.
    now = time.monotonic()
    entries = {id_: entry for id_ in ids if (entry := _known_accounts.get(id_)) and now - entry[1] < ACCOUNT_SECONDS}
    known = {id_: account for id_, (account, _) in entries.items()}
    if missing := ids - known.keys():
        if len(_known_accounts) > MOST_ACCOUNTS:
            _known_accounts.clear()
        for id_, account in Account.objects.select_related("tenant").in_bulk(missing).items():
            known[id_] = account
            _known_accounts[id_] = (account, now)
    return known


def forget_accounts() -> None:
    """Read every account anew."""
    _known_accounts.clear()


def _rows(submission: Submission, account: Account, headers: policy.Headers) -> Admitted:
    now = timezone.now()
    addresses = list(dict.fromkeys(_spelling(address) for address in submission.recipients))
    scheduled = submission.scheduled_at is not None and submission.scheduled_at > now
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
        submission.client_ip,
        submission.session_id,
        now,
        submission.scheduled_at,
        submission.scheduled_at if scheduled else now + FIRST_LOOK,
    )
    recipients = [_recipient(uuid7(), message.pk, address, now) for address in addresses]
    return Admitted(submission, account, message, recipients)


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
    try:
        _insert(stored, deadline)
    except _TooLate:
        log.error("not accepted in time", messages=[str(one.message.pk) for one in stored])
        for one in stored:
            _forget_body(one.message.store_key)
        return []
    except DatabaseError as error:
        if len(stored) > 1 and not isinstance(error, OperationalError):
            # One message's values must not cost the others their place.
            return [one for each in stored for one in _write([each], answers, deadline)]
        return _after_failed_commit(stored, answers, error)
    return stored


def _insert(stored: Sequence[Admitted], deadline: float | None) -> None:
    with transaction.atomic():
        rows.insert_all([one.message for one in stored])
        rows.insert_all([recipient for one in stored for recipient in one.recipients])
        events.record(
            events.about(
                one.message,
                EventType.RECEIVED,
                one.message.accepted_at,
                source=one.message.source,
                client_ip=one.message.client_ip,
                recipients=len(one.recipients),
            )
            for one in stored
        )
        if deadline is not None and time.monotonic() > deadline:
            raise _TooLate


def _after_failed_commit(stored: list[Admitted], answers: dict[int, Answer], error: Exception) -> list[Admitted]:
    """A connection that broke in COMMIT may have committed: look before saying no (ACC-1)."""
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
            _forget_body(one.message.store_key)
            answers[id(one.submission)] = _our_failure()
    return [one for one in stored if one.message.pk in committed]


def _forget_body(key: str) -> None:
    try:
        store.delete(key)
    except StoreUnavailable as error:
        log.warning("unreferenced body left", key=key, error=str(error))


def _ring(written: list[Admitted], answers: dict[int, Answer]) -> list[Admitted]:
    """Ring for what is to be looked at now; returns what is accepted (ACC-3)."""
    fresh = [one for one in written if one.message.status == MessageStatus.QUEUED]
    if not fresh or _rung([one.message for one in fresh]):
        return written
    if settings.ENQUEUE_FAILURE == "accept":
        return written
    ids = [one.message.pk for one in fresh]
    try:
        given_up = _give_up(ids)
    except DatabaseError:
        # The rows are committed and fall due by themselves: what was promised will be kept.
        log.exception("cannot mark as enqueue_failed; left to the sweeper", messages=[str(id_) for id_ in ids])
        return written
    for one in fresh:
        if one.message.pk in given_up:
            answers[id(one.submission)] = Deferred(
                "The message could not be queued; please try again.", code="enqueue_failed", status="4.3.0"
            )
    return [one for one in written if one.message.pk not in given_up]


def _rung(messages: Sequence[Message]) -> bool:
    started = time.monotonic()
    ids = [message.pk for message in messages]
    for attempt, wait in enumerate((*RING_WAITS, None), 1):
        try:
            queue.ring(ids)
        except queue.RingFailed as error:
            for id_ in ids:
                log.warning(
                    "ring failed",
                    message_id=str(id_),
                    attempt=attempt,
                    elapsed_ms=round((time.monotonic() - started) * 1000),
                    error=str(error),
                )
        else:
            return True
        if wait is not None:
            time.sleep(wait)
    return False


def _give_up(ids: Sequence[uuid.UUID]) -> set[uuid.UUID]:
    """Mark as `enqueue_failed` what no worker has claimed meanwhile; the client is told to send again."""
    now = timezone.now()
    with transaction.atomic():
        waiting = list(
            Message.objects.select_for_update().filter(pk__in=ids, status=MessageStatus.QUEUED).order_by("pk")
        )
        keys = [message.pk for message in waiting]
        Message.objects.filter(pk__in=keys, status=MessageStatus.QUEUED).update(
            status=MessageStatus.ENQUEUE_FAILED,
            status_reason="The broker did not take the ring; the client was told to send again.",
            next_attempt_at=None,
            finished_at=now,
        )
        events.record(events.about(message, EventType.DEAD_LETTER, now, reason="enqueue_failed") for message in waiting)
    return set(keys)
