"""Files and folders that only their owner may read: they hold hashes, addresses and mail (SEC-8)."""

import contextlib
import os
from pathlib import Path


def make_folder(path: Path) -> None:
    """Make it with mode 0700 unless it is there, and with the usual mode the folders above it that are missing.

    Where it cannot be made nothing happens: whoever needs it then says so.
    """
    with contextlib.suppress(OSError):
        path.mkdir(parents=True, exist_ok=True, mode=0o700)


def make_file(path: Path) -> None:
    """Make it empty, with mode 0600, unless it is there; for a program that would make it readable for all.

    Where it cannot be made nothing happens, as above.
    """
    with contextlib.suppress(OSError):
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
