"""The processes of an installation on one machine."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from django.conf import settings

from delivery import queues


@dataclass(frozen=True, slots=True)
class Role:
    """One process: its command, how long it may take to finish what it is doing when told to stop (in seconds), and
    where it says what is wrong."""

    name: str
    command: list[str]
    patience: float
    complains: str = "in the lines above"


def broker(command: list[str], log: Path) -> Role:
    return Role("broker", command, 10, complains=f"in {log}")


def roles() -> list[Role]:
    """In the order they start. They stop the other way round: the listener first, so that nothing new comes in."""
    python, manage = sys.executable, str(Path(settings.BASE_DIR) / "manage.py")
    celery = [python, "-m", "celery", "--app", "smtpproxy", "--quiet"]
    gunicorn = [python, "-m", "gunicorn", "--config", "python:smtpproxy.gunicorn_config", "smtpproxy.wsgi"]
    # Nobody else looks at what its worker left out.
    every_queue = ["-Q", ",".join(queues.NAMES)]
    worker_options = ["--without-gossip", "--without-mingle", "--without-heartbeat", *every_queue]
    ingest = [Role("ingest", [python, manage, "runingest"], 30)] if settings.INGEST["QUEUES"] else []
    return [
        Role("web", gunicorn, 25),
        Role("beat", [*celery, "beat", "--pidfile="], 5),
        Role("worker", [*celery, "worker", *worker_options], settings.CELERY_WORKER_SOFT_SHUTDOWN_TIMEOUT + 10),
        *ingest,
        Role("listener", [python, manage, "runsmtp"], settings.SMTP["DRAIN_TIMEOUT"] + 5),
    ]
