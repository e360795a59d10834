"""The last step of acceptance: the broker is rung for what was committed, and what nobody could ring for is given up
where its client can send it again (ACC-3). Part of `delivery.intake`, which alone calls it.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence

import structlog
from django.conf import settings
from django.db import DatabaseError, transaction
from django.utils import timezone

from delivery import events, queue, receipts
from delivery.admitted import Admitted
from delivery.exceptions import Deferred
from delivery.metrics import DEAD_LETTERS
from delivery.models import EventType, Message, MessageStatus
from delivery.submission import Answer

log = structlog.get_logger(__name__)

RING_WAITS = (0.5, 1.0, 2.0)
_UNCLAIMED = (MessageStatus.QUEUED, MessageStatus.SCHEDULED)


def ring(written: list[Admitted], answers: dict[int, Answer]) -> list[Admitted]:
    """Ring for what is to be looked at now; returns what is accepted (ACC-3).

    What RabbitMQ has brought is accepted without a ring: nobody there can be told to send again, and giving up each
    time it is brought again would leave a dead letter each time.
    """
    fresh = [one for one in written if one.message.status == MessageStatus.QUEUED]
    unrung = set(_unrung([one.message for one in fresh]))
    if settings.ENQUEUE_FAILURE == "accept":
        return written
    fresh = [one for one in fresh if one.message.pk in unrung and one.message.source != Message.Source.AMQP]
    if not fresh:
        return written
    ids = [one.message.pk for one in fresh]
    try:
        given_up = _give_up_with_receipts(fresh)
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


def _unrung(messages: Sequence[Message]) -> list[uuid.UUID]:
    """Ring once for each queue they belong to, a few times over; returns those the broker did not take."""
    started = time.monotonic()
    left: dict[str, list[uuid.UUID]] = {}
    for message in messages:
        left.setdefault(message.queue, []).append(message.pk)
    for attempt, wait in enumerate((*RING_WAITS, None), 1):
        for name, ids in list(left.items()):
            try:
                queue.ring(ids, name)
            except queue.RingFailed as error:
                for id_ in ids:
                    log.warning(
                        "ring failed",
                        message_id=str(id_),
                        attempt=attempt,
                        elapsed_ms=round((time.monotonic() - started) * 1000),
                        error=str(error),
                    )
                # Next time the others come first; now they would most likely wait for the same broker.
                left[name] = left.pop(name)
                break
            del left[name]
        if not left:
            break
        if wait is not None:
            time.sleep(wait)
    return [id_ for ids in left.values() for id_ in ids]


def _give_up_with_receipts(fresh: Sequence[Admitted]) -> set[uuid.UUID]:
    with transaction.atomic():
        given_up = give_up([one.message.pk for one in fresh])
        receipts.tear_up(one for one in fresh if one.message.pk in given_up)
    return given_up


def give_up(ids: Sequence[uuid.UUID]) -> set[uuid.UUID]:
    """Mark as `enqueue_failed` what no worker has claimed meanwhile, since its client is told to send again; returns
    which."""
    now = timezone.now()
    with transaction.atomic():
        waiting = list(Message.objects.select_for_update().filter(pk__in=ids, status__in=_UNCLAIMED).order_by("pk"))
        keys = [message.pk for message in waiting]
        Message.objects.filter(pk__in=keys, status__in=_UNCLAIMED).update(
            status=MessageStatus.ENQUEUE_FAILED,
            status_reason="The broker did not take the ring; the client was told to send again.",
            next_attempt_at=None,
            finished_at=now,
        )
        events.record(events.about(message, EventType.DEAD_LETTER, now, reason="enqueue_failed") for message in waiting)
    DEAD_LETTERS.labels("enqueue_failed").inc(len(keys))
    return set(keys)
