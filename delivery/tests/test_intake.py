"""Acceptance: ACC-1, ACC-2, ACC-3, ACC-5, ACC-8, SMTP-6."""

import json
import threading
import uuid
from datetime import timedelta

import kombu
import pytest
from django.db import connection, transaction
from django.utils import timezone

from accounts.models import Account
from delivery import intake, queue, ringing, store
from delivery.exceptions import BodyNotFound, Deferred, Rejected
from delivery.models import Event, Message, MessageStatus, Recipient
from delivery.submission import Accepted
from delivery.tests.mail import BytesBody, accepted, raw_message, submission

pytestmark = pytest.mark.django_db


def rings(broker, name="outbound.deliver"):
    """The payloads that wait in a queue."""
    import base64

    bodies = [json.loads(entry) for entry in broker.lrange(name, 0, -1)]
    return [json.loads(base64.b64decode(body["body"]))[0] for body in bodies]


def test_an_accepted_message_has_its_bytes_rows_event_and_ring(acme_account, broker):
    raw = raw_message("Message-ID: <1@acme.example>", "Content-Type: multipart/mixed; boundary=x")
    message = accepted(acme_account, raw, ["a@Outside.Example", "b@outside.example"], client_ip="192.0.2.7")
    assert store.read(message.store_key) == raw
    assert message.status == MessageStatus.QUEUED
    assert (message.subject, message.message_id_header, message.size) == ("Greetings", "<1@acme.example>", len(raw))
    assert message.has_attachments
    assert message.tenant == acme_account.tenant
    assert [r.address for r in message.recipients.all()] == ["a@outside.example", "b@outside.example"]
    assert [event.type for event in message.events.all()] == ["received"]
    assert rings(broker, "outbound.large") == [[[str(message.pk)]]]


def test_a_fresh_message_is_not_due_before_its_ring_has_had_a_minute(acme_account, broker):
    """ACC-3."""
    message = accepted(acme_account)
    assert timedelta(seconds=50) < message.next_attempt_at - timezone.now() <= timedelta(seconds=60)


def test_the_queue_carries_ids_only(acme_account, broker):
    """ACC-8."""
    message = accepted(acme_account, raw_message(body="a very secret body\r\n"))
    [entry] = broker.lrange("outbound.deliver", 0, -1)
    assert str(message.pk).encode() in __import__("base64").b64decode(json.loads(entry)["body"])
    assert b"secret" not in entry


def test_one_address_given_twice_is_one_recipient(acme_account, broker):
    message = accepted(acme_account, None, ["a@outside.example", "a@OUTSIDE.example", "A@outside.example"])
    assert [r.address for r in message.recipients.all()] == ["a@outside.example", "A@outside.example"]
    assert message.recipient_count == 2


def test_messages_of_a_batch_are_written_in_one_transaction_with_one_ring(
    acme_account, broker, django_assert_max_num_queries
):
    """ACC-5."""
    batch = [submission(acme_account) for _ in range(40)]
    with django_assert_max_num_queries(8):
        answers = intake.accept(batch)
    assert [answer.message_id for answer in answers] == [one.message_id for one in batch]
    assert Message.objects.count() == 40
    assert len(rings(broker)) == 1


@pytest.mark.parametrize(
    ("values", "raw", "code"),
    [
        ({"mail_from": "ceo@globex.example"}, None, "sender_not_allowed"),
        ({"mail_from": ""}, None, "sender_not_allowed"),
        ({}, raw_message(sender="ceo@globex.example"), "header_sender_not_allowed"),
        ({}, raw_message(sender="crm@acme.example, ceo@globex.example"), "header_sender_not_allowed"),
        ({}, raw_message("From: ceo@globex.example"), "header_sender_not_allowed"),
        ({}, raw_message("Sender: ceo@globex.example"), "header_sender_not_allowed"),
        ({}, raw_message("FROM : ceo@globex.example"), "header_sender_not_allowed"),
        ({}, b"To: a@outside.example\r\n\r\nNo author.\r\n", "no_from"),
        ({}, b"", "no_from"),
        ({}, raw_message(sender="undisclosed:;"), "no_from"),
    ],
)
def test_a_sender_that_is_not_the_accounts_own_is_rejected_and_leaves_nothing(acme_account, broker, values, raw, code):
    """SMTP-6."""
    one = submission(acme_account, raw, **values)
    [answer] = intake.accept([one])
    assert isinstance(answer, Rejected)
    assert answer.code == code
    assert not Message.objects.exists()
    with pytest.raises(BodyNotFound):
        store.read(store.key_for(one.message_id))
    assert rings(broker) == []


