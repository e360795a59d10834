"""The time, for whoever deletes by it: a machine whose clock is ahead must not delete what is still wanted (STO-5)."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import cast

import structlog
from django.db import connection
from django.utils import timezone

log = structlog.get_logger(__name__)

APART = timedelta(minutes=5)
"""How far two clocks may be apart before somebody is told."""


def earlier() -> datetime:
    """Now, by our clock or by the database's, whichever is behind. SQLite has none of its own."""
    ours = timezone.now()
    if connection.vendor != "postgresql":
        return ours
    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        theirs = cast(datetime, cursor.fetchone()[0])
    if abs(ours - theirs) > APART:
        log.error("clock differs from the database's", ours=ours.isoformat(), database=theirs.isoformat())
    return min(ours, theirs)
