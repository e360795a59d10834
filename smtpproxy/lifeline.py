"""Processes that do not outlive their parent, however it ends."""

import ctypes
import os
import signal
import sys
from collections.abc import Callable
from functools import partial

_PR_SET_PDEATHSIG = 1  # prctl(2)
_prctl = ctypes.CDLL(None, use_errno=True).prctl if sys.platform == "linux" else None


def tie_to(parent: int) -> None:
    """From now on the kernel kills this process when its parent, whose id is given, dies.

    Linux alone can do that; elsewhere nothing happens. The signal comes when the *thread* that forked us ends, so
    such children are to be started from a main thread.
    """
    if _prctl is None:
        return
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it died before we asked
        os._exit(1)


def tied_to_parent() -> Callable[[], None]:
    """What `subprocess.Popen(preexec_fn=...)` is to run in the child; it makes two system calls and nothing else."""
    return partial(tie_to, os.getpid())
