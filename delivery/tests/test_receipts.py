"""What is handed over again under its key makes no second message: AMQP-1, API-2."""

import os
import socket
import threading
import time
import uuid
from contextlib import contextmanager
from datetime import timedelta

import kombu
import pytest
from celery import current_app
from django.db import connection, connections, transaction
from django.utils import timezone

from accounts import quotas
from accounts.quotas import Period
from delivery import intake, receipts, ringing, store
from delivery.exceptions import BodyNotFound, Deferred, Rejected
from delivery.models import Event, Message, MessageStatus, Receipt
from delivery.submission import Accepted
from delivery.tests.mail import BytesBody, raw_message, submission

pytestmark = pytest.mark.django_db


def keyed(account, key="order-1", fingerprint="f", source=Message.Source.AMQP, raw=None, **values):
    one = submission(account, raw, key=key, fingerprint=fingerprint, **values)
    object.__setattr__(one, "source", source)
    return one


def test_what_has_a_key_has_a_receipt_written_with_its_message(acme_account, broker):
    one = keyed(acme_account)
    [answer] = intake.accept([one])
    receipt = Receipt.objects.get()
    assert (answer.receipt, answer.repeated) == (receipt, False)
    assert (receipt.message_id, receipt.key, receipt.source, receipt.told_at) == (
        one.message_id,
        "order-1",
        "amqp",
        None,
    )


def test_without_a_key_there_is_none(acme_account, broker):
    [answer] = intake.accept([submission(acme_account)])
    assert answer.receipt is None
    assert not Receipt.objects.exists()


def test_the_same_again_is_answered_as_the_first_and_leaves_nothing(acme_account, broker):
    [first] = intake.accept([keyed(acme_account)])
    again = keyed(acme_account)
    [answer] = intake.accept([again])
    assert (answer.message_id, answer.receipt.pk) == (first.message_id, first.receipt.pk)
    assert (answer.repeated, answer.altered) == (True, False)
    assert Message.objects.count() == Event.objects.count() == 1
    with pytest.raises(BodyNotFound):
        store.read(store.key_for(again.message_id))


def test_the_same_key_for_something_else_is_told_apart(acme_account, broker):
    """API-2: the door answers 409."""
    intake.accept([keyed(acme_account)])
    [answer] = intake.accept([keyed(acme_account, fingerprint="other")])
    assert (answer.repeated, answer.altered) == (True, True)


def test_a_key_belongs_to_one_account_and_one_door(acme_account, globex_account, broker):
    answers = intake.accept(
        [
            keyed(acme_account),
            keyed(acme_account, source=Message.Source.HTTP),
            keyed(globex_account, mail_from="erp@globex.example", raw=raw_message(sender="erp@globex.example")),
        ]
    )
    assert [answer.repeated for answer in answers] == [False] * 3
    assert Message.objects.count() == 3


def test_one_batch_may_hold_the_same_several_times(acme_account, broker):
    batch = [keyed(acme_account, key) for key in ("a", "b", "a", "a", "b")]
    answers = intake.accept(batch)
    assert [answer.repeated for answer in answers] == [False, False, True, True, True]
    assert len({answer.receipt.pk for answer in answers}) == Message.objects.count() == 2


def test_what_repeats_a_refused_message_is_refused_with_it(acme_account, broker):
    bad = {"mail_from": "ceo@globex.example"}
    same, other = keyed(acme_account, **bad), keyed(acme_account, fingerprint="other")
    answers = intake.accept([keyed(acme_account, **bad), same, other])
    assert [type(answer) for answer in answers] == [Rejected, Rejected, Deferred]
    [answer] = intake.accept([other])
    assert answer.repeated is False


def test_a_repeat_is_answered_although_the_rules_have_changed(acme_account, broker):
    intake.accept([keyed(acme_account)])
    acme_account.allowed_senders = []
    acme_account.save()
    intake.forget_accounts()
    [answer] = intake.accept([keyed(acme_account)])
    assert answer.repeated


def used(account):
    return {usage.quota.period: usage.used for usage in quotas.usages(account)}


def test_repeats_are_not_counted(acme_account, broker):
    """LIM-1."""
    acme_account.messages_per_month = 5
    acme_account.save()
    for _ in range(3):
        intake.accept([keyed(acme_account), keyed(acme_account)])
    assert used(acme_account) == {Period.MONTH: 1}


def test_who_comes_between_the_look_and_the_writing_is_found_too(acme_account, broker, monkeypatch):
    """Another process has written the same receipt meanwhile."""
    acme_account.messages_per_month = 5
    acme_account.save()
    [first] = intake.accept([keyed(acme_account)])
    monkeypatch.setattr(receipts, "answer_known", lambda submissions, answers: list(submissions))
    second, third = keyed(acme_account), keyed(acme_account, "order-2")
    answers = intake.accept([second, third])
    assert [answer.repeated for answer in answers] == [True, False]
    assert answers[0].receipt.pk == first.receipt.pk
    assert used(acme_account) == {Period.MONTH: 2}
    assert set(Message.objects.values_list("pk", flat=True)) == {first.message_id, third.message_id}
    with pytest.raises(BodyNotFound):
        store.read(store.key_for(second.message_id))


@pytest.mark.django_db(transaction=True)
def test_a_repeat_that_is_scheduled_leaves_no_event_of_a_message_that_is_none(acme_account, broker, monkeypatch):
    """DEL-11."""
    later = timezone.now() + timedelta(hours=1)
    [first] = intake.accept([keyed(acme_account, scheduled_at=later)])
    monkeypatch.setattr(receipts, "answer_known", lambda submissions, answers: list(submissions))
    [answer] = intake.accept([keyed(acme_account, scheduled_at=later)])
    assert (answer.repeated, answer.message_id) == (True, first.message_id)
    assert Event.objects.filter(type="scheduled").count() == 1


