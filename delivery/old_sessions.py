"""People's sessions that were over long ago are deleted once a day (SEC-4)."""

from __future__ import annotations

import structlog

from accounts import sessions
from delivery import chores, queues

log = structlog.get_logger(__name__)

NAME = "old-sessions"
EVERY = 86_400.0


def run(_turn: chores.Turn) -> None:
    """Delete them; see `delivery.chores`."""
    if count := sessions.sweep():
        log.info("old sessions deleted", count=count)


CHORE = chores.Chore(name=NAME, queue=queues.MAINTENANCE, due=chores.every(EVERY, NAME), run=run)
