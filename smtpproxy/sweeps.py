"""The sweep as the scheduler runs it, and a note of each, so that a silent scheduler is found out (DEL-3)."""

from __future__ import annotations

import time

import redis
import structlog
from django.conf import settings
from django.db import DatabaseError, InterfaceError, close_old_connections
from redis.backoff import NoBackoff
from redis.retry import Retry

from delivery import callbacks, chores, sweeper

log = structlog.get_logger(__name__)

NOTE = "smtpproxy:sweep"
"""Where the shared store says when the last sweep ended: seconds since 1970."""
SHORTEST_SILENCE = 60.0  # seconds
TIMEOUT = 2.0  # seconds to wait for the shared store


def sweep() -> None:
    """Ring for every message and chore due, apply events that came before their message was recorded, and note that it
    was done.

    Never raises: whatever failed is done by the next sweep.
    """
    try:
        close_old_connections()
        sweeper.ring_due()
        with _store() as store:
            store.set(NOTE, time.time())
        callbacks.apply_early()
        chores.ring_due()
    except (DatabaseError, InterfaceError, redis.RedisError, OSError) as error:
        log.error("sweep failed", error=f"{type(error).__name__}: {error}")
    except Exception:
        log.exception("sweep failed")


def silence() -> float | None:
    """Seconds since the last sweep of any scheduler, None when none is on record. Raises redis.RedisError."""
    with _store() as store:
        note = store.get(NOTE)
    try:
        return max(0.0, time.time() - float(note)) if note is not None else None
    except ValueError:
        return None


def longest_silence() -> float:
    """Seconds between two sweeps that are nothing to worry about."""
    return max(SHORTEST_SILENCE, 6 * settings.SWEEP_INTERVAL)


def _store() -> redis.Redis:
    return redis.Redis.from_url(
        settings.SHARED_STATE_URL,
        socket_timeout=TIMEOUT,
        socket_connect_timeout=TIMEOUT,
        retry=Retry(NoBackoff(), 0),
    )
