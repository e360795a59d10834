"""DEL-3: the scheduler sweeps by itself, whatever becomes of workers, database and broker."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from datetime import timedelta

import psycopg
import pytest
import redis
from django.conf import settings
from django.db import connection
from django.utils import timezone

from accounts.tests.ports import free_port
from delivery import queue
from delivery.models import Message
from delivery.tests.factories import MessageFactory
from delivery.tests.workers import database_url
from smtpproxy import scheduler, sweeps
from smtpproxy.celery import app
from smtpproxy.serve import broker as embedded
from smtpproxy.tests.services import port_answers, wait_until

pytestmark = pytest.mark.django_db(transaction=True)
PAST = timedelta(minutes=5)


@pytest.fixture(autouse=True)
def _needs_a_server():
    if connection.vendor != "postgresql":
        pytest.skip("a test database in memory cannot be shared with other processes")


class Broker:
    """A Redis of its own, which a test may take away and bring back."""

    def __init__(self, folder):
        self._folder = folder
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.start()

    def start(self):
        options = ["--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self._folder), "--save", ""]
        self._process = subprocess.Popen([embedded.binary(), *options], stdout=subprocess.DEVNULL)
        wait_until(lambda: port_answers(self.port), "the start of Redis")
        self.client = redis.Redis.from_url(self.url)

    def stop(self):
        self.client.close()
        self._process.kill()
        self._process.wait()


@pytest.fixture
def broker(tmp_path):
    made = Broker(tmp_path)
    yield made
    made.stop()


@contextmanager
def beat(broker, tmp_path):
    """The scheduler's own process; `log()` is what it wrote."""
    environment = {
        **os.environ,
        "DATABASE_URL": database_url(),
        "DATA_DIR": str(settings.DATA_DIR),
        "REDIS_URL": broker.url,
        "SWEEP_INTERVAL": "0.3",
    }
    with (tmp_path / "beat.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "celery", "-A", "smtpproxy", "--quiet", "beat", "--pidfile="],
            cwd=settings.BASE_DIR,
            env=environment,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def due(account):
    return MessageFactory(account=account, status="retrying", next_attempt_at=timezone.now() - PAST)


def rung(broker):
    return broker.client.lrange("outbound.retry", 0, -1)


def wait_for_rings(broker, process, count):
    wait_until(lambda: len(rung(broker)) >= count or process.poll() is not None, "the ring")
    assert process.poll() is None


def cut_database():
    """All connections to the test database but our own end, as when the server is started anew."""
    with psycopg.connect(database_url(), autocommit=True) as own:
        own.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid NOT IN (pg_backend_pid(), %s)",
            [connection.connection.info.backend_pid],
        )


def test_what_is_due_is_rung_for_without_any_worker(acme_account, broker, tmp_path):
    due(acme_account)
    with beat(broker, tmp_path) as process:
        wait_for_rings(broker, process, 1)
        wait_until(lambda: broker.client.exists(sweeps.NOTE), "the note")
        assert abs(time.time() - float(broker.client.get(sweeps.NOTE))) < 30
        sent = [json.loads(entry)["headers"]["task"] for entry in broker.client.lrange("maintenance", 0, -1)]
        assert set(sent) <= {queue.CHORE}  # the sweep itself is nobody's task
        process.terminate()
        assert process.wait(10) == 0
    assert not list(settings.DATA_DIR.glob("beat-schedule*"))


def test_it_goes_on_when_the_database_has_cut_its_connections(acme_account, broker, tmp_path):
    due(acme_account)
    with beat(broker, tmp_path) as process:
        wait_for_rings(broker, process, 1)
        for count in (2, 3):
            cut_database()
            due(acme_account)
            wait_for_rings(broker, process, count)


def test_it_goes_on_when_the_broker_was_away(acme_account, broker, tmp_path):
    due(acme_account)
    with beat(broker, tmp_path) as process:
        wait_for_rings(broker, process, 1)
        broker.stop()
        late = due(acme_account)
        wait_until(lambda: "sweep stopped by the broker" in (tmp_path / "beat.log").read_text(), "the failure")
        broker.start()
        wait_for_rings(broker, process, 1)
        wait_until(lambda: Message.objects.get(pk=late.pk).rung_at is not None, "the note in the row")
        process.terminate()
        assert process.wait(10) == 0


def test_it_starts_without_a_broker_and_ends_at_once_when_told(acme_account, broker, tmp_path):
    broker.stop()
    due(acme_account)
    with beat(broker, tmp_path) as process:
        wait_until(lambda: "sweep stopped by the broker" in (tmp_path / "beat.log").read_text(), "the failure")
        process.terminate()
        assert process.wait(10) == 0
    broker.start()


def test_a_sweep_that_hangs_does_not_hold_up_the_end(acme_account, broker, tmp_path):
    due(acme_account)
    with psycopg.connect(database_url()) as holder:
        holder.execute("LOCK TABLE delivery_message IN ACCESS EXCLUSIVE MODE")
        with beat(broker, tmp_path) as process:
            wait_until(_somebody_waits_for_the_lock, "the sweep")
            process.terminate()
            assert process.wait(10) == 0


def _somebody_waits_for_the_lock():
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_locks JOIN pg_database ON pg_database.oid = pg_locks.database "
            "WHERE NOT granted AND datname = current_database()"
        )
        return cursor.fetchone()[0] > 0


def test_a_sweep_that_fails_is_told_of_and_ends_nothing(monkeypatch, caplog, settings):
    settings.SHARED_STATE_URL = f"redis://127.0.0.1:{free_port()}/0"
    sweeps.sweep()
    monkeypatch.setattr(sweeps.sweeper, "ring_due", lambda: 1 / 0)
    sweeps.sweep()
    assert caplog.text.count("sweep failed") == 2


def test_other_entries_are_sent_as_usual():
    made = scheduler.Scheduler(app, lazy=True)
    made.add(name="other", task="delivery.tasks.deliver", schedule=60, args=[[]])
    with redis.Redis.from_url(settings.REDIS_URL) as client:
        client.delete("outbound.deliver")
        made.apply_entry(made.schedule["other"])
        [entry] = client.lrange("outbound.deliver", 0, -1)
        client.delete("outbound.deliver")
    assert json.loads(entry)["headers"]["task"] == "delivery.tasks.deliver"
