"""A whole installation for tests: the real `manage.py serve` in a process group of its own."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from accounts.tests.ports import free_port
from smtpproxy.tests import services

PROJECT = Path(__file__).resolve().parents[2]
# What the test run itself is configured with means nothing to an installation of its own.
_NOT_INHERITED = ("DATABASE_URL", "QUEUE_TYPE", "REDIS_URL", "DATA_DIR", "DJANGO_SETTINGS_MODULE")


class Installation:
    """Started and stopped as often as a test likes; its data stays in `data`."""

    def __init__(self, data: Path, **settings: str) -> None:
        self.data = data
        self.outbox = data / "outbox"
        self.port, self.tls_port, self.web_port = (free_port() for _ in range(3))
        self.environment = {name: value for name, value in os.environ.items() if name not in _NOT_INHERITED} | {
            "DATA_DIR": str(data),
            "SMTP_PORT": str(self.port),
            "SMTP_TLS_PORT": str(self.tls_port),
            "WEB_PORT": str(self.web_port),
            "SMTP_LIMIT_EXEMPT_NETWORKS": "127.0.0.0/8",
            "WORKER_CONCURRENCY": "2",
            "WEB_WORKERS": "1",
            "SWEEP_INTERVAL": "1",
            **settings,
        }
        self._process: subprocess.Popen[bytes] | None = None
        self._log = data.parent / f"{data.name}.log"

    @property
    def printed(self) -> str:
        """All it has written since the last start."""
        return self._log.read_text(errors="replace")

    def start(self) -> None:
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "manage.py", "serve"],
                cwd=PROJECT,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                process_group=0,
            )
        services.wait_until(lambda: "It arrives in" in self.printed or self.exit_code is not None, "the start", 150)
        assert self.exit_code is None, self.printed

    @property
    def exit_code(self) -> int | None:
        return self._process.poll() if self._process else None

    def send_signal(self, number: int) -> None:
        assert self._process
        self._process.send_signal(number)

    def stop(self, number: int = signal.SIGTERM) -> int:
        """The exit code after an orderly end. Tests beside this one may keep the machine busy."""
        self.send_signal(number)
        assert self._process
        return self._process.wait(90)

    def kill(self) -> None:
        """`kill -9` of the whole group, and of nothing else."""
        assert self._process
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(10)

    def processes(self) -> dict[int, str]:
        """Every living process of this installation with its command, found by its environment.

        The broker writes its title over its environment, but works in the data folder.
        """
        mark, found = f"DATA_DIR={self.data}\0".encode(), {}
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                ours = mark in (folder / "environ").read_bytes() + b"\0"
                ours = ours or (folder / "cwd").readlink() == self.data / "broker"
                if ours and _state(folder) not in "ZX":
                    found[int(folder.name)] = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        return found

    def manage(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "manage.py", *arguments],
            check=False,
            cwd=PROJECT,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=60,
        )

    def credentials(self) -> dict[str, str]:
        return json.loads((self.data / "demo-credentials").read_text())

    def line(self, client: str) -> str:
        """The printed line that sends a first message with swaks, curl or python3."""
        found = re.search(rf"^  ((?:printf .*)?{client} .*)$", self.printed, re.MULTILINE)
        assert found, self.printed
        return found[1]

    def arrived(self) -> dict[str, bytes]:
        """The messages in the outbox folder by file name."""
        return {path.name: path.read_bytes() for path in self.outbox.glob("*.eml")} if self.outbox.exists() else {}

    def wait_for(self, count: int, seconds: float = 30) -> dict[str, bytes]:
        services.wait_until(lambda: len(self.arrived()) >= count, f"the arrival of {count} messages", seconds)
        return self.arrived()


def _state(folder: Path) -> str:
    return (folder / "stat").read_text().rpartition(")")[2].split()[0]


@contextlib.contextmanager
def installation(data: Path, **settings: str) -> Iterator[Installation]:
    """An installation, not started yet; whatever is left of it at the end is killed."""
    made = Installation(data, **settings)
    try:
        yield made
    finally:
        deadline = time.monotonic() + 10
        while (left := made.processes()) and time.monotonic() < deadline:
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.1)


def without_trace(received: bytes) -> bytes:
    """What the client sent: everything after the one Received field that we put first (SMTP-8)."""
    assert received.startswith(b"Received: ")
    lines = received.splitlines(keepends=True)
    ours = 1 + next(number for number, line in enumerate(lines[1:]) if not line.startswith((b" ", b"\t")))
    return b"".join(lines[ours:])
