"""A storm of redeliveries: each message three times, and consumers killed in the middle (AMQP-1).

`INGEST_STORM_MESSAGES` is how many messages there are.
"""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

import pytest
from django.conf import settings
from django.db import connection

from accounts.tests.factories import AccountFactory, TenantFactory
from accounts.tests.ports import free_port
from delivery import store
from delivery.models import Event, Message, Receipt, Recipient
from delivery.tests.workers import database_url
from relay.tests.processes import wait_until
from relay.tests.publishing import Publisher, payload

MESSAGES = int(os.environ.get("INGEST_STORM_MESSAGES", "100"))
KILLS = 2 + MESSAGES // 200
PREFETCH = 20
ROOT = Path(settings.BASE_DIR)

pytestmark = pytest.mark.django_db(transaction=True)


class Program:
    """`manage.py runingest` on the database and store of the test."""

    def __init__(self, publisher, log, **changes):
        self._log = log
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("INGEST_")},
            "DATABASE_URL": database_url(),
            "DATA_DIR": str(settings.DATA_DIR),
            "INGEST_URL": publisher.url,
            "INGEST_QUEUES": f"{publisher.queue}=crm@acme",
            "INGEST_REPLY_QUEUE": publisher.replies,
            **changes,
        }
        self.start()

    def start(self):
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "manage.py", "runingest"], cwd=ROOT, env=self._environment, stdout=log, stderr=log
            )

    def stop(self, number):
        self.process.send_signal(number)
        return self.process.wait(35)

    def log(self):
        return self._log.read_text(errors="replace")


@pytest.fixture
def publisher(rabbitmq):
    one = Publisher(rabbitmq)
    yield one
    one.close()


@pytest.fixture
def acme_crm():
    if connection.vendor != "postgresql":
        pytest.skip("SQLite in memory, as tests have it, is nothing another process can open")
    return AccountFactory(tenant=TenantFactory(slug="acme"), username="crm@acme")


@pytest.fixture
def run(publisher, acme_crm, tmp_path):
    started = []

    def start(**changes):
        started.append(Program(publisher, tmp_path / f"{len(started)}.log", **changes))
        return started[-1]

    yield start
    for one in started:
        if one.process.poll() is None:
            one.stop(signal.SIGKILL)


def published(publisher, names, times):
    copies = [name for name in names for _ in range(times)]
    random.shuffle(copies)
    for name in copies:
        publisher.publish(payload(publisher_message_id=name, subject=name))


def answers_until_silence(publisher, distinct):
    """All there are, once every message has been answered and nothing waits any more."""
    found, heard, until = [], time.monotonic(), time.monotonic() + 120
    while time.monotonic() < until:
        if message := publisher.channel.basic_get(publisher.replies, no_ack=True):
            found.append(json.loads(message.body))
            heard = time.monotonic()
        elif len({one["event_id"] for one in found}) >= distinct and time.monotonic() - heard > 3:
            return found
        else:
            time.sleep(0.02)
    raise AssertionError(f"{len(found)} answers, {publisher.depth()} messages left")


def assert_each_once(answers, names):
    receipts = {receipt.key: receipt for receipt in Receipt.objects.all()}
    assert set(receipts) == set(names)
    assert Message.objects.count() == Recipient.objects.count() == Event.objects.filter(type="received").count()
    assert set(Message.objects.values_list("subject", flat=True)) == set(names)
    assert Message.objects.count() == len(names)
    for answer in answers:
        receipt = receipts[answer["publisher_message_id"]]
        assert (answer["event_id"], answer["incoming_email_id"]) == (str(receipt.pk), str(receipt.message_id))
    assert {answer["publisher_message_id"] for answer in answers} == set(names)
    keys = set(store.iterate())
    assert {message.store_key for message in Message.objects.all()} <= keys


