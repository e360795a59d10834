"""`manage.py runingest`: one thread a queue, until told to stop."""

from __future__ import annotations

import logging
import os
import signal
import sys
import time
from threading import Event, Thread
from types import FrameType

import structlog
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db import DatabaseError, connections
from django.utils.module_loading import import_string

from delivery.letter import Limits
from relay.ingest.config import Config, owners
from relay.ingest.consumer import Consumer
from relay.process import be_impatient_with_the_database

log = structlog.get_logger(__name__)

CLEAN, CUT_OFF = 0, 1
PATIENCE = 27.0
"""Seconds after SIGTERM in which every queue's thread has to end."""

_consumers: list[Consumer] = []


def unread() -> list[str]:
    """The queues of this process that are not read at the moment."""
    return [consumer.queue for consumer in _consumers if not consumer.connected]


def serve() -> int:
    """Read what `settings.INGEST` names until SIGTERM or SIGINT; returns the exit code.

    Raises ImproperlyConfigured before anything is read. Does not return when a thread is stuck: the process then ends
    here, since the interpreter would wait for the thread for ever.
    """
    config = Config.from_settings(settings.INGEST)
    if not config.queues:
        raise ImproperlyConfigured("INGEST_QUEUES names no queue: give queue=username, with commas between.")
    be_impatient_with_the_database()
    stop = Event()
    _stop_on_signals(stop)
    try:
        owned = owners(config.queues)
    except DatabaseError as error:
        raise ImproperlyConfigured(f"The database cannot be used: {type(error).__name__}.") from error
    connections.close_all()
    limits = Limits.of(settings.SMTP)
    _consumers[:] = [Consumer(one, config, limits, stop) for one in owned]
    threads = [Thread(target=one.run, name=f"ingest-{one.queue}", daemon=True) for one in _consumers]
    for thread in threads:
        thread.start()
    if settings.INGEST_ON_START:
        import_string(settings.INGEST_ON_START)()
    stop.wait()
    return _wait_for(threads)


def _stop_on_signals(stop: Event) -> None:
    def note(number: int, _frame: FrameType | None) -> None:
        if not stop.is_set():
            log.info("stopping", reason=signal.Signals(number).name)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, note)


def _wait_for(threads: list[Thread]) -> int:
    until = time.monotonic() + PATIENCE
    for thread in threads:
        thread.join(max(0.0, until - time.monotonic()))
    if not any(thread.is_alive() for thread in threads) and all(consumer.ended for consumer in _consumers):
        return CLEAN
    log.error("a thread is stuck; leaving without it")
    logging.shutdown()
    sys.stdout.flush()
    os._exit(CUT_OFF)
