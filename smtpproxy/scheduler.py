"""Celery's scheduler, which sweeps by itself: retries do not stand in a queue behind workers that are busy (DEL-3)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from celery import beat

from smtpproxy import sweeps

LOCAL: dict[str, Callable[[], None]] = {"delivery.tasks.ring_due": sweeps.sweep}
"""Tasks run in this process, and what runs in place of each; it must not raise."""


class Scheduler(beat.Scheduler):
    """Runs the tasks of LOCAL and sends the others. The schedule is the settings': nothing of it needs keeping.

    SIGTERM ends a sweep wherever it is; what it did not come to is due for the next.
    """

    # None: each sending takes a connection from the application's pool. The library's own producer is connected
    # before any entry is looked at, and waits for the broker, for ever, when it is away.
    producer = None  # type: ignore[assignment]

    def apply_entry(self, entry: beat.ScheduleEntry, producer: Any = None) -> None:
        run = LOCAL.get(entry.task or "")
        if run is None:
            super().apply_entry(entry, producer=producer)
        else:
            run()
