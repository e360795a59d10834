"""Ring again for everything due: retries, lost rings, leases of dead workers, scheduled sends (DEL-3)."""

from __future__ import annotations

import random
import uuid
from collections.abc import Iterable, Mapping
from datetime import timedelta

import structlog
from django.conf import settings
from django.db import DatabaseError
from django.db.models import Q, QuerySet
from django.utils import timezone

from accounts import shared_state
from delivery import capped, caps, queue, queues
from delivery.caps import Cap
from delivery.models import Message, MessageStatus

log = structlog.get_logger(__name__)

RING_AGAIN = timedelta(minutes=1)
"""A message rung for is left alone this long: its ring waits in the broker behind others."""
PAGE = 1000
MOST_WAITING = 500
"""Rings that may wait in the queue of the sweeper. With more, the workers have enough to do; what is due stays due."""
_Row = tuple[uuid.UUID, int, str]


def ring_due() -> int:
    """Ring for every message that is due; returns how many.

    Of queues that are paused none, of queues with a cap as many as have a place (QUE-5). Two schedulers at once ring
    twice at worst, which a claim makes harmless. Messages claimed before without an outcome are rung for one by one
    (QUE-6).
    """
    rung = 0
    try:
        restricted = caps.restricted()
        places = _free(restricted)
        if not places.get(queues.AGAIN, 1):
            return 0
        for name in places.keys() - {queues.AGAIN}:
            most = min(places[name], places.get(queues.AGAIN, PAGE), PAGE)
            if most and queue.waiting(queues.AGAIN) < MOST_WAITING:
                rung += _ring(_due().filter(queue=name)[:most])
        while True:
            if queue.waiting(queues.AGAIN) >= MOST_WAITING:
                log.warning("sweep stopped: the workers are behind", rung=rung)
                return rung
            others = _due().exclude(queue__in=restricted) if restricted else _due()
            page = _ring(others[: places.get(queues.AGAIN, PAGE)])
            rung += page
            if not page or queues.AGAIN in places:
                return rung
    except queue.RingFailed as error:
        # What is not rung for stays due; the next sweep rings again.
        log.error("sweep stopped by the broker", rung=rung, error=str(error))
        return rung


def ring_next(places: Mapping[str, int]) -> None:
    """So many places have become free in these queues: ring for as many of the messages that wait for them.

    Never raises: what is not rung for is found by the next sweep.
    """
    for name, count in places.items():
        try:
            _ring_next(name, count)
        except (queue.RingFailed, DatabaseError) as error:
            log.warning("not rung for what waits; left to the sweep", queue=name, error=str(error))


def _ring_next(name: str, count: int) -> None:
    restricted = caps.restricted()
    paused = {one for one, cap in restricted.items() if cap.paused}
    if name in paused:
        capped.put_off(Message.objects.filter(queue=name))
        return
    if name == queues.AGAIN:
        # Also what was rung for a moment ago: that ring may be the one that found no room. What needs a place besides
        # is for the sweep, which knows how many there are.
        due = Message.objects.filter(next_attempt_at__lte=timezone.now())
        _ring(due.exclude(queue__in=restricted).order_by("next_attempt_at")[:count])
        if restricted:
            due.filter(queue__in=restricted, rung_at__isnull=False).update(rung_at=None)
        return
    due = _due().filter(queue=name) if queues.AGAIN not in paused else Message.objects.none()
    # In turn with fresh mail, so that neither waits for the end of the other.
    count -= _ring(due[: (count + random.getrandbits(1)) // 2])
    fresh = Message.objects.filter(queue=name, status=MessageStatus.QUEUED, claims=0).order_by("pk")
    ids = list(fresh.values_list("pk", flat=True)[:count])
    queue.ring(ids, name)
    if len(ids) < count:
        _ring(due[: count - len(ids)])


def _free(restricted: Mapping[str, Cap]) -> dict[str, int]:
    """How many messages may be begun in each of the queues that are restricted."""
    limits = {name: cap.most for name, cap in restricted.items() if cap.most is not None and not cap.paused}
    try:
        busy = caps.under_way(list(limits)) if limits else {}
    except shared_state.Unavailable as error:
        log.warning("messages under way cannot be counted", queues=list(limits), error=str(error))
        busy = limits
    return dict.fromkeys(restricted, 0) | {name: max(0, most - busy[name]) for name, most in limits.items()}


def _due() -> QuerySet[Message]:
    now = timezone.now()
    return (
        Message.objects.filter(next_attempt_at__lte=now)
        .filter(Q(rung_at=None) | Q(rung_at__lt=now - RING_AGAIN))
        .order_by("next_attempt_at")
    )


def _ring(waiting: QuerySet[Message]) -> int:
    """Ring for these in lists of one queue each; returns how many. Raises queue.RingFailed."""
    found: list[_Row] = list(waiting.values_list("pk", "claims", "queue"))
    for page in _lists(found):
        # Noted first: a worker is there at once, passes over rows that are being written, and nobody would ring again.
        now = timezone.now()
        Message.objects.filter(pk__in=page, next_attempt_at__lte=now).update(rung_at=now)
        try:
            queue.ring(page, queues.AGAIN)
        except queue.RingFailed:
            Message.objects.filter(pk__in=page, rung_at=now).update(rung_at=None)
            raise
    return len(found)


def _lists(found: Iterable[_Row]) -> list[list[uuid.UUID]]:
    together: dict[str, list[uuid.UUID]] = {}
    alone = []
    for pk, claims, name in found:
        if claims:
            alone.append([pk])
        else:
            together.setdefault(name, []).append(pk)
    return [page for ids in together.values() for page in queue.pages(ids, settings.DELIVERY_BATCH)] + alone
