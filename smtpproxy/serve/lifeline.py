"""Child processes that do not outlive their parent, however it ends."""

import ctypes
import os
import signal
import sys
from collections.abc import Callable

_PR_SET_PDEATHSIG = 1  # prctl(2)


def tied_to_parent() -> Callable[[], None] | None:
    """What `subprocess.Popen(preexec_fn=...)` is to run, so that the kernel kills the child when its parent dies.

    Linux alone can do it (None elsewhere). Start such children from the main thread: the signal comes when the thread
    that started them ends.
    """
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    parent = os.getpid()

    def tie() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:  # it died before we asked
            os._exit(1)

    return tie
