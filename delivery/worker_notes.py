"""Which workers look at which queues, on every broker: each notes it in the shared store, and a note soon runs out
(QUE-7)."""

from __future__ import annotations

import json
import threading
import uuid
from collections import Counter
from collections.abc import Sequence
from typing import Any, cast

import structlog

from accounts import shared_state

log = structlog.get_logger(__name__)

EVERY = 5.0
LASTS = 20
"""Seconds for which a note counts that is not written anew."""

_WRITE = shared_state.Script(
    """
-- KEYS: index, note. ARGV: seconds, text.
local now = tonumber(redis.call('TIME')[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
redis.call('ZADD', KEYS[1], now + ARGV[1], KEYS[2])
redis.call('EXPIRE', KEYS[1], 2 * ARGV[1])
redis.call('SET', KEYS[2], ARGV[2], 'EX', ARGV[1])
"""
)


class Note:
    """This worker's note, written again and again by a thread until it is withdrawn."""

    def __init__(self, queues: Sequence[str]) -> None:
        self._key = shared_state.key("worker", uuid.uuid4().hex)
        self._text = json.dumps(list(queues))
        self._withdrawn = threading.Event()

    def keep(self) -> None:
        """Begin; the thread ends with the process."""
        threading.Thread(target=self._run, name="worker-note", daemon=True).start()

    def write(self) -> None:
        """Raises shared_state.Unavailable."""
        _WRITE([_index(), self._key], [LASTS, self._text])

    def withdraw(self) -> None:
        """The worker stops. Never raises: a note that could not be taken away runs out by itself."""
        self._withdrawn.set()
        try:
            shared_state.client().delete(self._key)
        except shared_state.Unavailable as error:
            log.warning("worker's note not withdrawn", error=str(error))

    def _run(self) -> None:
        told = False
        while not self._withdrawn.is_set():
            try:
                self.write()
                told = False
            except Exception as error:  # noqa: BLE001 -- the thread must live on; the next round tries again
                if not told:
                    log.warning("worker's note not written", error=f"{type(error).__name__}: {error}")
                told = True
            self._withdrawn.wait(EVERY)


def counts() -> Counter[str]:
    """How many workers look at each queue; raises shared_state.Unavailable."""
    server = shared_state.client()
    keys = cast("list[bytes]", server.zrange(_index(), 0, -1))
    notes = cast("list[Any]", server.mget(keys)) if keys else []
    return Counter(name for note in notes if note is not None for name in json.loads(note))


def _index() -> str:
    return shared_state.key("workers")
