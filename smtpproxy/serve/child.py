"""One child process: started, started again when it dies, stopped."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Mapping

import structlog
from django.conf import settings

from smtpproxy import lifeline
from smtpproxy.serve.roles import Role

log = structlog.get_logger(__name__)

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 30.0
STEADY_AFTER = 60.0  # seconds alive, after which a death is not counted with those before


class Child:
    """A role and the process that plays it. The process has a group of its own, so that a Ctrl-C reaches us alone."""

    def __init__(self, role: Role, environment: Mapping[str, str]) -> None:
        self.role = role
        self._environment = environment
        self._process: subprocess.Popen[bytes] | None = None
        self._started_at = 0.0
        self._start_again_at = 0.0
        self._pause = FIRST_PAUSE

    def start(self) -> None:
        """Call it from the main thread (see `lifeline`)."""
        self._started_at = time.monotonic()
        self._process = subprocess.Popen(  # noqa: S603 -- our own commands
            self.role.command,
            env=self._environment,
            cwd=settings.BASE_DIR,
            stdin=subprocess.DEVNULL,
            process_group=0,
            preexec_fn=lifeline.tied_to_parent(),  # noqa: PLW1509 -- it only makes two system calls
        )
        log.info("process started", role=self.role.name, pid=self._process.pid)

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def tend(self) -> None:
        """Notice that it died, and start it again after a pause that doubles with every death."""
        if self.alive:
            return
        now = time.monotonic()
        if self._process is not None:
            if now - self._started_at > STEADY_AFTER:
                self._pause = FIRST_PAUSE
            log.error(
                "process died", role=self.role.name, exit_code=self._process.returncode, again_in_seconds=self._pause
            )
            self._kill_group()
            self._process = None
            self._start_again_at = now + self._pause
            self._pause = min(self._pause * 2, LONGEST_PAUSE)
        elif now >= self._start_again_at:
            self.start()

    def ask_to_stop(self) -> None:
        if self._process is not None and self.alive:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it, and whatever it has left behind, at once."""
        if self._process is not None:
            self._kill_group()
            self._process.wait()

    def _kill_group(self) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
