"""Writing down what a step of a delivery has changed, in one transaction (DEL-4)."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import structlog
from django.conf import settings
from django.db import InterfaceError, OperationalError, connection, transaction
from django.utils import timezone

from delivery import archive, events, notices, outbox, precedence, progress, rows
from delivery.jobs import Call, Job, Work
from delivery.models import DeliveryLog, Event, Message, MessageStatus, Recipient, RecipientStatus
from delivery.outcome import conclude, put_off

log = structlog.get_logger(__name__)

PATIENCE = 0.75
"""The part of a lease for which an outcome is tried to be written; the task's time limit comes soon after. A page that
only begins calls is given up ten times sooner."""
LONGEST_PAUSE = 10.0
"""Seconds between two tries to write while the database is away, at most."""
MOST_REASONS = 20
"""Different errors that the event of a dead letter tells of."""

_ATTEMPT = (
    "provider",
    "status",
    "results",
    "provider_message_id",
    "response_code",
    "error_code",
    "error_text",
    "duration_ms",
)
_RECIPIENT = ("status", "provider", "provider_message_id", "error_code", "error_text", "delivered_at", "updated_at")
_MESSAGE = (
    "status",
    "status_reason",
    "next_attempt_at",
    "lease",
    "rung_at",
    "claims",
    "tries",
    "attempts",
    "finished_at",
)


@dataclass(slots=True)
class Page:
    """One step: attempts to begin, attempts that have come back, messages that are done with, and attempts whose
    progress nobody needs any more."""

    calls: list[tuple[Work, Job, Call]] = field(default_factory=list)
    finished: list[DeliveryLog] = field(default_factory=list)
    under_way: list[Work] = field(default_factory=list)
    recipients: list[Recipient] = field(default_factory=list)
    concluded: list[tuple[Work, uuid.UUID | None, Event | None]] = field(default_factory=list)
    lost: list[Work] = field(default_factory=list)
    given_up: list[DeliveryLog] = field(default_factory=list)

    def conclude(self, work: Work) -> None:
        """The message has no call open any more: work out its status and write it with this page."""
        lease = work.message.lease
        event: Event | None
        try:
            event = conclude(work)
        except Exception:
            # One message's trouble must not cost its neighbours what their providers have said.
            log.exception("outcome not concluded", message_id=str(work.message.pk))
            event = put_off(work)
        self.concluded.append((work, lease, event))
        self.given_up += progress.no_longer_needed([*work.claimed.unfinished, *work.resumable], work.claimed.recipients)

    def write(self) -> None:
        """Commit the page; afterwards `calls` holds those that may be made, and `lost` the work of those that may not.

        What providers have said is written whoever holds the message now; its status and further calls only while the
        lease is still ours. Written again after a connection that broke in COMMIT, a page changes nothing twice.
        """
        if not (self.calls or self.finished or self.concluded):
            return
        deadline = time.monotonic() + settings.DELIVERY_LEASE * (PATIENCE if self.finished else PATIENCE / 10)
        pause = 0.1
        while True:
            try:
                with transaction.atomic():
                    held = self._held()
                    self._write(held)
                break
            except (OperationalError, InterfaceError) as error:
                # What providers have said must not be lost to a database that restarts.
                if time.monotonic() + pause > deadline:
                    raise
                log.error("outcome not written, trying again", error=f"{type(error).__name__}: {error}")
                connection.close()
                time.sleep(pause)
                pause = min(pause * 2, LONGEST_PAUSE)
            except Exception:
                log.exception("step not written as a whole")
                self._write_apart()
                return
        self.given_up = [attempt for attempt in self.given_up if attempt.message_id in held]
        self.lost = [work for work, _, _ in self.calls if work.message.pk not in held]
        self.calls = [begun for begun in self.calls if begun[0].message.pk in held]
        _announce([work for work, _, _ in self.concluded if work.message.pk in held])

    def _write_apart(self) -> None:
        """Message by message, so that one which the database refuses costs its neighbours nothing."""
        parts: dict[uuid.UUID, Page] = {}
        for begun in self.calls:
            parts.setdefault(begun[0].message.pk, Page()).calls.append(begun)
        for work in self.under_way:
            parts.setdefault(work.message.pk, Page()).under_way.append(work)
        for done in self.concluded:
            parts.setdefault(done[0].message.pk, Page()).concluded.append(done)
        for attempt in self.finished:
            parts.setdefault(attempt.message_id, Page()).finished.append(attempt)
        for recipient in self.recipients:
            parts.setdefault(recipient.message_id, Page()).recipients.append(recipient)
        for attempt in self.given_up:
            parts.setdefault(attempt.message_id, Page()).given_up.append(attempt)
        self.calls, self.lost, self.given_up = [], [], []
        for message_id, part in parts.items():
            if len(parts) > 1:
                part.write()
            else:
                part._write_without_provider(message_id)
            self.calls.extend(part.calls)
            self.lost.extend(part.lost)
            self.given_up.extend(part.given_up)

    def _write_without_provider(self, message_id: uuid.UUID) -> None:
        """The last try for one message: its provider may have been deleted while it was called. When that was not it,
        the attempt stays `sending`, which the next claim finds (DEL-5)."""
        attempts = [*self.finished, *(call.attempt for _, _, call in self.calls)]
        attempts += [job.last.attempt for work, _, _ in self.concluded for job in work.jobs if job.last is not None]
        for attempt in attempts:
            attempt.provider_id = None
        recipients = [*self.recipients, *(r for work, _, _ in self.concluded for r in work.claimed.pending)]
        for recipient in recipients:
            recipient.provider_id = None
        try:
            with transaction.atomic():
                held = self._held()
                self._write(held)
        except Exception:
            log.exception("outcome not written", message_id=str(message_id))
            held = set()
        self.lost = [work for work, _, _ in self.calls]
        self.calls, self.given_up = [], []
        _announce([work for work, _, _ in self.concluded if work.message.pk in held])

    def _held(self) -> set[uuid.UUID]:
        leases = {work.message.pk: work.message.lease for work in self.under_way}
        leases |= {work.message.pk: work.message.lease for work, _, _ in self.calls}
        leases |= {work.message.pk: lease for work, lease, _ in self.concluded}
        held = (
            Message.objects.select_for_update()
            .filter(pk__in=leases, status=MessageStatus.PROCESSING)
            .order_by("pk")
            .values_list("pk", "lease")
        )
        return {pk for pk, lease in held if lease == leases[pk]}

    def _write(self, held: set[uuid.UUID]) -> None:
        concluded = [(work, event) for work, _, event in self.concluded if work.message.pk in held]
        begun = [call.attempt for work, _, call in self.calls if work.message.pk in held]
        finished = {attempt.pk: attempt for attempt in self.finished}
        recipients = {recipient.pk: recipient for recipient in self.recipients}
        for work, _, _ in self.concluded:
            finished |= {job.last.attempt.pk: job.last.attempt for job in work.jobs if job.last is not None}
            recipients |= {recipient.pk: recipient for recipient in work.claimed.pending}
        for pk, recipient in list(recipients.items()):
            # Of a message that another worker holds, only what is certain: it may know better of the rest.
            if recipient.message_id not in held and recipient.status != RecipientStatus.DELIVERED:
                del recipients[pk]
        DeliveryLog.objects.bulk_create(begun, ignore_conflicts=True)
        taken_over = [call.continues.pk for work, _, call in self.calls if call.continues and work.message.pk in held]
        over = taken_over + [attempt.pk for attempt in self.given_up if attempt.message_id in held]
        if over:
            DeliveryLog.objects.filter(pk__in=over).update(progress=None)
        rows.update_each(list(finished.values()), (*_ATTEMPT, "finished_at"))
        rows.update_each(list(recipients.values()), _RECIPIENT, unless=precedence.TOLD)
        rows.update_each([work.message for work, _ in concluded], _MESSAGE)
        _tell_every_reason(event for work, event in concluded if event and work.message.status == MessageStatus.DLQ)
        events.record(event for work, _ in concluded for event in work.events)
        events.record(event for _, event in concluded if event is not None)
        outbox.add_attempts(self.finished)
        works = [*self.under_way, *(work for work, _, _ in self.concluded)]
        archive.want(self.finished, {work.message.pk: work.message for work in works})
        _note([work for work, _ in concluded])


def _tell_every_reason(dead: Iterable[Event]) -> None:
    """What was wrong with each attempt of these dead letters, oldest first and each once (RET-3)."""
    by_message = {event.message_id: event for event in dead}
    if not by_message:
        return
    found: dict[uuid.UUID, dict[str, None]] = {}
    failed = DeliveryLog.objects.filter(message__in=by_message).exclude(error_text="").order_by("pk")
    for message_id, text in failed.values_list("message_id", "error_text"):
        found.setdefault(message_id, {})[text] = None
    for message_id, texts in found.items():
        by_message[message_id].data["errors"] = list(texts)[:MOST_REASONS]


def _note(concluded: Sequence[Work]) -> None:
    """Somebody is told of what has failed for good, and of what is held though nobody asked for that."""
    now = timezone.now()
    failed = [work.message.pk for work in concluded if _has_failed(work)]
    notices.note(failed, now)
    notices.alarm([work.message for work in concluded if _is_stuck(work)], now)


def _has_failed(work: Work) -> bool:
    return work.message.status == MessageStatus.DLQ or any(map(notices.has_failed, work.claimed.recipients))


def _is_stuck(work: Work) -> bool:
    return work.message.status == MessageStatus.HELD and work.message.status_reason != work.held_by_rule


def _announce(concluded: Sequence[Work]) -> None:
    for work in concluded:
        message = work.message
        level = {MessageStatus.DELIVERED: log.info, MessageStatus.FAILED: log.error}.get(
            MessageStatus(message.status), log.warning
        )
        level(
            "message",
            status=str(message.status),
            message_id=str(message.pk),
            tenant_id=str(message.tenant_id),
            account_id=str(message.account_id),
            reason=message.status_reason,
            tries=message.tries,
            next_attempt_at=message.next_attempt_at,
        )


def log_attempt(work: Work, job: Job, call: Call) -> None:
    """One line for a call that has come back (OBS-1)."""
    attempt = call.attempt
    level = {"delivered": log.info, "failed": log.error}.get(attempt.status, log.warning)
    level(
        "attempt",
        status=str(attempt.status),
        message_id=str(work.message.pk),
        tenant_id=str(work.message.tenant_id),
        account_id=str(work.message.account_id),
        session_id=work.message.session_id,
        attempt_id=str(attempt.pk),
        attempt=attempt.attempt_number,
        provider=attempt.provider_name,
        provider_type=attempt.provider_type,
        provider_message_id=attempt.provider_message_id,
        recipients=len(job.recipients),
        response_code=attempt.response_code,
        error_code=attempt.error_code,
        error=attempt.error_text,
        duration_ms=attempt.duration_ms,
    )
