"""Workers that are killed lose nothing: DEL-1, DEL-3, DEL-5, QUE-2, QUE-6.

`STORM_MESSAGES` sets how many messages are sent while workers die (default 120).
"""

import os
import random
import threading
import time
from collections import Counter
from datetime import timedelta

import pytest
from django.db import connection

from delivery import intake, queue, sweeper
from delivery.models import DeliveryLog, Message, MessageStatus
from delivery.tests.mail import raw_message, submission
from delivery.tests.workers import Worker
from providers.tests.factories import ProviderFactory
from providers.tests.standins import SendGridStandIn

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow, pytest.mark.timeout(400)]
# So many kills would park innocent messages too: that a worker dies thrice over one message is no accident elsewhere.
STORM = {"DELIVERY_LEASE": "4", "PROVIDER_TIMEOUT": "1.5", "DELIVERY_BATCH": "8", "DELIVERY_MAX_CLAIMS": "100"}
MESSAGES = int(os.environ.get("STORM_MESSAGES", "120"))


@pytest.fixture(autouse=True)
def _needs_a_server(monkeypatch):
    if connection.vendor != "postgresql":
        pytest.skip("a test database in memory cannot be shared with worker processes")
    # Rings that die with a worker are rung again by the sweeper; no need to wait a minute for it here.
    monkeypatch.setattr(intake, "FIRST_LOOK", timedelta(seconds=4))
    monkeypatch.setattr(sweeper, "RING_AGAIN", timedelta(seconds=5))


@pytest.fixture
def worker(tmp_path, broker):
    made = Worker(tmp_path / "worker.log", **STORM)
    yield made
    made.stop()


def accept(account, count):
    ids = []
    for start in range(0, count, 20):
        batch = [
            submission(account, raw_message(f"X-Number: {n}"), [f"r{n}@outside.example", f"s{n}@outside.example"])
            for n in range(start, min(start + 20, count))
        ]
        ids += [answer.message_id for answer in intake.accept(batch)]
    return ids


def until_all_ended(ids, seconds):
    """Sweep until every message has ended; what has not by then is for the test to complain of."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        sweeper.ring_due()
        if not Message.objects.filter(pk__in=ids).exclude(next_attempt_at=None).exists():
            return
        time.sleep(0.5)


def kill_again_and_again(worker, stop, kills):
    """SIGKILL at moments nobody chose, until `stop`."""
    while not stop.wait(random.uniform(3.0, 6.0) if kills else random.uniform(1.0, 2.0)):
        worker.kill()
        kills.append(time.monotonic())
        worker.start()


def test_with_a_worker_killed_again_and_again_every_recipient_is_reached(acme, acme_account, tmp_path, worker):
    """A duplicate is only where the kill fell between the provider's yes and our commit, and each is on record."""
    second = Worker(tmp_path / "second.log", **STORM)
    stop, kills = threading.Event(), []
    with SendGridStandIn(delay=0.3) as service:
        ProviderFactory(tenant=acme, type="sendgrid", config=service.config())
        killer = threading.Thread(target=kill_again_and_again, args=(worker, stop, kills))
        killer.start()
        try:
            ids = accept(acme_account, MESSAGES)
            until_all_ended(ids, 300)
        finally:
            stop.set()
            killer.join()
            second.stop()
    assert Counter(Message.objects.values_list("status", flat=True)) == {MessageStatus.DELIVERED: MESSAGES}
    taken = Counter(recipient for accepted in service.accepted for recipient in accepted.recipients)
    assert set(taken) == {f"{kind}{n}@outside.example" for n in range(MESSAGES) for kind in "rs"}
    twice = sum(count - 1 for count in taken.values())
    unknown = DeliveryLog.objects.filter(status=DeliveryLog.Status.UNKNOWN)
    explained = sum(len(log.recipients) for log in unknown)
    print(f"{MESSAGES} messages, {len(kills)} kills, {unknown.count()} attempts unknown, {twice} duplicates")
    assert twice <= explained
    assert kills


def test_with_a_provider_that_knows_its_keys_every_recipient_is_reached_once(acme, acme_account, tmp_path, worker):
    """DEL-5: the idempotency key of the lost attempt makes the repetition harmless."""
    outbox = tmp_path / "outbox"
    ProviderFactory(tenant=acme, type="file", config={"directory": str(outbox)})
    stop, kills = threading.Event(), []
    killer = threading.Thread(target=kill_again_and_again, args=(worker, stop, kills))
    killer.start()
    try:
        ids = accept(acme_account, MESSAGES)
        until_all_ended(ids, 300)
    finally:
        stop.set()
        killer.join()
    assert Counter(Message.objects.values_list("status", flat=True)) == {MessageStatus.DELIVERED: MESSAGES}
    written = Counter(path.name.partition("_")[0] for path in outbox.glob("*.eml"))
    assert written == {str(id_): 1 for id_ in ids}


def test_a_message_that_kills_its_worker_is_parked_and_the_others_arrive(acme, acme_account, tmp_path, broker):
    """QUE-6: the poison is in the body, and takes the process down the moment it is sent."""
    ProviderFactory(tenant=acme, type="poison", config={})
    worker = Worker(
        tmp_path / "worker.log",
        DELIVERY_LEASE="4",
        PROVIDER_TIMEOUT="1.5",
        DJANGO_SETTINGS_MODULE="smtpproxy.tests.poison_settings",
    )
    try:
        good = accept(acme_account, 5)
        [poison] = [
            answer.message_id for answer in intake.accept([submission(acme_account, raw_message(body="POISON\r\n"))])
        ]
        until_all_ended([*good, poison], 120)
    finally:
        worker.stop()
    assert Message.objects.get(pk=poison).status == MessageStatus.DLQ
    assert set(Message.objects.filter(pk__in=good).values_list("status", flat=True)) == {MessageStatus.DELIVERED}


def test_two_workers_never_send_the_same_message(acme, acme_account, tmp_path, worker, broker):
    """DEL-1: both are rung for every message, at once."""
    second = Worker(tmp_path / "second.log", DELIVERY_LEASE="60")
    with SendGridStandIn(delay=0.02) as service:
        ProviderFactory(tenant=acme, type="sendgrid", config=service.config())
        try:
            ids = accept(acme_account, 60)
            for _ in range(4):
                for start in range(0, 60, 7):
                    queue.ring(ids[start : start + 7])
            until_all_ended(ids, 60)
        finally:
            second.stop()
    taken = Counter(recipient for accepted in service.accepted for recipient in accepted.recipients)
    assert len(taken) == 120
    assert set(taken.values()) == {1}