def test_an_account_that_may_send_bounces_may_use_the_empty_sender(acme_account, broker):
    acme_account.may_send_bounces = True
    acme_account.save()
    assert accepted(acme_account, mail_from="").mail_from == ""


def test_an_account_suspended_after_signing_in_is_rejected(acme_account, broker):
    acme_account.status = Account.Status.SUSPENDED
    acme_account.save()
    [answer] = intake.accept([submission(acme_account)])
    assert isinstance(answer, Rejected)
    assert answer.code == "suspended"


def test_an_account_that_is_gone_is_rejected(acme_account, broker):
    one = submission(acme_account)
    acme_account.delete()
    [answer] = intake.accept([one])
    assert (type(answer), answer.code) == (Rejected, "unknown_account")


def test_one_refused_message_costs_the_others_of_its_batch_nothing(acme_account, broker):
    good, bad, other = submission(acme_account), submission(acme_account, mail_from="x@globex.example"), None
    other = submission(acme_account)
    answers = intake.accept([good, bad, other])
    assert [type(answer) for answer in answers] == [Accepted, Rejected, Accepted]
    assert Message.objects.count() == 2


def test_a_body_that_cannot_be_read_defers_its_message_only(acme_account, broker):
    class Broken(BytesBody):
        def open(self):
            raise OSError("disk gone")

    good, bad = submission(acme_account), submission(acme_account)
    object.__setattr__(bad, "body", Broken(raw_message()))
    answers = intake.accept([good, bad])
    assert [type(answer) for answer in answers] == [Accepted, Deferred]
    assert Message.objects.get().pk == good.message_id


def test_a_row_the_database_refuses_defers_its_message_only_and_takes_its_body_away(acme_account, broker):
    good, bad = submission(acme_account), submission(acme_account)
    too_long = "x" * 400 + "@acme.example"
    object.__setattr__(bad, "mail_from", too_long)
    if connection.vendor != "postgresql":
        pytest.skip("SQLite keeps texts of any length")
    with transaction.atomic():
        answers = intake.accept([good, bad])
    assert [type(answer) for answer in answers] == [Accepted, Deferred]
    with pytest.raises(BodyNotFound):
        store.read(store.key_for(bad.message_id))


def test_a_message_without_words_for_the_database_is_still_taken(acme_account, broker):
    """NUL in a header would be refused by PostgreSQL."""
    message = accepted(acme_account, raw_message("X-A: b").replace(b"Greetings", b"=?utf-8?q?a=00b?="))
    assert "\x00" not in message.subject


