"""What delivery counts, and what is read from the database when somebody asks (OBS-2, QUE-7)."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import structlog
from django.db import DatabaseError, InterfaceError
from prometheus_client import Counter
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from delivery import queue_states, queues, store
from delivery.exceptions import StoreUnavailable
from delivery.models import DUE_STATUSES, OutboxEntry

log = structlog.get_logger(__name__)

DEAD_LETTERS = Counter("dead_letters", "Messages given up, by the code of the reason.", ["reason"])
REFUSALS_DROPPED = Counter("refused_sessions_dropped", "Refusals of which no row was kept: there were too many.")

KEEP = 5.0
"""Seconds for which what was read is told again, however often somebody asks."""
PATIENCE = 3.0
"""Seconds to wait for another thread that is reading; who waits longer tells nothing of what is read."""
MOST_OUTBOX = 100_000
"""The outbox is counted up to here."""


class StateCollector(Collector):
    """What is true of the whole installation, the same wherever it is asked: of several answers take the greatest."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._read_at = float("-inf")
        self._metrics: list[Metric] = []

    def collect(self) -> Iterator[Metric]:
        """What cannot be read is left out. Leaves a connection to the database open in the calling thread."""
        if not self._lock.acquire(timeout=PATIENCE):
            return
        try:
            if time.monotonic() - self._read_at >= KEEP:
                self._metrics = [*_messages(), *_rings(), *_store()]
                self._read_at = time.monotonic()
            found = self._metrics
        finally:
            self._lock.release()
        yield from found


def _messages() -> Iterator[Metric]:
    try:
        waiting = queue_states.messages().values()
        outbox = OutboxEntry.objects.order_by()[:MOST_OUTBOX].count()
    except (DatabaseError, InterfaceError) as error:
        log.warning("depth of queues not read", error=type(error).__name__)
        return
    depth = GaugeMetricFamily("queue_depth", "Messages due or under way, by status.", labels=["status"])
    for status in DUE_STATUSES:
        depth.add_metric([status], sum(one.by_status.get(status, 0) for one in waiting))
    yield depth
    oldest = max((one.oldest for one in waiting), default=0.0)
    yield GaugeMetricFamily("queue_oldest_age_seconds", "Since the first message that waits fell due.", value=oldest)
    yield GaugeMetricFamily("outbox_pending", "Events not handed to subscribers yet.", value=outbox)


def _rings() -> Iterator[Metric]:
    rings = GaugeMetricFamily("queue_rings", "Rings that wait in the broker.", labels=["queue"])
    for name in queues.NAMES:
        count = queue_states.rings_in(name)
        if count is None:
            return  # the others would wait for the same broker
        rings.add_metric([name], count)
    yield rings


def _store() -> Iterator[Metric]:
    try:
        free = store.free_space()
    except (StoreUnavailable, OSError) as error:
        log.warning("free space of the store not read", error=type(error).__name__)
        return
    if free is not None:
        yield GaugeMetricFamily("store_free_bytes", "Octets free where bodies are kept.", value=free[0])
