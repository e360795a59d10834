"""Which messages of a ring may be claimed while some queue is paused or has a cap (QUE-5, RET-6)."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from django.conf import settings
from django.db.models import Q, QuerySet
from django.utils import timezone

from delivery import caps, queues
from delivery.caps import Cap, Place
from delivery.models import Message, MessageStatus

PUT_OFF = timedelta(seconds=5)
"""After this long the sweeper looks for a place for a fresh message that found none, unless whoever leaves one has rung
for it before."""

WAITS = "Waits for its queue, which is paused or has as many under way as it may."


def due(now: datetime) -> Q:
    """Messages that may be claimed."""
    return Q(status=MessageStatus.QUEUED) | Q(
        status__in=[MessageStatus.PROCESSING, MessageStatus.RETRYING, MessageStatus.SCHEDULED],
        next_attempt_at__lte=now,
    )


@dataclass(slots=True)
class Choice:
    """The messages to claim, and the places of those that need one, by message."""

    ids: list[uuid.UUID] = field(default_factory=list)
    places: dict[uuid.UUID, Place] = field(default_factory=dict)

    def give_back_but(self, kept: Sequence[uuid.UUID] = ()) -> None:
        """Places of messages that were not claimed after all are free."""
        caps.give_back(place for id_, place in self.places.items() if id_ not in kept)


@dataclass(frozen=True, slots=True)
class _Found:
    pk: uuid.UUID
    claims: int
    queue: str
    again: bool

    @property
    def names(self) -> tuple[str, ...]:
        return (self.queue, queues.AGAIN) if self.again else (self.queue,)


def choose(ids: Sequence[uuid.UUID], rung_in: str, restricted: Mapping[str, Cap]) -> Choice:
    """Those of `ids` that may be claimed now, and fresh ones of the queue they were rung in as far as it has places.

    The others are put off, which uses up no try.
    """
    choice = Choice()
    try:
        _choose(choice, ids, rung_in, restricted)
    except BaseException:
        choice.give_back_but()  # its places would be renewed for as long as this process lives
        raise
    return choice


def _choose(choice: Choice, ids: Sequence[uuid.UUID], rung_in: str, restricted: Mapping[str, Cap]) -> None:
    now = timezone.now()
    rung = [
        _Found(pk, claims, queue, rung_at is not None)
        for pk, claims, queue, rung_at in Message.objects.filter(due(now), pk__in=ids)
        .order_by("pk")
        .values_list("pk", "claims", "queue", "rung_at")
    ]
    left: list[_Found] = []
    groups: dict[tuple[str, ...], list[_Found]] = {}
    for one in (*rung, *_company(rung, rung_in, restricted)):
        groups.setdefault(one.names, []).append(one)
    for names, group in groups.items():
        found = [one.pk for one in group]
        if any(restricted.get(name, Cap()).paused for name in names):
            left += group
            continue
        most = {name: cap.most for name in names if (cap := restricted.get(name)) and cap.most is not None}
        if most:
            places = caps.take(most, len(group))
            choice.places.update(zip(found, places, strict=False))
            left += group[len(places) :]
            found = found[: len(places)]
        choice.ids += found
    asked = set(ids)
    late = [one for one in left if one.pk in asked]
    put_off(Message.objects.filter(pk__in=[one.pk for one in late]))
    if any(one.again for one in late):
        Message.objects.filter(due(now), pk__in=[one.pk for one in late]).update(rung_at=None)


def _company(rung: Sequence[_Found], rung_in: str, restricted: Mapping[str, Cap]) -> list[_Found]:
    """Fresh messages beside those rung for: these may be gone, while others wait for the place that has become free."""
    name = rung[0].queue if rung else rung_in
    most = restricted.get(name, Cap()).most
    if most is None or any(one.claims for one in rung):
        return []
    room = min(settings.DELIVERY_BATCH - len(rung), most)
    fresh = Message.objects.filter(queue=name, status=MessageStatus.QUEUED, claims=0)
    others = fresh.exclude(pk__in=[one.pk for one in rung]).order_by("pk").values_list("pk", "rung_at")
    return [_Found(pk, 0, name, rung_at is not None) for pk, rung_at in others[: max(0, room)]]


def put_off(messages: QuerySet[Message]) -> None:
    """Let the sweep find the fresh ones of these in a few seconds, since their rings come to nothing."""
    soon = timezone.now() + PUT_OFF
    messages.filter(status=MessageStatus.QUEUED, next_attempt_at__gt=soon).update(
        next_attempt_at=soon, status_reason=WAITS, rung_at=None
    )