class TestWhenTheBrokerIsDown:
    """ACC-3."""

    @pytest.fixture(autouse=True)
    def _no_broker(self, monkeypatch, settings):
        # A closed port of this machine: real refusals.
        dead = kombu.Connection("redis://127.0.0.1:1/0", transport_options=settings.CELERY_BROKER_TRANSPORT_OPTIONS)
        from celery import current_app

        pool = kombu.pools.producers[dead]
        monkeypatch.setattr(current_app.amqp, "_producer_pool", pool)
        monkeypatch.setattr(ringing, "RING_WAITS", (0.01, 0.02, 0.03))

    def test_the_client_is_told_to_send_again_and_the_row_is_never_due(self, acme_account, caplog):
        one = submission(acme_account)
        [answer] = intake.accept([one])
        assert (type(answer), answer.code) == (Deferred, "enqueue_failed")
        message = Message.objects.get(pk=one.message_id)
        assert message.status == MessageStatus.ENQUEUE_FAILED
        assert message.next_attempt_at is None
        assert [event.type for event in message.events.all()] == ["received", "dead_letter"]
        tries = [r for r in caplog.records if "ring failed" in r.getMessage()]
        assert len(tries) == 4
        assert all(str(one.message_id) in r.getMessage() for r in tries)

    def test_accept_mode_says_yes_and_leaves_the_row_to_the_sweeper(self, acme_account, settings):
        settings.ENQUEUE_FAILURE = "accept"
        message = accepted(acme_account)
        assert message.status == MessageStatus.QUEUED
        assert message.next_attempt_at is not None

    def test_a_message_a_worker_has_claimed_meanwhile_is_accepted(self, acme_account, monkeypatch):
        one = submission(acme_account)
        fail = queue.ring

        def claimed_while_ringing(ids, *args):
            Message.objects.filter(pk__in=ids).update(status=MessageStatus.PROCESSING, lease=uuid.uuid4())
            return fail(ids, *args)

        monkeypatch.setattr(queue, "ring", claimed_while_ringing)
        [answer] = intake.accept([one])
        assert isinstance(answer, Accepted)
        assert Message.objects.get().status == MessageStatus.PROCESSING


def test_a_scheduled_message_is_not_rung_for(acme_account, broker):
    """DEL-2: a scheduled send is a later next_attempt_at."""
    later = timezone.now() + timedelta(hours=2)
    message = accepted(acme_account, scheduled_at=later)
    assert (message.status, message.next_attempt_at) == (MessageStatus.SCHEDULED, later)
    assert rings(broker) == []


def test_rows_are_written_with_their_message(acme_account, broker):
    accepted(acme_account)
    assert Recipient.objects.count() == 1
    assert Event.objects.count() == 1


def test_nothing_is_committed_after_its_time(acme_account, broker):
    """ACC-1: the client has been told to send again by then."""
    one = submission(acme_account)
    [answer] = intake.accept([one], within=-1.0)
    assert isinstance(answer, Deferred)
    assert not Message.objects.exists()
    with pytest.raises(BodyNotFound):
        store.read(store.key_for(one.message_id))


def test_what_was_accepted_too_late_can_be_withdrawn_until_a_worker_has_it(acme_account, broker):
    message, claimed = accepted(acme_account), accepted(acme_account)
    Message.objects.filter(pk=claimed.pk).update(status=MessageStatus.PROCESSING)
    assert intake.withdraw(message.pk)
    assert not intake.withdraw(claimed.pk)
    message.refresh_from_db()
    assert (message.status, message.next_attempt_at) == (MessageStatus.ENQUEUE_FAILED, None)


def test_an_account_is_read_once_a_second_at_most_and_again_after_that(
    acme_account, broker, monkeypatch, django_assert_num_queries
):
    """SMTP-5: a suspension counts within seconds."""
    accepted(acme_account)
    with django_assert_num_queries(0):
        assert intake._accounts({acme_account.pk}) == {acme_account.pk: acme_account}
    monkeypatch.setattr(intake, "ACCOUNT_SECONDS", 0.0)
    Account.objects.update(status=Account.Status.SUSPENDED)
    [answer] = intake.accept([submission(acme_account)])
    assert (type(answer), answer.code) == (Rejected, "suspended")


def test_threads_may_look_up_accounts_at_the_same_time(acme_account, broker, monkeypatch):
    """A walk over what another thread changes would cost a whole batch its 250."""
    intake._accounts({acme_account.pk})
    monkeypatch.setattr(intake, "MOST_ACCOUNTS", 5)
    stop, errors = threading.Event(), []

    def churn():
        while not stop.is_set():
            for _ in range(50):
                intake._known_accounts[uuid.uuid4()] = intake._known_accounts.get(acme_account.pk, (acme_account, 0.0))
            intake._known_accounts.clear()

    other = threading.Thread(target=churn)
    other.start()
    try:
        for _ in range(300):
            intake._accounts({acme_account.pk})
    except RuntimeError as error:
        errors.append(error)
    finally:
        stop.set()
        other.join()
    assert errors == []
