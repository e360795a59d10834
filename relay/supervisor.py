"""Several listener processes on the same ports: the parent starts them again when they die and passes signals on."""

from __future__ import annotations

import contextlib
import os
import signal
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass

import structlog

log = structlog.get_logger(__name__)

SIGNALS = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD}
LIVED_WELL = 10.0  # seconds; a child that dies earlier is started again only after a pause that grows
LONGEST_PAUSE = 30.0
MERCY = 5.0  # seconds beyond the drain timeout before a child is killed
UNUSABLE = 78  # EX_CONFIG: a child that cannot work would not work the next time either


@dataclass(slots=True)
class _Place:
    """One of the processes, or the time when it is to be started again."""

    pid: int = 0
    started: float = 0.0
    start_at: float = 0.0
    pause: float = 1.0


class Supervisor:
    """Runs `child` in `count` processes until told to stop. `child` gets a descriptor that ends when we do."""

    def __init__(self, count: int, child: Callable[[int], int], drain_timeout: float) -> None:
        self._places = [_Place() for _ in range(count)]
        self._child = child
        self._drain_timeout = drain_timeout
        self._stop_by: float | None = None
        self._exit_code = 0
        self._lifeline, self._hold = os.pipe()

    def run(self) -> int:
        """The exit code: 0 when all children ended well after a signal."""
        before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        try:
            self._start_missing(before)
            while self._alive() or self._stop_by is None:
                received = signal.sigtimedwait(SIGNALS, self._wait_at_most())
                if received is not None:
                    self._handle(signal.Signals(received.si_signo))
                self._bury()
                self._kill_the_late()
                self._start_missing(before)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            os.close(self._hold)
            os.close(self._lifeline)
        return self._exit_code

    def _alive(self) -> list[_Place]:
        return [place for place in self._places if place.pid]

    def _wait_at_most(self) -> float:
        moments = [place.start_at for place in self._places if not place.pid]
        if self._stop_by is not None:
            moments = [self._stop_by]
        return max(0.05, min(moments, default=time.monotonic() + 60) - time.monotonic())

    def _handle(self, number: signal.Signals) -> None:
        if number == signal.SIGCHLD:
            return
        self._send(number)
        if number != signal.SIGHUP and self._stop_by is None:
            log.info("stopping listener processes", reason=number.name)
            self._stop_by = time.monotonic() + self._drain_timeout + MERCY

    def _send(self, number: signal.Signals) -> None:
        for place in self._alive():
            with contextlib.suppress(ProcessLookupError):
                os.kill(place.pid, number)

    def _bury(self) -> None:
        for place in self._alive():
            pid, status = os.waitpid(place.pid, os.WNOHANG)
            if pid:
                self._ended(place, os.waitstatus_to_exitcode(status))

    def _ended(self, place: _Place, code: int) -> None:
        pid, place.pid = place.pid, 0
        if self._stop_by is not None:
            self._exit_code = self._exit_code or abs(code)
            return
        now = time.monotonic()
        if now - place.started >= LIVED_WELL:
            place.pause = 1.0
            place.start_at = now
        else:
            place.start_at = now + place.pause
            place.pause = min(place.pause * 2, LONGEST_PAUSE)
        log.error("listener process died", pid=pid, code=code, again_in=round(place.start_at - now, 1))
        if code == UNUSABLE:
            self._exit_code = code
            self._handle(signal.SIGTERM)

    def _kill_the_late(self) -> None:
        if self._stop_by is not None and time.monotonic() > self._stop_by:
            log.error("listener processes killed", pids=[place.pid for place in self._alive()])
            self._send(signal.SIGKILL)
            self._stop_by = time.monotonic() + MERCY

    def _start_missing(self, mask: set[signal.Signals | int]) -> None:
        for place in self._places:
            if self._stop_by is None and not place.pid and place.start_at <= time.monotonic():
                place.started = time.monotonic()
                place.pid = os.fork() or self._become_child(mask)

    def _become_child(self, mask: set[signal.Signals | int]) -> int:
        """Never returns."""
        code = UNUSABLE
        try:
            os.close(self._hold)
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            code = self._child(self._lifeline)
        except BaseException:  # noqa: BLE001 - nothing may get back into the parent's code
            traceback.print_exc()
            code = 1
        finally:
            os._exit(code)
