"""Ring again for everything due: retries, lost rings, leases of dead workers, scheduled sends (DEL-3)."""

from __future__ import annotations

from datetime import timedelta

import structlog
from django.conf import settings
from django.db.models import Q
from django.utils import timezone

from delivery import queue
from delivery.models import Message

log = structlog.get_logger(__name__)

RING_AGAIN = timedelta(minutes=1)
"""A message rung for is left alone this long: its ring waits in the broker behind others."""
PAGE = 1000
MOST_WAITING = 500
"""Rings that may wait in the queue of the sweeper. With more, the workers have enough to do; what is due stays due."""


def ring_due() -> int:
    """Ring for every message that is due; returns how many.

    Two schedulers at once ring twice at worst, which a claim makes harmless. Messages claimed before without an
    outcome are rung for one by one (QUE-6).
    """
    rung = 0
    while True:
        try:
            if queue.waiting(queue.AGAIN) >= MOST_WAITING:
                log.warning("sweep stopped: the workers are behind", rung=rung)
                return rung
        except queue.RingFailed as error:
            log.error("sweep stopped by the broker", rung=rung, error=str(error))
            return rung
        now = timezone.now()
        due = list(
            Message.objects.filter(next_attempt_at__lte=now)
            .filter(Q(rung_at=None) | Q(rung_at__lt=now - RING_AGAIN))
            .order_by("next_attempt_at")
            .values_list("pk", "claims")[:PAGE]
        )
        if not due:
            return rung
        together = [pk for pk, claims in due if claims == 0]
        alone = [pk for pk, claims in due if claims > 0]
        try:
            for page in (*queue.pages(together, settings.DELIVERY_BATCH), *([pk] for pk in alone)):
                queue.ring(page, queue.AGAIN)
                Message.objects.filter(pk__in=page).update(rung_at=now)
                rung += len(page)
        except queue.RingFailed as error:
            # They stay due; the next sweep rings again.
            log.error("sweep stopped by the broker", rung=rung, error=str(error))
            return rung
