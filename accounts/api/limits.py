"""How many requests a key, a session or, without either, an address may make in a minute (LIM-2)."""

from __future__ import annotations

import time

import structlog
from django.conf import settings
from rest_framework import exceptions

from accounts import quota_store, shared_state
from accounts.quota_store import Counter, Group

log = structlog.get_logger(__name__)

STEPS = 60
AWAY = 5.0
"""Seconds for which a shared store that did not answer is not asked again."""

_away_until = 0.0
_away = False


def count(*who: object) -> None:
    """Count one request of `who` in the last minute; raises Throttled, with the seconds until there is room.

    While the shared store is away nothing is counted and everybody passes.
    """
    global _away_until, _away  # noqa: PLW0603
    if time.monotonic() < _away_until:
        return
    counter = Counter(shared_state.key("requests", *who), settings.API_REQUESTS_PER_MINUTE, 60 / STEPS, STEPS)
    try:
        taken = quota_store.take([counter], [Group(1, [0])])
    except shared_state.Unavailable as error:
        if not _away:
            log.error("requests are not counted", error=f"{type(error).__name__}: {error}")
        _away, _away_until = True, time.monotonic() + AWAY
        return
    _away = False
    if not taken.granted[0]:
        raise exceptions.Throttled(wait=taken.waits[0])


def forget() -> None:
    """Ask the store again; for tests."""
    global _away_until, _away
    _away_until, _away = 0.0, False
