"""Writing down what a step of a delivery has changed, in one transaction (DEL-4)."""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field

import structlog
from django.db import InterfaceError, OperationalError, connection, transaction

from delivery import events, rows
from delivery.attempts import Call, Job
from delivery.models import DeliveryLog, Event, Message, MessageStatus, Recipient, RecipientStatus
from delivery.outcome import Work, conclude, put_off

log = structlog.get_logger(__name__)

WAITS = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
"""Seconds before each further try to write: what a provider has said must not be lost to a database that restarts."""

_ATTEMPT = ("status", "results", "provider_message_id", "response_code", "error_code", "error_text", "duration_ms")
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
    """One step: attempts to begin, attempts that have come back, and messages that are done with."""

    calls: list[tuple[Work, Job, Call]] = field(default_factory=list)
    finished: list[DeliveryLog] = field(default_factory=list)
    under_way: list[Work] = field(default_factory=list)
    recipients: list[Recipient] = field(default_factory=list)
    concluded: list[tuple[Work, uuid.UUID | None, Event]] = field(default_factory=list)
    lost: list[Work] = field(default_factory=list)

    def conclude(self, work: Work) -> None:
        """The message has no call open any more: work out its status and write it with this page."""
        lease = work.message.lease
        try:
            event = conclude(work)
        except Exception:
            # One message's trouble must not cost its neighbours what their providers have said.
            log.exception("outcome not concluded", message_id=str(work.message.pk))
            event = put_off(work)
        self.concluded.append((work, lease, event))

    def write(self) -> None:
        """Commit the page; afterwards `calls` holds those that may be made, and `lost` the work of those that may not.

        What providers have said is written whoever holds the message now; its status and further calls only while the
        lease is still ours. Written again after a connection that broke in COMMIT, a page changes nothing twice.
        """
        if not (self.calls or self.finished or self.concluded):
            return
        for pause in (*WAITS, None):
            try:
                with transaction.atomic():
                    held = self._held()
                    self._write(held)
            except (OperationalError, InterfaceError) as error:
                if pause is None:
                    raise
                log.error("outcome not written, trying again", error=f"{type(error).__name__}: {error}")
                connection.close()
                time.sleep(pause)
            else:
                break
        self.lost = [work for work, _, _ in self.calls if work.message.pk not in held]
        self.calls = [begun for begun in self.calls if begun[0].message.pk in held]
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
        rows.update_each(list(finished.values()), (*_ATTEMPT, "finished_at"))
        rows.update_each(list(recipients.values()), _RECIPIENT)
        rows.update_each([work.message for work, _ in concluded], _MESSAGE)
        events.record(event for _, event in concluded)


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
