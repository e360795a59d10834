"""Where the processes of one role keep their counters, so that whichever is asked tells the sum (OBS-2).

The library looks at an environment variable when it is imported, and so this is for the settings. Who starts listener,
worker or web makes a folder; its children inherit the variable. All other commands count in memory.
"""

from __future__ import annotations

import os
import shutil
import socket
import sys
import time
from collections.abc import Sequence
from pathlib import Path

VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
_SERVES = {("manage", "runsmtp"), ("manage", "runingest"), ("celery", "worker"), ("gunicorn", "")}
_ABANDONED = 7 * 86_400
"""Seconds without a write after which the folder of another machine, or of a container that is gone, is removed."""


def prepare(data_dir: Path, arguments: Sequence[str]) -> None:
    """Make this process's folder, empty, when it is a parent that serves. Where that cannot be, it counts by itself."""
    if VARIABLE in os.environ or not serves(arguments):
        return
    root = data_dir / "metrics"
    own = root / f"{socket.gethostname()}-{os.getpid()}"
    try:
        root.mkdir(parents=True, exist_ok=True, mode=0o700)
        _tidy(root)
        own.mkdir(mode=0o700)
    except OSError as error:
        print(f"Metrics are not shared between processes: {error}", file=sys.stderr)  # noqa: T201 -- before logging
        return
    os.environ[VARIABLE] = str(own)


def serves(arguments: Sequence[str]) -> bool:
    """Whether a command line (`sys.argv`) is that of a role: `celery … worker`, `manage.py runsmtp`, gunicorn."""
    program = Path(arguments[0]) if arguments else Path()
    name = program.parent.name if program.name == "__main__.py" else program.stem
    return any(name == known and (not word or word in arguments[1:]) for known, word in _SERVES)


def _tidy(root: Path) -> None:
    """Take away what processes left that are gone, a former one with our own id among them."""
    for folder in root.iterdir():
        host, _, pid = folder.name.rpartition("-")
        if host == socket.gethostname() and pid.isdecimal():
            gone = int(pid) == os.getpid() or not _alive(int(pid))
        else:
            gone = time.time() - _written(folder) > _ABANDONED
        if gone:
            shutil.rmtree(folder, ignore_errors=True)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _written(folder: Path) -> float:
    try:
        return max(path.stat().st_mtime for path in (folder, *folder.iterdir()))
    except OSError:
        return time.time()
