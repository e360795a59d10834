"""Private servers for a test run: none that runs on this machine already is touched, and nothing is left behind."""

from __future__ import annotations

import atexit
import contextlib
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from accounts.tests.ports import free_port
from smtpproxy import lifeline
from smtpproxy.serve import broker


def wait_until(condition: Callable[[], bool], what: str, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} did not happen within {seconds} s")
        time.sleep(0.05)


def port_answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


@contextlib.contextmanager
def redis_server() -> Iterator[str]:
    """The URL of a Redis-compatible server on a TCP port that keeps nothing."""
    folder, port = tempfile.mkdtemp(prefix="smtpproxy-redis-"), free_port()
    options = ["--port", str(port), "--bind", "127.0.0.1", "--dir", folder, "--save", "", "--appendonly", "no"]
    server = subprocess.Popen(
        [broker.binary(), *options],
        stdout=subprocess.DEVNULL,
        process_group=0,
        preexec_fn=lifeline.tied_to_parent(),  # noqa: PLW1509 -- it only makes two system calls
    )
    try:
        wait_until(lambda: port_answers(port), "the start of Redis")
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        server.terminate()
        server.wait(10)
        shutil.rmtree(folder, ignore_errors=True)


def postgres_programs() -> Path | None:
    """The folder of `initdb` and `postgres`, the newest where there are several."""
    found = shutil.which("initdb")
    folders = [Path(found).resolve().parent] if found else []
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name), reverse=True)
    return next((folder for folder in folders if (folder / "initdb").exists()), None)


@contextlib.contextmanager
def postgres_server() -> Iterator[str]:
    """The URL of a PostgreSQL server of our own; it refuses to run as root, so then it runs as another user."""
    programs, port = postgres_programs(), free_port()
    if programs is None:
        raise FileNotFoundError("PostgreSQL is not installed")
    folder = tempfile.mkdtemp(prefix="smtpproxy-postgres-")
    user = _somebody() if os.getuid() == 0 else None
    if user:
        shutil.chown(folder, user)
    data = f"{folder}/data"
    subprocess.run(
        [programs / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "-N"],
        check=True,
        stdout=subprocess.DEVNULL,
        user=user,
        cwd=folder,
    )
    options = ["-D", data, "-p", str(port), "-h", "127.0.0.1", "-k", folder, "-F", "-c", "max_connections=200"]
    with open(f"{folder}/log", "wb") as log:
        server = subprocess.Popen(
            [programs / "postgres", *options],
            stdout=log,
            stderr=log,
            user=user,
            cwd=folder,
            process_group=0,
            preexec_fn=lifeline.tied_to_parent(),  # noqa: PLW1509 -- it only makes two system calls
        )
    try:
        wait_until(lambda: port_answers(port), "the start of PostgreSQL")
        yield f"postgres://postgres@127.0.0.1:{port}/postgres"
    finally:
        server.send_signal(2)  # fast shutdown
        server.wait(30)
        shutil.rmtree(folder, ignore_errors=True)


def _somebody() -> str:
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name).pw_name
    raise LookupError("PostgreSQL does not run as root, and there is no user postgres or nobody")


def for_the_whole_run(server: contextlib.AbstractContextManager[str]) -> str:
    """Start it now and stop it when this process ends."""
    stack = contextlib.ExitStack()
    atexit.register(stack.close)
    return stack.enter_context(server)
