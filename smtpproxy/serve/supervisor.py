"""Keeps the processes of an installation running until it is told to stop."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Collection, Sequence
from types import FrameType

import structlog

from smtpproxy.serve.child import Child
from smtpproxy.serve.exceptions import CannotServe

log = structlog.get_logger(__name__)

TICK = 0.1  # seconds
START_TIMEOUT = 180.0  # a small machine that is busy with something else needs more than one minute
START_TOLD = 15.0


class Supervisor:
    """The first SIGINT or SIGTERM asks for an orderly end, the second for one at once."""

    def __init__(self) -> None:
        self._signals = 0
        self._running: list[Child] = []

    def listen_for_signals(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._note)

    def _note(self, _number: int, _frame: FrameType | None) -> None:
        self._signals += 1

    @property
    def stopping(self) -> bool:
        return self._signals > 0

    def start(self, children: Sequence[Child], missing: Callable[[], Collection[str]]) -> None:
        """Start them and wait until nothing is `missing`, or somebody wants us to stop.

        Raises CannotServe when one dies, or something is still missing after START_TIMEOUT seconds.
        """
        for child in children:
            child.start()
            self._running.append(child)
        began = told = time.monotonic()
        while not self.stopping and (names := sorted(missing())):
            for child in children:
                if not child.alive:
                    self._running.remove(child)
                    raise CannotServe(f"The {child.role.name} ended while starting; why is {child.role.complains}.")
            now = time.monotonic()
            if now - began > START_TIMEOUT:
                raise CannotServe(
                    f"Not ready after {START_TIMEOUT:.0f} s: {', '.join(names)}; the lines above may say why."
                )
            if now - told > START_TOLD:
                told = now
                log.info("still starting", waiting_for=names, seconds=round(now - began))
            time.sleep(TICK)

    def watch(self) -> None:
        """Start again what dies, until somebody wants us to stop."""
        while not self.stopping:
            for child in self._running:
                child.tend()
            time.sleep(TICK)

    def stop(self) -> None:
        """One after the other, the last started first: nothing new comes in while the rest is finished."""
        for child in reversed(self._running):
            child.ask_to_stop()
            deadline = time.monotonic() + child.role.patience
            while child.alive and self._signals < 2 and time.monotonic() < deadline:
                time.sleep(TICK)
            if child.alive:
                log.warning("process killed", role=child.role.name)
            child.kill()
        self._running.clear()
