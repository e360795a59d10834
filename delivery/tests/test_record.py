"""What is written when leases are lost, databases go away, and steps break: DEL-1, DEL-4, DEL-5."""

import threading
import uuid

import pytest
from django.db import OperationalError, connection

from delivery import claims, record, sender
from delivery.models import Message, MessageStatus
from delivery.tests.mail import accepted
from delivery.tests.test_sender import deliver, logs, make_due, statuses
from providers.backends.memory import MemoryBackend
from providers.base import SendResult

pytestmark = pytest.mark.django_db


@pytest.fixture
def during_the_call(monkeypatch):
    """Runs `then` while the provider is being called."""
    moment = {}
    real = MemoryBackend.send

    def send(self, message):
        moment["reached"].set()
        assert moment["go"].wait(10)
        return real(self, message)

    monkeypatch.setattr(MemoryBackend, "send", send)
    moment["reached"], moment["go"] = threading.Event(), threading.Event()
    return moment


def test_a_lease_lost_before_the_call_means_no_call(acme_account, box, monkeypatch):
    message = accepted(acme_account)
    real = record.Page.write

    def another_was_faster(page):
        Message.objects.filter(pk=message.pk).update(lease=uuid.uuid4())
        return real(page)

    monkeypatch.setattr(record.Page, "write", another_was_faster)
    deliver(message)
    assert box.accepted == []
    assert message.status == MessageStatus.PROCESSING
    assert message.delivery_logs.count() == 0


def test_a_lease_lost_during_the_call_keeps_what_the_provider_said(acme_account, box, monkeypatch):
    message = accepted(acme_account)
    other = uuid.uuid4()
    stolen = threading.Event()
    writes = []
    write = record.Page.write

    def steal_then_write(page):
        if writes:
            Message.objects.filter(pk=message.pk).update(lease=other)
            stolen.set()
        writes.append(page)
        return write(page)

    monkeypatch.setattr(record.Page, "write", steal_then_write)
    deliver(message)
    assert stolen.is_set()
    assert (message.status, message.lease) == (MessageStatus.PROCESSING, other)
    assert statuses(message) == {"someone@outside.example": "delivered"}
    assert logs(message) == [("primary", "delivered")]


def test_an_outcome_is_written_once_the_database_is_back(acme_account, box, monkeypatch):
    message = accepted(acme_account)
    monkeypatch.setattr(record.time, "sleep", lambda seconds: None)
    monkeypatch.setattr(connection, "close", lambda: None)  # the test's own transaction must live
    real, failures = record.Page._write, []

    def away_for_a_while(page, held):
        if page.finished and len(failures) < 2:
            failures.append(1)
            raise OperationalError("server closed the connection unexpectedly")
        return real(page, held)

    monkeypatch.setattr(record.Page, "_write", away_for_a_while)
    deliver(message)
    assert len(failures) == 2
    assert message.status == MessageStatus.DELIVERED
    assert len(box.accepted) == 1


def test_a_page_written_twice_changes_nothing_twice(acme_account, box, monkeypatch):
    """A connection may break in COMMIT, after the server has done its part: the page is then written again."""
    message = accepted(acme_account)
    monkeypatch.setattr(record.time, "sleep", lambda seconds: None)
    monkeypatch.setattr(connection, "close", lambda: None)  # the test's own transaction must live
    real, told = record._announce, []

    def write_again_first(concluded):
        told.append(len(concluded))
        real(concluded)

    pages = []
    write = record.Page.write

    def write_twice(page):
        calls = list(page.calls)
        write(page)
        again = record.Page(calls, page.finished, page.under_way, page.recipients, page.concluded)
        write(again)
        pages.append((len(page.calls), len(again.calls)))

    monkeypatch.setattr(record, "_announce", write_again_first)
    monkeypatch.setattr(record.Page, "write", write_twice)
    deliver(message)
    assert message.status == MessageStatus.DELIVERED
    assert logs(message) == [("primary", "delivered")]
    assert [event.type for event in message.events.all()] == ["received", "delivered"]
    assert (1, 1) in pages  # the call stays to be made


def test_a_step_that_breaks_does_not_lose_the_answers_of_the_others(acme_account, box, monkeypatch):
    first = accepted(acme_account, None, ["a@outside.example"])
    second = accepted(acme_account, None, ["b@outside.example"])
    together = threading.Barrier(2)
    send, answered = MemoryBackend.send, sender.Delivery._answered
    broken = []

    def send_together(self, outbound):
        together.wait(10)  # both calls are under way when the step breaks
        return send(self, outbound)

    def break_once(self, work, job, call, answer, page):
        if not broken:
            broken.append(work.message.pk)
            raise RuntimeError("a bug")
        return answered(self, work, job, call, answer, page)

    monkeypatch.setattr(MemoryBackend, "send", send_together)
    monkeypatch.setattr(sender.Delivery, "_answered", break_once)
    with pytest.raises(RuntimeError):
        deliver(first, second)
    kept = {message.pk: message.status for message in Message.objects.all()}
    assert kept.pop(broken[0]) == MessageStatus.PROCESSING
    assert list(kept.values()) == [MessageStatus.DELIVERED]
    assert len(box.accepted) == 2


def test_a_long_send_renews_its_lease(acme_account, box, settings, during_the_call):
    """DEL-2."""
    settings.DELIVERY_LEASE = 2
    message = accepted(acme_account)
    seen = []

    def watch():
        assert during_the_call["reached"].wait(10)
        during_the_call["go"].wait(1.2)
        during_the_call["go"].set()

    real = claims.renew

    def renew(messages):
        before = Message.objects.get(pk=message.pk).next_attempt_at
        real(messages)
        seen.append(Message.objects.get(pk=message.pk).next_attempt_at - before)

    claims.renew, undo = renew, claims.renew
    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        deliver(message)
    finally:
        claims.renew = undo
        watcher.join()
    assert message.status == MessageStatus.DELIVERED
    assert seen
    assert all(step.total_seconds() > 0 for step in seen)


def test_a_message_that_cannot_be_concluded_costs_its_neighbours_nothing(acme_account, box, monkeypatch):
    odd = accepted(acme_account, None, ["odd@outside.example"])
    other = accepted(acme_account, None, ["other@outside.example"])
    real = record.conclude

    def trip(work):
        if work.message.pk == odd.pk:
            raise OverflowError("nobody thought of this")
        return real(work)

    monkeypatch.setattr(record, "conclude", trip)
    deliver(odd, other)
    assert other.status == MessageStatus.DELIVERED
    assert odd.status == MessageStatus.RETRYING
    assert statuses(odd) == {"odd@outside.example": "delivered"}
    monkeypatch.undo()
    make_due(odd)
    deliver(odd)
    assert odd.status == MessageStatus.DELIVERED
    assert len(box.accepted) == 2


def test_an_answer_nobody_understands_is_an_unknown_outcome(acme_account, box, monkeypatch):
    message = accepted(acme_account)
    monkeypatch.setattr(MemoryBackend, "send", lambda self, outbound: SendResult({"someone@outside.example": "yes"}))
    deliver(message)
    assert message.status == MessageStatus.RETRYING
    assert logs(message) == [("primary", "unknown")]
