"""How many processes of one worker may be busy with slow mail at once, so that one is left for the rest (QUE-5).

A process locks a byte of a file while it works on a list. The kernel frees the locks of a process that dies.
"""

from __future__ import annotations

import fcntl
import mmap
import tempfile
import time
from collections.abc import Collection, Sequence

from accounts.models import Account
from delivery import queues

SLOW = (queues.LARGE, queues.AGAIN)
_SHARED = (queues.FRESH, *SLOW)
ENOUGH = 4
"""Processes from which on one is kept for transactional mail, where there are accounts of that kind."""
LOOK_EVERY = 10.0  # seconds


class Lanes:
    """To be made by the worker before it forks its `processes`."""

    def __init__(self, processes: int, *, reserving: bool = True) -> None:
        self._processes = processes
        self._reserving = reserving
        self._file = tempfile.TemporaryFile(prefix="lanes-")  # noqa: SIM115 -- open as long as the worker
        self._missed = mmap.mmap(-1, len(_SHARED))
        self._held: int | None = None
        self._reserve = (float("-inf"), 0)

    def take(self, name: str) -> bool:
        """Whether this process may work on a list of that queue now; if so, `leave` must follow."""
        if name not in _SHARED or self._lock(name):
            return True
        # Said first and tried once more: whoever leaves in between has seen it, or has left its lane to us.
        self._missed[_SHARED.index(name)] = 1
        return self._lock(name)

    def leave(self) -> Sequence[str]:
        """The list is done; returns the queues whose lists found no lane, for which somebody should ring."""
        if self._held is None:
            return ()
        fcntl.lockf(self._file, fcntl.LOCK_UN, 1, self._held)
        self._held = None
        missed = [name for number, name in enumerate(_SHARED) if self._missed[number]]
        for name in missed:
            self._missed[_SHARED.index(name)] = 0
        return missed

    def _lock(self, name: str) -> bool:
        most = self._processes - self._reserved()
        # From both ends, so that mail that is not slow leaves the lanes of slow mail free as long as it can.
        numbers = range(max(1, most - 1)) if name in SLOW else range(most - 1, -1, -1)
        for number in numbers:
            try:
                fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, number)
            except OSError:
                continue
            self._held = number
            return True
        return False

    def _reserved(self) -> int:
        if self._processes < ENOUGH or not self._reserving:
            return 0
        looked_at, reserved = self._reserve
        if time.monotonic() - looked_at >= LOOK_EVERY:
            reserved = int(Account.objects.filter(transactional=True, status=Account.Status.ACTIVE).exists())
            self._reserve = (time.monotonic(), reserved)
        return reserved


_lanes: Lanes | None = None


def open_for(processes: int, names: Collection[str] = queues.NAMES) -> None:
    """Call it in the worker before it forks; without it every list is begun at once.

    A worker that looks at queues of slow mail only (`names`) has nothing to keep a process free for.
    """
    global _lanes  # noqa: PLW0603
    _lanes = None if set(names) <= set(SLOW) else Lanes(processes, reserving=queues.TRANSACTIONAL in names)


def take(name: str) -> bool:
    """As `Lanes.take`."""
    return _lanes is None or _lanes.take(name)


def leave() -> Sequence[str]:
    """As `Lanes.leave`."""
    return () if _lanes is None else _lanes.leave()
