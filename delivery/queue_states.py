"""What is in each queue and who looks at it, on every broker: for the command, the admin and metrics (QUE-7)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import structlog
from django.db.models import Count, Min, Q
from django.utils import timezone

from accounts import shared_state
from accounts.models import Tenant
from delivery import caps, queue, queues, worker_notes
from delivery.caps import Cap
from delivery.models import DUE_STATUSES, Message, MessageStatus

log = structlog.get_logger(__name__)

FRESH_FOR = timedelta(minutes=1)
"""A fresh message falls due a minute after acceptance; it counts as waiting all the same."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """Messages of a queue that are due or under way, by status, and how long ago in seconds the first of those that
    wait fell due (0.0 when none has)."""

    by_status: Mapping[str, int] = field(default_factory=dict)
    oldest: float = 0.0


@dataclass(frozen=True, slots=True)
class QueueState:
    """`rings` and `workers` are None when the broker, or the shared store, does not say."""

    name: str
    rings: int | None
    workers: int | None
    cap: Cap
    waiting: Waiting

    @property
    def under_way(self) -> int:
        return self.waiting.by_status.get(MessageStatus.PROCESSING, 0)

    @property
    def due(self) -> int:
        """Messages that wait for their turn."""
        return sum(self.waiting.by_status.values()) - self.under_way


def states() -> list[QueueState]:
    """Of every queue, in the order of the table. Asks the broker once for each; raises what the database raises."""
    waiting, restricted = messages(), caps.restricted()
    counted, rings = _workers(), {name: rings_in(name) for name in queues.NAMES}
    return [
        QueueState(
            name=name,
            rings=rings[name],
            workers=None if counted is None else counted.get(name, 0),
            cap=restricted.get(name, Cap()),
            waiting=waiting.get(name, Waiting()),
        )
        for name in queues.NAMES
    ]


def messages(tenant: Tenant | None = None) -> dict[str, Waiting]:
    """What waits or is under way, of all or of one tenant, by the queue of the message. One look at what is due: its
    cost grows with that, not with what has ended or is scheduled for later."""
    now = timezone.now()
    found = Message.objects.filter(
        Q(next_attempt_at__lte=now)
        | Q(status=MessageStatus.QUEUED, next_attempt_at__lte=now + FRESH_FOR)
        | Q(status=MessageStatus.PROCESSING)
    )
    if tenant is not None:
        found = found.filter(tenant=tenant)
    by_queue: dict[str, dict[str, int]] = {}
    oldest: dict[str, datetime] = {}
    rows = found.order_by().values("queue", "status").annotate(count=Count("pk"), first=Min("next_attempt_at"))
    for row in rows:
        by_queue.setdefault(row["queue"], dict.fromkeys(DUE_STATUSES, 0))[row["status"]] = row["count"]
        oldest[row["queue"]] = min(row["first"], oldest.get(row["queue"], row["first"]))
    return {
        name: Waiting(by_status, max(0.0, (now - oldest[name]).total_seconds())) for name, by_status in by_queue.items()
    }


def rings_in(name: str) -> int | None:
    """Rings that wait in the broker; SQS counts them approximately."""
    try:
        return queue.waiting(name)
    except queue.RingFailed as error:
        log.warning("the broker does not say what waits", queue=name, error=str(error))
        return None


def _workers() -> Mapping[str, int] | None:
    try:
        return worker_notes.counts()
    except shared_state.Unavailable as error:
        log.warning("the shared store does not say who works", error=str(error))
        return None