@pytest.mark.django_db(transaction=True)
def test_of_many_at_once_one_makes_a_message(acme_account, broker):
    """Batches in opposite orders: nobody waits in a circle."""
    if connection.vendor != "postgresql":
        pytest.skip("SQLite in memory, as tests have it, locks whole tables and waits for none")
    start, answers = threading.Barrier(4), []

    def hand_over(keys):
        try:
            start.wait(10)
            answers.extend(intake.accept([keyed(acme_account, key) for key in keys]))
        finally:
            connections.close_all()

    keys = [f"order-{n}" for n in range(20)]
    threads = [threading.Thread(target=hand_over, args=(order,)) for order in (keys, keys[::-1], keys, keys[::-1])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert [type(answer) for answer in answers] == [Accepted] * 80
    assert Message.objects.count() == Receipt.objects.count() == 20
    assert sum(not answer.repeated for answer in answers) == 20


@pytest.mark.django_db(transaction=True)
def test_the_second_waits_for_the_first_and_takes_its_place_if_that_fails(acme_account, broker):
    if connection.vendor != "postgresql":
        pytest.skip("SQLite lets one transaction write at a time")
    answers = []

    def second():
        try:
            answers.extend(intake.accept([keyed(acme_account)]))
        finally:
            connections.close_all()

    thread = threading.Thread(target=second)
    with transaction.atomic():
        row = receipts.new(keyed(acme_account))
        Receipt.objects.bulk_create([row], ignore_conflicts=True)
        thread.start()
        thread.join(0.3)
        assert thread.is_alive()
        transaction.set_rollback(True)
    thread.join(10)
    assert [answer.repeated for answer in answers] == [False]
    assert Receipt.objects.get().message_id == answers[0].message_id


class TestWhenTheBrokerOfTasksIsDown:
    """ACC-3."""

    @pytest.fixture(autouse=True)
    def _no_broker(self, monkeypatch, settings):
        dead = kombu.Connection("redis://127.0.0.1:1/0", transport_options=settings.CELERY_BROKER_TRANSPORT_OPTIONS)
        monkeypatch.setattr(current_app.amqp, "_producer_pool", kombu.pools.producers[dead])
        monkeypatch.setattr(ringing, "RING_WAITS", (0.01,))

    def test_what_is_given_up_may_be_handed_over_again(self, acme_account):
        [answer] = intake.accept([keyed(acme_account, source=Message.Source.HTTP)])
        assert (type(answer), answer.code) == (Deferred, "enqueue_failed")
        assert not Receipt.objects.exists()

    def test_what_rabbitmq_has_brought_is_accepted_and_left_to_the_sweeper(self, acme_account):
        answers = intake.accept([keyed(acme_account), submission(acme_account)])
        assert [type(answer) for answer in answers] == [Accepted, Deferred]
        message = Message.objects.get(pk=answers[0].message_id)
        assert (message.status, message.next_attempt_at is not None) == (MessageStatus.QUEUED, True)


def test_it_is_noted_once_that_the_other_side_was_told(acme_account, broker):
    [answer] = intake.accept([keyed(acme_account)])
    receipts.told([answer.receipt.pk, uuid.uuid4()])
    when = Receipt.objects.get().told_at
    assert when is not None
    receipts.told([answer.receipt.pk])
    assert Receipt.objects.get().told_at == when


def test_one_message_that_cannot_be_stored_leaves_no_receipt(acme_account, broker):
    class Broken(BytesBody):
        def open(self):
            raise OSError("disk gone")

    good, bad = keyed(acme_account), keyed(acme_account, "order-2")
    object.__setattr__(bad, "body", Broken(raw_message()))
    intake.accept([good, bad])
    assert Receipt.objects.get().key == "order-1"


@pytest.mark.django_db(transaction=True)
def test_a_body_stays_when_the_link_breaks_in_a_commit_that_the_database_ends_later(acme_account, broker):
    """ACC-2: its rows may become visible after somebody has looked for them, and the receipt ends the matter."""
    if connection.vendor != "postgresql":
        pytest.skip("SQLite has no link that could break")
    one, answers = keyed(acme_account), []

    def accept():
        try:
            connection.ensure_connection()
            link = socket.socket(fileno=os.dup(connection.connection.pgconn.socket))
            threading.Timer(0.4, link.shutdown, [socket.SHUT_RDWR]).start()
            answers.extend(intake.accept([one]))
        finally:
            connections.close_all()

    with slow_commits(1.0):
        thread = threading.Thread(target=accept)
        thread.start()
        thread.join(10)
        assert [answer.code for answer in answers] == ["internal"]
        assert not Message.objects.exists()
        until = time.monotonic() + 10
        while not Message.objects.exists() and time.monotonic() < until:
            time.sleep(0.05)
    [again] = intake.accept([keyed(acme_account)])
    assert (again.message_id, again.repeated) == (one.message_id, True)
    assert store.read(Message.objects.get().store_key)


@contextmanager
def slow_commits(seconds):
    """Each commit that writes a message takes so long in the database itself."""
    with connection.cursor() as cursor:
        cursor.execute(
            f"""
            CREATE FUNCTION slow() RETURNS trigger AS 'BEGIN PERFORM pg_sleep({seconds}); RETURN NULL; END'
            LANGUAGE plpgsql;
            CREATE CONSTRAINT TRIGGER slow AFTER INSERT ON delivery_message
            DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION slow();
            """
        )
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            cursor.execute("DROP TRIGGER slow ON delivery_message; DROP FUNCTION slow()")
