"""A private smtpproxy to measure: its own PostgreSQL database, Redis database, store and processes, on loopback only.

Servers are those of this machine: `BENCH_POSTGRES_URL` (default postgres@127.0.0.1:5432, which must let us make a
database) and `BENCH_REDIS_URL` (default 127.0.0.1:6379, where the highest empty database is taken). Everything made
here is removed at the end, however the run ends short of SIGKILL.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
import redis

from accounts.tests.ports import free_port
from bench import disk
from bench.measure import cpu, cpu_alone
from bench.waiting import until

ROOT = Path(__file__).resolve().parent.parent
POSTGRES_URL = os.environ.get("BENCH_POSTGRES_URL", "postgresql://postgres@127.0.0.1:5432/postgres")
REDIS_URL = os.environ.get("BENCH_REDIS_URL", "redis://127.0.0.1:6379")
MARK = "smtpproxy-bench"
STOP_SECONDS = 40


@dataclass
class Environment:
    """What a measurement runs in. `variables` is the environment of every process started here."""

    folder: Path
    variables: dict[str, str]
    database_url: str
    redis_url: str
    postgres_pid: int | None = None
    user: str = ""
    password: str = ""
    running: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def manage(self, *arguments: str) -> str:
        """Run a management command to its end and return what it printed."""
        return self.python("manage.py", *arguments)

    def python(self, *arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=ROOT,
            env=self.variables,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"{' '.join(arguments)} failed:\n{done.stdout}{done.stderr}")
        return done.stdout

    def start(self, name: str, *arguments: str, **variables: str) -> subprocess.Popen[bytes]:
        """A process in the background, its output in `<folder>/<name>.log`, stopped at the end of the run."""
        with open(self.folder / f"{name}.log", "ab") as log:
            process = subprocess.Popen(
                [sys.executable, *arguments],
                cwd=ROOT,
                env={**self.variables, **variables},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.running.append(process)
        return process

    def stop(self, process: subprocess.Popen[bytes]) -> None:
        """SIGTERM, then SIGKILL for its whole group when it takes too long."""
        if process in self.running:
            self.running.remove(process)
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            print(f"process {process.args} did not stop within {STOP_SECONDS} s", file=sys.stderr)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    @contextlib.contextmanager
    def listener(self, processes: int, *, tls: bool = True) -> Iterator[tuple[int, int]]:
        """(port, process id) of a running listener."""
        port = free_port()
        process = self.start(
            f"listener-{port}",
            "manage.py",
            "runsmtp",
            SMTP_PORT=str(port),
            SMTP_PROCESSES=str(processes),
            SMTP_TLS_PORT="0",
            SMTP_TLS_MODE="starttls" if tls else "none",
        )
        try:
            until(lambda: process.poll() is not None or _greets(port), "the start of the listener", 30)
            if process.poll() is not None:
                log = (self.folder / f"listener-{port}.log").read_text()
                raise RuntimeError(f"the listener ended at once:\n{log[-4000:]}")
            yield port, process.pid
        finally:
            self.stop(process)

    @contextlib.contextmanager
    def workers(self, count: int, concurrency: int) -> Iterator[list[int]]:
        """Process ids of running Celery workers, the first of which also runs the scheduler."""
        workers = []
        try:
            for number in range(count):
                scheduler = ["-B"] if number == 0 else []
                workers.append(
                    self.start(
                        f"worker-{number}",
                        *("-m", "celery", "-A", "smtpproxy", "worker", "--loglevel", "WARNING"),
                        *("--hostname", f"bench{number}@%h", "--concurrency", str(concurrency)),
                        *scheduler,
                    )
                )
            yield [worker.pid for worker in workers]
        finally:
            for worker in workers:
                worker.send_signal(signal.SIGTERM)
            for worker in workers:
                self.stop(worker)

    def connect(self) -> psycopg.Connection:
        return psycopg.connect(self.database_url, autocommit=True)

    def database_cpu(self) -> float:
        """Processor seconds of PostgreSQL: of the whole server where it is ours, else of the processes that serve our
        database now (what those that have ended used cannot be told)."""
        if self.postgres_pid is not None:
            return cpu([self.postgres_pid])
        with self.connect() as connection:
            rows = connection.execute(
                "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
            ).fetchall()
        return cpu_alone(row[0] for row in rows)

    def forget(self) -> None:
        """Remove all messages and rings, so that each load begins alike; the bodies stay where they are."""
        with self.connect() as connection:
            connection.execute("TRUNCATE delivery_message CASCADE")
        server = redis.Redis.from_url(self.redis_url)
        server.flushdb()
        server.set(MARK, os.getpid())

    def empty(self) -> None:
        """Remove all messages with their bodies."""
        self.forget()
        for directory in (self.folder / "messages").glob("*"):
            if not directory.name.startswith("."):
                shutil.rmtree(directory, ignore_errors=True)


@dataclass(frozen=True)
class Place:
    """Where a measurement keeps its files, and the PostgreSQL server it makes its database on."""

    folder: Path
    postgres_url: str
    postgres_pid: int | None = None  # of a server that is ours alone

    def durability(self) -> str:
        """How this place keeps what it is given, in words; a measurement without that is worth nothing."""
        with psycopg.connect(self.postgres_url) as connection:
            rows = [connection.execute(f"SHOW {name}").fetchone() for name in ("fsync", "synchronous_commit")]
            version = connection.info.server_version
        fsync, commit = (row[0] if row else "?" for row in rows)
        kind = subprocess.run(["stat", "-f", "-c", "%T", self.folder], capture_output=True, text=True, check=True)
        return (
            f"PostgreSQL {version // 10000}.{version % 10000}, fsync={fsync}, synchronous_commit={commit}; "
            f"store with fsync on {kind.stdout.strip()}"
        )


@contextlib.contextmanager
def place(*, own: bool = False) -> Iterator[Place]:
    """A folder for temporary files, or with `own` a new file system with a new PostgreSQL server on it."""
    with contextlib.ExitStack() as stack:
        if own:
            folder = stack.enter_context(disk.own_disk())
            yield Place(folder, *stack.enter_context(disk.own_postgres(folder)))
        else:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="smtpproxy-bench-")))
            folder.chmod(0o755)
            yield Place(folder, POSTGRES_URL)


@contextlib.contextmanager
def environment(where: Place, provider_url: str = "http://127.0.0.1:9", **variables: str) -> Iterator[Environment]:
    """Make all of it, migrated and seeded, and remove it afterwards. `variables` override settings."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="data-", dir=where.folder)))
        database_url = stack.enter_context(_database(where.postgres_url))
        redis_url = stack.enter_context(_redis())
        inherited = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG", "TZ")}
        settings = {
            "DJANGO_SETTINGS_MODULE": "smtpproxy.settings",
            "DATA_DIR": str(folder),
            "STORAGE_TYPE": "local",
            "STORAGE_PATH": str(folder / "messages"),
            "DATABASE_URL": database_url.replace("postgresql://", "postgres://"),
            "DB_WEB_ROLE": "smtpproxy_bench_web",
            "QUEUE_TYPE": "redis",
            "REDIS_URL": redis_url,
            "LOG_LEVEL": "WARNING",
            "SMTP_HOSTS": "127.0.0.1",
            "SMTP_LIMIT_EXEMPT_NETWORKS": "127.0.0.0/8",
            "SMTP_MAX_CONNECTIONS": "5000",
            "SMTP_MAX_MESSAGES_PER_CONNECTION": "100000000",
        }
        made = Environment(folder, {**inherited, **settings, **variables}, database_url, redis_url, where.postgres_pid)
        try:
            made.manage("migrate", "--verbosity", "0")
            script = f"from bench.seed import seed; print(seed({provider_url!r}))"
            seeded = json.loads(made.manage("shell", "--verbosity", "0", "-c", script))
            made.user, made.password = seeded["user"], seeded["password"]
            yield made
        finally:
            for process in reversed(made.running):
                made.stop(process)


@contextlib.contextmanager
def _database(server_url: str) -> Iterator[str]:
    name = f"smtpproxy_bench_{os.getpid()}"
    with psycopg.connect(server_url, autocommit=True) as server:
        server.execute(f"CREATE DATABASE {name}")
    try:
        yield f"{server_url.rpartition('/')[0]}/{name}"
    finally:
        with psycopg.connect(server_url, autocommit=True) as server:
            server.execute(f"DROP DATABASE {name} WITH (FORCE)")


@contextlib.contextmanager
def _redis() -> Iterator[str]:
    """The URL of a database that held nothing. A mark in it keeps a second run from taking it before it is used."""
    for number in range(15, 0, -1):
        url = f"{REDIS_URL.rstrip('/')}/{number}"
        server = redis.Redis.from_url(url)
        if server.dbsize() == 0 and server.set(MARK, os.getpid(), nx=True):
            break
    else:
        raise RuntimeError(f"no empty database is left on {REDIS_URL}")
    try:
        yield url
    finally:
        server.flushdb()
        server.close()


def _greets(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1) as greeted:
        return greeted.recv(3) == b"220"
    return False
