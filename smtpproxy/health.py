"""Whether this process has what it needs (OBS-3): each check ends within a deadline, and none tells outsiders why."""

from __future__ import annotations

import io
import threading
import time
import uuid
from collections.abc import Callable, Collection
from datetime import UTC, datetime
from pathlib import Path

import redis
import structlog
from cryptography import x509
from django.conf import settings
from django.db import DEFAULT_DB_ALIAS, connections
from django.db.migrations.executor import MigrationExecutor

from accounts import wall
from delivery import store
from relay.ingest import server
from smtpproxy import sweeps
from smtpproxy.brokers import looks

log = structlog.get_logger(__name__)

DEADLINE = 3.0  # seconds for all checks together; they run side by side
CGROUP = Path("/sys/fs/cgroup")
MEMORY_LIMIT_SHARE = 0.95


class Unhealthy(Exception):
    """A check found something missing; the text is for our log."""


def database() -> None:
    with connections[DEFAULT_DB_ALIAS].cursor() as cursor:
        cursor.execute("SELECT 1")


def migrations() -> None:
    executor = MigrationExecutor(connections[DEFAULT_DB_ALIAS])
    missing = executor.migration_plan(executor.loader.graph.leaf_nodes())
    if missing:
        raise Unhealthy(f"{len(missing)} migrations are not applied")


def broker() -> None:
    if settings.ENQUEUE_FAILURE == "accept":
        return  # mail is taken without it (ACC-3)
    with redis.Redis.from_url(
        settings.SHARED_STATE_URL, socket_timeout=DEADLINE, socket_connect_timeout=DEADLINE
    ) as client:
        client.ping()
    looks.look()


def message_store() -> None:
    """Write a few octets and take them away again."""
    key = f"health/{uuid.uuid4()}"
    store.put(key, io.BytesIO(b"health\r\n"))
    store.delete(key)


def memory() -> None:
    """Where the kernel limits us (cgroup v2): what cannot be given back is well under the limit."""
    try:
        limit = (CGROUP / "memory.max").read_text().strip()
        used = int((CGROUP / "memory.current").read_text())
        statistics = dict(line.split() for line in (CGROUP / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):
        return
    if limit != "max" and used - int(statistics.get("inactive_file", 0)) > int(limit) * MEMORY_LIMIT_SHARE:
        raise Unhealthy(f"{used} of {limit} octets of memory are used")


def certificate() -> None:
    """The listener's certificate can be read and has not run out; clients would turn away."""
    if settings.SMTP["TLS_MODE"] == "none":
        return
    path = Path(settings.SMTP["TLS_CERTIFICATE"] or Path(settings.DATA_DIR) / "tls" / "development.pem")
    ends = x509.load_pem_x509_certificate(path.read_bytes()).not_valid_after_utc
    if ends < datetime.now(UTC):
        raise Unhealthy(f"the certificate ran out on {ends:%d %B %Y}")


def sweeper() -> None:
    """The scheduler has swept lately; without it nothing is sent a second time (DEL-3)."""
    silent = sweeps.silence()
    if silent is None:
        raise Unhealthy("no sweep on record")
    if silent > sweeps.longest_silence():
        raise Unhealthy(f"silent for {silent:.0f} s")


def tenant_wall() -> None:
    """Tenants are kept apart by the database as well, where it can (SEC-2)."""
    if connections[DEFAULT_DB_ALIAS].vendor == "postgresql" and settings.DB_WEB_ROLE:
        problem = wall.problem_with_role()
        if problem:
            raise Unhealthy(problem)


def ingest() -> None:
    """Every queue of the door for RabbitMQ is read."""
    if unread := server.unread():
        raise Unhealthy(f"not read: {', '.join(unread)}")


class Check:
    """One check, its last result, and how long that is good for: asking often must not cost us much.

    One that is `advisory` is told of when it fails; the process is ready all the same.
    """

    def __init__(self, name: str, run: Callable[[], None], fresh_for: float, *, advisory: bool = False) -> None:
        self.name = name
        self.advisory = advisory
        self._run = run
        self._fresh_for = fresh_for
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._good_until = 0.0
        self._failing = False

    def begin(self) -> None:
        """Start it in a thread of its own unless its last result still holds or it has not come back yet."""
        with self._lock:
            busy = self._thread is not None and self._thread.is_alive()
            if not busy and time.monotonic() >= self._good_until:
                self._thread = threading.Thread(target=self._attempt, name=f"health-{self.name}", daemon=True)
                self._thread.start()

    def end(self, deadline: float) -> bool:
        """Whether all is well, known by `deadline` (on the monotonic clock)."""
        thread = self._thread
        if thread is not None:
            thread.join(max(0.0, deadline - time.monotonic()))
        return time.monotonic() < self._good_until

    def _attempt(self) -> None:
        try:
            self._run()
        except Exception as error:  # noqa: BLE001 -- whatever it is, the process is not ready
            self._good_until = 0.0
            if not self._failing:
                event = "not well" if self.advisory else "not ready"
                log.warning(event, check=self.name, error=f"{type(error).__name__}: {error}")
            self._failing = True
        else:
            self._failing = False
            self._good_until = time.monotonic() + self._fresh_for
        finally:
            connections.close_all()


CHECKS = {
    check.name: check
    for check in (
        Check("database", database, 2),
        Check("migrations", migrations, float("inf")),  # what is applied stays applied
        Check("broker", broker, 2),
        Check("store", message_store, 15),
        Check("memory", memory, 2),
        Check("sweeper", sweeper, 10, advisory=True),
        Check("tenant_wall", tenant_wall, 60, advisory=True),
    )
}


INGEST_CHECKS = {**CHECKS, "ingest": Check("ingest", ingest, 2)}
LISTENER_CHECKS = {**CHECKS, "certificate": Check("certificate", certificate, 15)}


def readiness(checks: Collection[Check]) -> dict[str, bool]:
    """Which checks pass, within about DEADLINE seconds."""
    deadline = time.monotonic() + DEADLINE
    for check in checks:
        check.begin()
    return {check.name: check.end(deadline) for check in checks}
