"""`manage.py runsmtp` as a program of its own, for tests of signals and processes."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from accounts.tests.ports import free_port
from relay.tests.listening import Client

ROOT = Path(__file__).resolve().parents[2]


def wait_until(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "did not happen"
        time.sleep(0.02)


class Program:
    """Started when entered, killed when left. `output` is the log file's path."""

    def __init__(self, folder, *arguments, script=None, **changes):
        self.port, self.tls_port = free_port(), free_port()
        environment = {name: value for name, value in os.environ.items() if not name.startswith("SMTP_")}
        self.environment = {
            **environment,
            "DATA_DIR": str(folder),
            "SMTP_PORT": str(self.port),
            "SMTP_TLS_PORT": str(self.tls_port),
            **{name.upper(): str(value) for name, value in changes.items()},
        }
        self.arguments = [sys.executable, *(["-c", script] if script else ["manage.py", "runsmtp", *arguments])]
        self.output = folder / "output.log"

    def __enter__(self):
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                self.arguments, cwd=ROOT, env=self.environment, stdout=output, stderr=output, start_new_session=True
            )
        wait_until(lambda: self.answers() or self.process.poll() is not None)
        assert self.process.poll() is None, self.log()
        return self

    def __exit__(self, *_):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(10)

    def answers(self):
        with contextlib.suppress(OSError, EOFError):
            Client(self.port).close()
            return True
        return False

    def log(self):
        return self.output.read_text()

    def send(self, number):
        self.process.send_signal(number)

    def children(self):
        return [
            int(pid) for pid in Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        ]

    def client(self, **options):
        return Client(self.port, **options)
