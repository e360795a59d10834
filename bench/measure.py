"""Processor time of groups of processes and of the whole machine, from /proc (proc(5))."""

from __future__ import annotations

import os
import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

_TICK = os.sysconf("SC_CLK_TCK")


def _stat(pid: int) -> list[str]:
    """The fields of /proc/<pid>/stat after the command's name; the first is the state, field 3 of proc(5)."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def tree(root: int) -> set[int]:
    """A process and all that descend from it now."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                children.setdefault(int(_stat(int(entry))[1]), []).append(int(entry))
            except OSError:
                continue
    found, waiting = set(), [root]
    while waiting:
        pid = waiting.pop()
        found.add(pid)
        waiting += children.get(pid, [])
    return found


def cpu(roots: Iterable[int]) -> float:
    """Seconds these processes and their descendants have used, with those of ended ones that were waited for."""
    total = 0
    for pid in set().union(*(tree(root) for root in roots)):
        try:
            total += sum(int(value) for value in _stat(pid)[11:15])
        except OSError:
            continue
    return total / _TICK


def cpu_alone(pids: Iterable[int]) -> float:
    """Seconds these processes have used, without descendants."""
    total = 0
    for pid in pids:
        try:
            total += sum(int(value) for value in _stat(pid)[11:13])
        except OSError:
            continue
    return total / _TICK


def machine() -> float:
    """Seconds all processors together were busy since the machine started."""
    user, nice, system, _idle, _iowait, irq, softirq, steal = (
        int(value) for value in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]
    )
    return (user + nice + system + irq + softirq + steal) / _TICK


def memory(root: int) -> float:
    """Resident megabytes of a process and its descendants, pages they share counted once for each."""
    total = 0
    for pid in tree(root):
        try:
            total += int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        except OSError:
            continue
    return total * os.sysconf("SC_PAGE_SIZE") / 1e6


@dataclass
class Cost:
    """Processor seconds between making this and `stop`."""

    roots: tuple[int, ...]

    def __post_init__(self) -> None:
        self._own, self._all = cpu(self.roots), machine()

    def stop(self) -> tuple[float, float]:
        """(the processes', the machine's)."""
        return cpu(self.roots) - self._own, machine() - self._all


def median(values: Iterable[float]) -> float:
    """The median, or 0 of nothing."""
    held = list(values)
    return statistics.median(held) if held else 0.0