def test_without_a_crash_every_message_is_one_row_and_one_answer(run, publisher):
    publisher.declare()
    names = [f"order-{number}" for number in range(MESSAGES)]
    published(publisher, names, 3)
    programs = [run(), run()]
    answers = answers_until_silence(publisher, MESSAGES)
    wait_until(lambda: publisher.depth() == 0)
    assert [one.stop(signal.SIGTERM) for one in programs] == [0, 0], programs[0].log() + programs[1].log()
    assert publisher.depth() == 0
    assert len(answers) == MESSAGES
    assert_each_once(answers, names)
    assert Receipt.objects.filter(told_at=None).count() == 0


def test_with_consumers_killed_again_and_again_nothing_is_lost_or_doubled(run, publisher):
    publisher.declare()
    names = [f"order-{number}" for number in range(MESSAGES)]
    published(publisher, names, 3)
    programs, kills = [run(INGEST_PREFETCH=str(PREFETCH)) for _ in range(2)], 0
    while kills < KILLS and (before := Message.objects.count()) < MESSAGES:
        wait_until(lambda: Message.objects.count() > before, 60)
        time.sleep(random.uniform(0, 0.02))
        programs[kills % 2].stop(signal.SIGKILL)
        programs[kills % 2].start()
        kills += 1
    answers = answers_until_silence(publisher, MESSAGES)
    wait_until(lambda: publisher.depth() == 0)
    assert [one.stop(signal.SIGTERM) for one in programs] == [0, 0], programs[0].log() + programs[1].log()
    assert publisher.depth() == 0
    assert kills > 0
    assert_each_once(answers, names)
    repeats = {name: many for name, many in Counter(a["publisher_message_id"] for a in answers).items() if many > 1}
    # Only what was under way when a process died may be said again, and with the same event_id.
    assert len(repeats) <= kills * PREFETCH
    print(f"{MESSAGES} messages three times each, {kills} kills: {len(answers)} answers, {len(repeats)} repeated")


def test_the_program_says_what_is_wrong_and_does_not_start(publisher, acme_crm, tmp_path):
    for queues, text in (("", "INGEST_QUEUES names no queue"), ("a=nobody@acme", "there is no such account")):
        program = Program(publisher, log := tmp_path / "log", INGEST_QUEUES=queues, INGEST_REPLY_QUEUE="")
        assert program.process.wait(30) == 1
        assert text in log.read_text()


def probed(port, path):
    """Status and JSON, None when nobody answers."""
    try:
        with urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return answer.status, json.load(answer)
    except HTTPError as error:
        return error.code, json.load(error)
    except URLError:
        return None


def test_a_broker_that_is_away_is_asked_again_and_the_probe_says_so(run, publisher):
    port = free_port()
    program = run(INGEST_URL="amqp://guest:hunter2@127.0.0.1:1//", INGEST_HEALTH_PORT=str(port))
    wait_until(lambda: program.log().count("no link to the queue") >= 2, 30)
    assert probed(port, "/healthz")[0] == 200
    status, found = probed(port, "/readyz")
    assert (status, found["checks"]["ingest"], found["checks"]["database"]) == (503, "failed", "ok")
    assert program.stop(signal.SIGTERM) == 0
    assert "hunter2" not in program.log()


def test_the_probe_says_when_every_queue_is_read(run, publisher):
    """OBS-2, OBS-3."""
    port = free_port()
    run(INGEST_HEALTH_PORT=str(port))
    wait_until(lambda: (probed(port, "/readyz") or [0])[0] == 200, 30)
    assert probed(port, "/readyz")[1]["checks"]["ingest"] == "ok"

    def metrics():
        with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
            return answer.read().decode()

    wait_until(lambda: f'ingest_queue_depth{{queue="{publisher.queue}"}} 0.0' in metrics())
    publisher.publish(payload())
    publisher.answers()
    wait_until(lambda: 'ingest_messages_total{outcome="taken"} 1.0' in metrics())
