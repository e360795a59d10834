"""Real worker processes for tests that kill them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from django.conf import settings
from django.db import connection

ROOT = Path(settings.BASE_DIR)


class Worker:
    """A Celery worker in a process group of its own, on the database, broker and store of the test."""

    command: tuple[str, ...] = ("-m", "celery", "-A", "smtpproxy", "worker", "-c", "2")

    def __init__(self, log: Path, **environment: str) -> None:
        self._log = log
        self._environment = {
            **os.environ,
            "DATABASE_URL": database_url(),
            "DATA_DIR": str(settings.DATA_DIR),
            "CREDENTIAL_KEYS": ",".join(settings.CREDENTIAL_KEYS),
            **environment,
        }
        self.start()

    def start(self) -> None:
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, *self.command],
                cwd=ROOT,
                env=self._environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def kill(self) -> None:
        """SIGKILL to the worker and its children, as a machine that loses power would."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def stop(self) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def log(self) -> str:
        return self._log.read_text(errors="replace")


class Scheduler(Worker):
    """The process that sweeps."""

    command = ("-m", "celery", "-A", "smtpproxy", "beat", "--pidfile=")


def database_url() -> str:
    values = connection.settings_dict
    if connection.vendor == "sqlite":
        return f"sqlite:///{values['NAME']}"
    credentials = values["USER"] + (f":{values['PASSWORD']}" if values["PASSWORD"] else "")
    return f"postgres://{credentials}@{values['HOST']}:{values['PORT']}/{values['NAME']}"
