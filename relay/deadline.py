"""One timer for a connection that is set anew at every step."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Deadline:
    """Calls `expired` when the time set last has passed.

    Moving it later costs no timer: the one that is running looks again when it fires. A server that makes and cancels
    a timer for each command fills the event loop's heap with dead ones.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, expired: Callable[[], None]) -> None:
        self._loop = loop
        self._expired = expired
        self._at: float | None = None
        self._timer: asyncio.TimerHandle | None = None

    def set(self, seconds: float) -> None:
        self.set_at(self._loop.time() + seconds)

    def set_at(self, moment: float) -> None:
        """`moment` in the event loop's time."""
        self._at = moment
        if self._timer is not None and self._timer.when() > moment:
            self._timer.cancel()
            self._timer = None
        if self._timer is None:
            self._timer = self._loop.call_at(moment, self._look)

    def suspend(self) -> None:
        """No deadline until the next is set: it is we who keep the client waiting."""
        self._at = None

    def cancel(self) -> None:
        self._at = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def forget(self) -> None:
        """Cancel for good, and let go of whoever was to be called."""
        self.cancel()
        self._expired = _nobody

    def _look(self) -> None:
        self._timer = None
        if self._at is None:
            return
        if self._loop.time() < self._at:
            self.set_at(self._at)
        else:
            self._expired()


def _nobody() -> None:
    """Called by no deadline that is still wanted."""
