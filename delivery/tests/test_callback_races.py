"""Providers that tell while we record, and twice at once: on the database as it is. EVT-1, DEL-6."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import OperationalError, connection

from delivery import callbacks
from delivery.models import EarlyEvent, Recipient, Suppression
from delivery.tests.mail import accepted
from delivery.tests.test_sender import deliver, statuses
from delivery.tests.told import told
from providers.backends.memory import MemoryBackend
from providers.models import Provider

pytestmark = pytest.mark.django_db(transaction=True)
A, B = "a@outside.example", "b@outside.example"


@pytest.fixture
def primary(box):
    return Provider.objects.get(name="primary")


def take(primary, events):
    """As a service tells: what is not taken for our own trouble is told again. (SQLite in memory, which the tests use,
    lets no second writer wait.)"""
    deadline = time.monotonic() + 20
    while True:
        try:
            return callbacks.take(primary.pk, events)
        except OperationalError:
            assert connection.vendor == "sqlite"
            assert time.monotonic() < deadline
            time.sleep(0.01)


def at_once(*calls):
    """Each call in a thread of its own, begun together; raises what any of them raised."""
    gate = threading.Barrier(len(calls))

    def run(call):
        try:
            gate.wait(10)
            return call()
        finally:
            connection.close()

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(run, calls))


def test_the_same_event_told_at_once_by_several_is_applied_once(acme_account, primary):
    message = accepted(acme_account)
    deliver(message)
    tallies = at_once(*[lambda: take(primary, [told("bounced")])] * 6)
    assert sorted(tally.applied for tally in tallies) == [0, 0, 0, 0, 0, 1]
    assert message.events.filter(type="bounced").count() == 1
    assert Suppression.objects.count() == 1


def test_different_words_told_at_once_leave_the_strongest(acme_account, primary):
    for number in range(1, 6):
        Suppression.objects.all().delete()
        message = accepted(acme_account)
        deliver(message)
        words = ("confirmed", "complained", "soft", "deferred", "bounced")
        at_once(*[lambda w=word, n=number: take(primary, [told(w, f"memory-{n}")]) for word in words])
        assert message.recipients.get().status == "complained"
        assert message.events.count() == 2 + len(words)
        assert Suppression.objects.get().reason == "complained"


def test_batches_in_opposite_orders_do_not_stop_each_other(acme_account, primary):
    addresses = [f"r{n}@outside.example" for n in range(30)]
    messages = [accepted(acme_account, None, addresses) for _ in range(3)]
    for message in messages:
        deliver(message)
    ids = [message.recipients.first().provider_message_id for message in messages]
    batch = [told("bounced", id_, address) for id_ in ids for address in addresses]
    tallies = at_once(*[lambda b=b: take(primary, b) for b in (batch, batch[::-1])] * 2)
    assert sum(tally.applied for tally in tallies) == len(batch)
    assert Suppression.objects.count() == len(addresses)


def test_a_worker_that_records_later_does_not_undo_what_the_provider_told(acme_account, primary, monkeypatch):
    """Two calls for one message: the first is recorded and bounces while the second is still being made; the end of
    the message is written with all its recipients."""
    real = MemoryBackend.send
    monkeypatch.setattr(MemoryBackend, "max_recipients", 1)
    seen = []

    def send(self, message):
        if message.recipients == (B,):
            try:
                deadline = time.monotonic() + 10
                while not (first := Recipient.objects.get(address=A)).provider_message_id:
                    assert time.monotonic() < deadline
                    time.sleep(0.02)
                seen.append(take(primary, [told("bounced", first.provider_message_id, A)]).applied)
            finally:
                connection.close()
        return real(self, message)

    monkeypatch.setattr(MemoryBackend, "send", send)
    message = accepted(acme_account, None, [A, B])
    deliver(message)
    assert seen == [1]
    assert statuses(message) == {A: "bounced", B: "delivered"}
    assert message.status == "delivered"


def test_a_provider_faster_than_our_commit_is_heard(acme_account, primary, monkeypatch):
    real = MemoryBackend.send

    def send(self, message):
        result = real(self, message)
        try:
            assert take(primary, [told("bounced", result.provider_message_id)]).early == 1
        finally:
            connection.close()
        return result

    monkeypatch.setattr(MemoryBackend, "send", send)
    message = accepted(acme_account)
    deliver(message)
    assert statuses(message) == {"someone@outside.example": "delivered"}
    assert callbacks.apply_early() == 1
    assert statuses(message) == {"someone@outside.example": "bounced"}
    assert not EarlyEvent.objects.exists()


def test_events_poured_in_while_mail_is_sent_are_neither_lost_nor_a_hindrance(acme_account, primary, monkeypatch):
    """Every mail is told of by another thread while it is being recorded; nothing is lost and nothing deadlocks."""
    real = MemoryBackend.send
    pool = ThreadPoolExecutor(4)
    told_of = []

    def tell(id_):
        try:
            time.sleep(0.005 * (hash(id_) % 7))
            return take(primary, [told("confirmed", id_), told("bounced", id_)])
        finally:
            connection.close()

    def send(self, message):
        result = real(self, message)
        told_of.append(pool.submit(tell, result.provider_message_id))
        return result

    monkeypatch.setattr(MemoryBackend, "send", send)
    messages = [accepted(acme_account, None, [f"x{n}@outside.example", "someone@outside.example"]) for n in range(40)]
    deliver(*messages)
    tallies = [future.result(30) for future in told_of]
    pool.shutdown()
    callbacks.apply_early()
    assert sum(len(tally.strange) for tally in tallies) == 0
    assert [str(message.status) for message in messages] == ["delivered"] * 40
    assert set(Recipient.objects.filter(address="someone@outside.example").values_list("status", flat=True)) == {
        "bounced"
    }
    assert not EarlyEvent.objects.exists()
