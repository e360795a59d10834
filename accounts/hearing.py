"""The thread of a process that hears what has changed, see `changes`."""

from __future__ import annotations

import os
import random
import threading
import time
from typing import Any

import redis
import structlog

from accounts import changes, shared_state

log = structlog.get_logger(__name__)

PING_EVERY = 1.0
"""Seconds of silence after which the server is asked whether it is still there."""
DEAF_AFTER = 4.0
"""Seconds of silence after which the connection counts as broken."""
LONGEST_PAUSE = 2.0
"""Seconds between two tries to connect, at most."""
NEVER = float("-inf")


class _Listener(threading.Thread):
    def __init__(self) -> None:
        super().__init__(name="config-changed", daemon=True)
        self.heard_at = NEVER
        self.stopped = threading.Event()

    def run(self) -> None:
        pause, told = 0.05, False
        while not self.stopped.is_set():
            try:
                self._listen()
            except (redis.RedisError, OSError, ValueError) as error:
                if self.heard_at > 0 or not told:  # once for each time the server goes away
                    pause, told = 0.05, True
                    log.warning("changes are not heard", error=type(error).__name__)
            except Exception:
                log.exception("changes are not heard")
            self.heard_at = NEVER
            self.stopped.wait(pause * random.uniform(0.5, 1.0))
            pause = min(pause * 2, LONGEST_PAUSE)

    def _listen(self) -> None:
        # A connection of its own, for its life; made anew after any error, never behind our back.
        with shared_state.client().pubsub(ignore_subscribe_messages=False) as subscription:
            subscription.subscribe(changes.channel())
            self._follow(subscription)

    def _follow(self, subscription: Any) -> None:
        last = time.monotonic()
        while not self.stopped.is_set():
            message = subscription.get_message(timeout=PING_EVERY)
            now = time.monotonic()
            changes.catch_up()
            if message is None:
                if now - last > DEAF_AFTER:
                    raise redis.TimeoutError("silent")
                subscription.ping()
                continue
            last = now
            if message["type"] == "subscribe":
                changes.hear(changes.EVERYTHING)  # whatever happened before
                self.heard_at = now
                log.info("changes are heard")
            elif self.heard_at > 0:
                self.heard_at = now
            if message["type"] == "message":
                change = changes.read(message["data"])
                if change is not None:
                    changes.hear(change)


_lock = threading.Lock()
_listener: _Listener | None = None


def listen() -> None:
    """Hear changes from now on, in a thread of this process; a process forked from this one must ask for itself."""
    global _listener  # noqa: PLW0603
    with _lock:
        if _listener is None or not _listener.is_alive():
            _listener = _Listener()
            _listener.start()


def hearing() -> bool:
    """Whether this process would have heard of a change by now, as far as it can know."""
    return _listener is not None and time.monotonic() - _listener.heard_at < DEAF_AFTER


def stop() -> None:
    """End the thread; for tests."""
    global _listener  # noqa: PLW0603
    if _listener is not None:
        _listener.stopped.set()
        _listener.join(PING_EVERY + 5)
        _listener = None


def _after_fork() -> None:
    global _listener, _lock
    _listener, _lock = None, threading.Lock()


os.register_at_fork(after_in_child=_after_fork)
