"""When again, and when never (RET-1, RET-6)."""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import datetime, timedelta

LONGEST_WAIT = 30 * 86_400
"""Seconds between two tries at most, whatever a schedule says."""
RETRY_AFTER_CEILING = 86_400.0
"""Seconds: no provider may put a message off for longer."""


def next_try(tries: int, schedule: Sequence[int], now: datetime, retry_after: float | None) -> datetime | None:
    """When a message that has failed temporarily is tried again; None when its retries are used up.

    `tries` is how many retries were used before this failure, `schedule` the waits in seconds. Each wait is shortened
    by a random factor, so that messages which failed together do not return together. A provider's `retry_after`
    (seconds) wins when it is later, up to a day.
    """
    if tries >= len(schedule):
        return None
    when = now + timedelta(seconds=min(schedule[tries], LONGEST_WAIT) * random.uniform(0.5, 1.0))
    if retry_after is not None:
        when = max(when, now + timedelta(seconds=min(retry_after, RETRY_AFTER_CEILING)))
    return when
