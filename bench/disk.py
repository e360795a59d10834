"""A file system of our own for a measurement, and a PostgreSQL on it, so that nobody's habits are measured but ours.

What lies under a temporary folder differs: on some virtual machines the root has no journal, a sync costs next to
nothing and making a file after many were deleted costs a lot. Here everything that is to be durable (queue, store,
database) lies on one new ext4 as `mkfs.ext4` makes it, in a file on the same disk.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg

from accounts.tests.ports import free_port
from bench.waiting import until

SIZE = 12 * 1024**3
"""Octets of the file system; the file takes only what is written."""
NEEDED = ("mkfs.ext4", "mount", "umount")


def why_not() -> str:
    """What is missing to have a disk of our own; "" when nothing is."""
    if os.geteuid() != 0:
        return "only root can mount a file system"
    missing = [name for name in NEEDED if not shutil.which(name)]
    if missing:
        return f"{missing[0]} is not installed"
    return "" if _programs() else "PostgreSQL is not installed"


@contextlib.contextmanager
def own_disk() -> Iterator[Path]:
    """The folder where a new ext4 file system is mounted, removed with all that is on it."""
    with tempfile.TemporaryDirectory(prefix="smtpproxy-bench-disk-") as folder:
        image, place = Path(folder, "image"), Path(folder, "mounted")
        Path(folder).chmod(0o755)
        place.mkdir()
        with open(image, "wb") as file:
            file.truncate(SIZE)
        # Without lazy initialisation: the kernel would be at it during the measurement.
        options = ["-E", "lazy_itable_init=0,lazy_journal_init=0"]
        subprocess.run(["mkfs.ext4", "-q", "-F", *options, str(image)], check=True)
        subprocess.run(["mount", "-o", "loop", str(image), str(place)], check=True)
        try:
            yield place
        finally:
            subprocess.run(["umount", str(place)], check=True)


@contextlib.contextmanager
def own_postgres(place: Path) -> Iterator[tuple[str, int]]:
    """(URL, process id) of a PostgreSQL server whose files lie in `place`, with its own defaults: fsync and all."""
    programs, port, folder = _programs(), free_port(), place / "postgres"
    if programs is None:
        raise FileNotFoundError("PostgreSQL is not installed")
    folder.mkdir()
    shutil.chown(folder, "postgres")
    subprocess.run(
        [programs / "initdb", "-D", folder / "data", "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C"],
        check=True,
        stdout=subprocess.DEVNULL,
        user="postgres",
        cwd=folder,
    )
    url = f"postgresql://postgres@127.0.0.1:{port}/postgres"
    with open(folder / "log", "wb") as log:
        server = subprocess.Popen(
            [programs / "postgres", "-D", folder / "data", "-p", str(port), "-h", "127.0.0.1", "-k", folder],
            stdout=log,
            stderr=log,
            user="postgres",
            cwd=folder,
        )
        try:
            until(lambda: _answers(url), "the start of PostgreSQL", 30)
            yield url, server.pid
        finally:
            server.send_signal(2)  # fast shutdown
            server.wait(60)


def _programs() -> Path | None:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    return found[-1].parent if found else None


def _answers(url: str) -> bool:
    with contextlib.suppress(psycopg.OperationalError), psycopg.connect(url, connect_timeout=1):
        return True
    return False
