"""What an operator may do with messages: hold, release, retry now, cancel (DEL-9).

The admin, the commands and the API call these and never set a status themselves. A message that a worker is sending
at this moment is refused: its outcome decides.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import structlog
from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from accounts.models import User
from delivery import events, queue
from delivery.exceptions import ControlRefused
from delivery.models import DEAD_LETTERS, PENDING_STATUSES, EventType, Message, MessageStatus, RecipientStatus
from delivery.suppressions import SUPPRESSED

log = structlog.get_logger(__name__)

PAGE = 500
WAITING = (MessageStatus.QUEUED, MessageStatus.RETRYING, MessageStatus.SCHEDULED)


@dataclass(slots=True)
class Outcome:
    """How many messages an action changed, and those it did not, with the reason."""

    changed: int = 0
    refused: dict[uuid.UUID, str] = field(default_factory=dict)


def hold(ids: Iterable[uuid.UUID], *, actor: User | None, reason: str = "") -> Outcome:
    """Park waiting messages (queued, retrying, scheduled) until somebody releases them."""

    def apply(message: Message, _now: datetime) -> EventType:
        _expect(message, WAITING)
        message.status, message.next_attempt_at = MessageStatus.HELD, None
        message.status_reason = reason or f"Held by {_name(actor)}."
        return EventType.HELD

    return _each(ids, actor, apply)


def release(ids: Iterable[uuid.UUID], *, actor: User | None) -> Outcome:
    """Queue held messages and `enqueue_failed` ones now; rules no longer hold them.

    Recipients whose last answer was lost are sent to again: that is what releasing them means.
    """

    def apply(message: Message, now: datetime) -> EventType:
        _expect(message, (MessageStatus.HELD, MessageStatus.ENQUEUE_FAILED))
        message.released = True
        _queue(message, now)
        message.recipients.filter(status=RecipientStatus.UNKNOWN).update(status=RecipientStatus.PENDING, updated_at=now)
        return EventType.RELEASED

    return _each(ids, actor, apply, ring=True)


def retry(ids: Iterable[uuid.UUID], *, actor: User | None) -> Outcome:
    """Try now: retrying messages, and failed, partial and dead-lettered ones with the retry counter reset.

    Recipients that failed are tried again, and those skipped as suppressed, in case they no longer are; those already
    served stay served.
    """

    def apply(message: Message, now: datetime) -> EventType:
        _expect(message, (MessageStatus.RETRYING, MessageStatus.FAILED, MessageStatus.PARTIAL, *DEAD_LETTERS))
        if message.status != MessageStatus.RETRYING:
            skipped = Q(status=RecipientStatus.SUPPRESSED, error_code=SUPPRESSED)
            message.recipients.filter(Q(status=RecipientStatus.FAILED) | skipped).update(
                status=RecipientStatus.PENDING, error_code="", error_text="", delivered_at=None, updated_at=now
            )
            message.tries = 0
        _queue(message, now)
        return EventType.RELEASED

    return _each(ids, actor, apply, ring=True)


def cancel(ids: Iterable[uuid.UUID], *, actor: User | None) -> Outcome:
    """End messages that wait or are held; recipients already served stay served, the others have failed."""

    def apply(message: Message, now: datetime) -> EventType:
        _expect(message, (*WAITING, MessageStatus.HELD))
        message.status, message.next_attempt_at, message.finished_at = MessageStatus.CANCELLED, None, now
        message.status_reason = f"Cancelled by {_name(actor)}."
        message.recipients.filter(status__in=PENDING_STATUSES).update(
            status=RecipientStatus.FAILED, error_code="cancelled", error_text=message.status_reason, updated_at=now
        )
        return EventType.CANCELLED

    return _each(ids, actor, apply)


def _name(actor: User | None) -> str:
    """Who acted, as the tenant may read it; which operator it was is in the audit."""
    if actor is None:
        return "the system"
    return "the platform operator" if actor.is_superuser else actor.email


def _expect(message: Message, statuses: Collection[str]) -> None:
    if message.status not in statuses:
        raise ControlRefused(f"The message is {message.status}.")


def _queue(message: Message, now: datetime) -> None:
    """Due now: the ring follows the commit, and the sweeper finds what it misses."""
    message.status, message.status_reason = MessageStatus.QUEUED, ""
    message.next_attempt_at, message.rung_at, message.finished_at = now, None, None
    message.claims = 0


def _each(
    ids: Iterable[uuid.UUID],
    actor: User | None,
    apply: Callable[[Message, datetime], EventType],
    *,
    ring: bool = False,
) -> Outcome:
    """Apply an action to messages page by page, each page in one transaction with its events."""
    outcome = Outcome()
    for page in queue.pages(ids, PAGE):
        changed: list[uuid.UUID] = []
        with transaction.atomic():
            now = timezone.now()
            found = Message.objects.select_for_update().filter(pk__in=page).order_by("pk")
            done: list[Any] = []
            for message in found:
                try:
                    type_ = apply(message, now)
                except ControlRefused as refusal:
                    outcome.refused[message.pk] = str(refusal)
                    continue
                message.save()
                changed.append(message.pk)
                done.append(events.about(message, type_, now, by=_name(actor), reason=message.status_reason))
            events.record(done)
        missing = set(page) - set(changed) - set(outcome.refused)
        outcome.refused |= dict.fromkeys(missing, "There is no such message.")
        outcome.changed += len(changed)
        log.info("messages changed", by=_name(actor), messages=[str(id_) for id_ in changed])
        if ring and changed:
            transaction.on_commit(lambda ids=tuple(changed): _ring(ids), robust=True)  # type: ignore[misc]
    return outcome


def _ring(ids: tuple[uuid.UUID, ...]) -> None:
    try:
        queue.ring(ids)
    except queue.RingFailed as error:
        log.warning("ring failed; left to the sweeper", messages=len(ids), error=str(error))
