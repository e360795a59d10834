"""Back-pressure: new mail is put off while too much waits or the store is nearly full (ACC-7)."""

from __future__ import annotations

import threading
import time
from datetime import timedelta

import structlog
from django.conf import settings
from django.utils import timezone

from delivery import store
from delivery.exceptions import Deferred
from delivery.models import Message

log = structlog.get_logger(__name__)

LOOK_EVERY = 2.0
"""Seconds for which what was seen last counts."""
BACK_ON_BELOW = 0.8
"""The part of the greatest depth below which mail is taken again, so that the door does not flap. Of the store as much
more must be free than the least that may be."""
SOON = timedelta(minutes=1)
"""Fresh messages are not due for this long; they count all the same."""


class Pressure:
    """Whether this process may take mail; looks at the database and the disk every few seconds."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._looked_at = float("-inf")
        self._refusal: Deferred | None = None
        self._deep = self._short = False

    def check(self) -> None:
        """Raises Deferred while new mail is to be put off."""
        with self._lock:
            if time.monotonic() - self._looked_at >= LOOK_EVERY:
                self._look()
                self._looked_at = time.monotonic()
        if self._refusal is not None:
            raise self._refusal

    def forget(self) -> None:
        """Look again at the next check."""
        self._looked_at, self._deep, self._short = float("-inf"), False, False

    def _look(self) -> None:
        before, self._refusal = self._refusal, self._full() or self._too_deep()
        if self._refusal is not None and (before is None or before.code != self._refusal.code):
            log.error("new mail is put off", reason=self._refusal.code)
        elif before is not None and self._refusal is None:
            log.warning("new mail is taken again", reason=before.code)

    def _full(self) -> Deferred | None:
        free = store.free_space()
        if free is None:
            return None
        octets, part = free
        wanted = 1 / BACK_ON_BELOW if self._short else 1.0
        enough = octets >= settings.STORAGE_MIN_FREE_MB * 2**20 * wanted
        self._short = not (enough and part >= settings.STORAGE_MIN_FREE_PERCENT / 100 * wanted)
        if not self._short:
            return None
        return Deferred("The message store is nearly full; try again later.", code="store_full", status="4.3.1")

    def _too_deep(self) -> Deferred | None:
        limit = settings.QUEUE_MAX_DEPTH
        threshold = int(limit * BACK_ON_BELOW) if self._deep else limit
        # No more rows are counted than the answer needs.
        waiting = Message.objects.filter(next_attempt_at__lte=timezone.now() + SOON).order_by()
        self._deep = waiting[: threshold + 1].count() > threshold
        if not self._deep:
            return None
        return Deferred("Too many messages wait to be delivered; try again later.", code="queue_full", status="4.3.2")


pressure = Pressure()
