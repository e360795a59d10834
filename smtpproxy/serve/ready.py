"""Whether an installation that has just been started does its work.

Listener and worker say so themselves, each by a file that `serve` waits for; the web is asked.
"""

from __future__ import annotations

import contextlib
import http.client
import os
from collections.abc import Collection, Mapping
from pathlib import Path

from django.conf import settings

from smtpproxy.serve.ports import ports

_FOLDER = "SMTPPROXY_READY_FOLDER"  # set by `serve` for its own processes
_ROLES = ("listener", "worker")


def note(role: str) -> None:
    """Called in the listener once it listens and in the worker once it takes tasks.

    A disk that is full does not keep them from working: only `serve` would then wait in vain.
    """
    if folder := os.environ.get(_FOLDER):
        with contextlib.suppress(OSError):
            (Path(folder) / role).touch()


class Readiness:
    """Which of listener, worker and web have not answered yet; whoever has is not asked again."""

    def __init__(self) -> None:
        self._folder = Path(settings.DATA_DIR) / "ready"
        self._folder.mkdir(mode=0o700, exist_ok=True)
        for role in _ROLES:
            (self._folder / role).unlink(missing_ok=True)  # of an earlier run
        self._waiting = {*_ROLES, "web"}

    @property
    def environment(self) -> Mapping[str, str]:
        """What the processes need, so that they can say they are ready."""
        return {_FOLDER: str(self._folder)}

    def __call__(self) -> Collection[str]:
        self._waiting = {role for role in self._waiting if not self._ready(role)}
        return self._waiting

    def _ready(self, role: str) -> bool:
        return _web_answers() if role == "web" else (self._folder / role).exists()


def _web_answers() -> bool:
    web = ports()[-1]
    connection = http.client.HTTPConnection(web.reachable_host, web.number, timeout=1)
    try:
        connection.request("GET", "/healthz")
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
