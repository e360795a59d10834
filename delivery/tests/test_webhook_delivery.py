"""Tenants' webhooks are told of what happens to their mail, in the end, whatever their server does. EVT-3, EVT-4."""

import threading
import time
from datetime import timedelta

import pytest
from django.db import connection
from django.utils import timezone
from structlog.testing import capture_logs

from accounts.models import AuditEntry
from accounts.tests.factories import AccountFactory
from delivery import chores, events, outbox
from delivery.models import Event, EventType, OutboxEntry, Webhook, WebhookAttempt, WebhookDelivery
from delivery.outgoing import answers, posting, relay
from delivery.tests.factories import MessageFactory, WebhookDeliveryFactory, WebhookFactory
from delivery.tests.subscribers import Receiver, reply

pytestmark = pytest.mark.django_db
SECRET = "whsec_of_a_test"


@pytest.fixture(autouse=True)
def _on_this_machine(settings):
    settings.WEBHOOK_PRIVATE_NETWORKS = True


@pytest.fixture
def receivers():
    """Makes receivers, and closes them."""
    made = []

    def make(**options):
        made.append(Receiver(SECRET, **options))
        return made[-1]

    yield make
    for receiver in made:
        receiver.close()


@pytest.fixture
def receiver(receivers):
    return receivers()


@pytest.fixture
def webhook(acme, receiver):
    return WebhookFactory(tenant=acme, url=receiver.url)


def happens(message, type_=EventType.DELIVERED, times=1, **data):
    outbox.forget()
    written = [events.about(message, type_, timezone.now(), **data) for _ in range(times)]
    events.record(written)
    return written


def hand_on():
    """What the workers do when the sweep rings for them."""
    relay.fan_out(chores.Turn())
    posting.deliver(chores.Turn())


def later(**time_):
    """Let time pass for everything that waits."""
    gone = timedelta(**time_)
    for model in (WebhookDelivery, Webhook):
        for row in model.objects.filter(next_attempt_at__isnull=False):
            model.objects.filter(pk=row.pk).update(next_attempt_at=row.next_attempt_at - gone)
    for row in Webhook.objects.filter(failing_since__isnull=False):
        Webhook.objects.filter(pk=row.pk).update(failing_since=row.failing_since - gone)


def test_a_webhook_is_told_of_its_tenants_mail(acme_account, webhook, receiver):
    message = MessageFactory(account=acme_account, subject="Grüße")
    (event,) = happens(message)
    hand_on()
    (request,) = receiver.requests
    assert request.secret_used == [SECRET]
    (payload,) = receiver.told()
    assert (payload["id"], payload["type"], payload["event"]) == (str(event.pk), "mail.delivered", "delivered")
    assert (payload["message"]["id"], payload["message"]["subject"]) == (str(message.pk), "Grüße")
    delivery = WebhookDelivery.objects.get()
    assert request.headers["Smtpproxy-Event-Id"] == str(event.pk)
    assert request.headers["Smtpproxy-Delivery-Id"] == str(delivery.pk)
    assert request.headers["User-Agent"] == "smtpproxy"
    assert request.headers["Content-Type"] == "application/json"
    assert (delivery.status, delivery.tries, delivery.next_attempt_at) == ("delivered", 1, None)
    assert list(delivery.attempts.values_list("response_code", "error_text")) == [(204, "")]
    assert not OutboxEntry.objects.exists()
    assert not posting.CHORE.due()


def test_only_those_who_want_an_event_are_told(acme, globex, acme_account, receiver):
    other = AccountFactory(tenant=acme)
    all_ = WebhookFactory(tenant=acme, url=receiver.url)
    bounces = WebhookFactory(tenant=acme, url=receiver.url, event_types=["mail.bounced", "mail.failed"])
    crm = WebhookFactory(tenant=acme, url=receiver.url, account=acme_account)
    WebhookFactory(tenant=acme, url=receiver.url, account=other, event_types=["mail.opened"])
    WebhookFactory(tenant=acme, url=receiver.url, enabled=False)
    WebhookFactory(tenant=globex, url=receiver.url)
    delivered, dead = (
        happens(MessageFactory(account=acme_account), type_)[0] for type_ in ("delivered", "dead_letter")
    )
    (others,) = happens(MessageFactory(account=other), EventType.BOUNCED)
    relay.fan_out(chores.Turn())
    told = {
        webhook.pk: set(WebhookDelivery.objects.filter(webhook=webhook).values_list("event_id", flat=True))
        for webhook in Webhook.objects.all()
    }
    expected = {all_.pk: {delivered.pk, dead.pk, others.pk}, bounces.pk: {dead.pk, others.pk}}
    expected[crm.pk] = {delivered.pk, dead.pk}
    assert {pk: events for pk, events in told.items() if events} == expected


def test_what_no_webhook_wants_is_not_even_written_down(acme, acme_account):
    WebhookFactory(tenant=acme, event_types=["mail.bounced"])
    happens(MessageFactory(account=acme_account))
    assert not OutboxEntry.objects.exists()


def test_a_failure_is_tried_again_later_and_later(acme_account, webhook, receiver):
    receiver.answer = lambda handler: reply(handler, 503, b"busy\x00\nnow")
    happens(MessageFactory(account=acme_account))
    waits = []
    relay.fan_out(chores.Turn())
    for _ in range(6):
        posting.deliver(chores.Turn())
        delivery = WebhookDelivery.objects.get()
        waits.append((delivery.next_attempt_at - timezone.now()).total_seconds())
        assert not posting.CHORE.due()
        later(hours=2)
    for wait, planned in zip(waits, answers.WAITS, strict=False):
        assert 0.8 * planned - 2 < wait < 1.2 * planned + 2
    assert set(WebhookAttempt.objects.values_list("response_code", "error_text")) == {(503, "busy now")}
    receiver.answer = lambda handler: reply(handler, 200, b"thanks")
    posting.deliver(chores.Turn())
    delivery.refresh_from_db()
    assert (delivery.status, delivery.tries) == ("delivered", 7)
    webhook.refresh_from_db()
    assert (webhook.failures, webhook.failing_since, webhook.next_attempt_at) == (0, None, None)


def test_it_is_given_up_after_a_day_of_tries_and_stays_to_be_replayed(acme_account, webhook, receiver):
    receiver.answer = lambda handler: reply(handler, 400, b"no such field")
    happens(MessageFactory(account=acme_account))
    relay.fan_out(chores.Turn())
    WebhookDelivery.objects.update(tries=len(answers.WAITS))
    posting.deliver(chores.Turn())
    delivery = WebhookDelivery.objects.get()
    assert (delivery.status, delivery.next_attempt_at) == ("failed", None)
    assert 23 * 3600 < sum(answers.WAITS) < 25 * 3600


def test_a_receiver_that_is_down_for_a_while_gets_every_event_in_the_end(acme_account, receivers):
    first = receivers()
    webhook = WebhookFactory(tenant=acme_account.tenant, url=first.url)
    message = MessageFactory(account=acme_account)
    sent = happens(message, times=10)
    hand_on()
    first.close()
    for _ in range(8):
        sent += happens(message, times=5)
        hand_on()
        later(minutes=10)
    webhook.refresh_from_db()
    assert webhook.failures > answers.FAILING
    second = receivers(port=first.port)
    later(minutes=10)
    hand_on()
    told = [payload["id"] for receiver in (first, second) for payload in receiver.told()]
    assert sorted(told) == sorted(str(event.pk) for event in sent)
    assert set(WebhookDelivery.objects.values_list("status", flat=True)) == {"delivered"}


@pytest.mark.parametrize(("value", "low", "high"), [("1800", 1799, 1801), ("999999", 3599, 3601), ("1", 8, 12.1)])
def test_retry_after_is_honoured_within_bounds(value, low, high, acme_account, webhook, receiver):
    receiver.answer = lambda handler: reply(handler, 429, Retry_After=value)
    happens(MessageFactory(account=acme_account))
    hand_on()
    wait = WebhookDelivery.objects.get().next_attempt_at - timezone.now()
    assert low < wait.total_seconds() + 0.5 < high + 0.5


def test_a_webhook_that_only_fails_is_asked_less_often_and_its_deliveries_lose_no_tries(
    acme_account, webhook, receiver
):
    receiver.answer = lambda handler: reply(handler, 500)
    happens(MessageFactory(account=acme_account), times=40)
    hand_on()
    assert answers.FAILING <= len(receiver.requests) <= answers.FAILING + posting.AT_ONCE
    assert WebhookDelivery.objects.filter(tries=0, status="pending").count() == 40 - len(receiver.requests)
    assert not posting.CHORE.due()
    for _ in range(20):
        before = len(receiver.requests)
        later(minutes=6)
        assert posting.CHORE.due()
        posting.deliver(chores.Turn())
        assert len(receiver.requests) == before + 1
    receiver.answer = lambda handler: reply(handler, 200)
    later(minutes=6)
    posting.deliver(chores.Turn())
    assert not WebhookDelivery.objects.exclude(status="delivered").exists()


def test_after_a_day_of_nothing_but_failures_it_is_disabled_and_everybody_is_told(acme_account, webhook, receiver):
    receiver.answer = lambda handler: reply(handler, 500, b"Out of order")
    happens(MessageFactory(account=acme_account), times=20)
    hand_on()
    with capture_logs() as logs:
        for _ in range(10):
            later(hours=4)
            posting.deliver(chores.Turn())
    webhook.refresh_from_db()
    assert not webhook.enabled
    assert "500 Out of order" in webhook.disabled_reason
    (entry,) = AuditEntry.objects.filter(action="webhook.disabled")
    assert (entry.tenant_id, entry.target_id, entry.actor_label) == (webhook.tenant_id, str(webhook.pk), "smtpproxy")
    assert [one["log_level"] for one in logs if one["event"] == "webhook disabled"] == ["error"]
    assert WebhookDelivery.objects.filter(status="pending").count() == 20
    assert not posting.CHORE.due()
    happens(MessageFactory(account=acme_account))
    assert not OutboxEntry.objects.exists()


def test_410_gone_disables_it_at_once(acme_account, webhook, receiver):
    receiver.answer = lambda handler: reply(handler, 410)
    happens(MessageFactory(account=acme_account), times=2)
    hand_on()
    webhook.refresh_from_db()
    assert (webhook.enabled, webhook.disabled_reason) == (False, answers.GONE)


def test_a_redirect_is_not_followed(acme_account, receivers):
    other = receivers()
    receiver = receivers(answer=lambda handler: reply(handler, 307, Location=other.url))
    WebhookFactory(tenant=acme_account.tenant, url=receiver.url)
    happens(MessageFactory(account=acme_account))
    hand_on()
    assert other.requests == []
    attempt = WebhookAttempt.objects.get()
    assert attempt.response_code == 307
    assert "redirect" in attempt.error_text
    assert WebhookDelivery.objects.get().status == "pending"


def test_a_slow_receiver_holds_up_nobody_else(acme_account, receivers, settings):
    settings.WEBHOOK_TIMEOUT = 2
    quick_at = []
    slow = receivers(answer=lambda handler: time.sleep(3))
    quick = receivers(answer=lambda handler: (quick_at.append(time.monotonic()), reply(handler, 204)))
    for receiver in (slow, quick):
        WebhookFactory(tenant=acme_account.tenant, url=receiver.url)
    happens(MessageFactory(account=acme_account), times=50)
    relay.fan_out(chores.Turn())
    began = time.monotonic()
    posting.deliver(chores.Turn())
    assert len(quick.told()) == 50
    assert quick_at[-1] - began < 1.9
    assert time.monotonic() - began < 8
    assert len(slow.requests) <= 2 * posting.AT_ONCE


def test_at_the_end_of_a_turn_a_slow_receiver_holds_up_nobody_either(acme_account, receivers, settings, monkeypatch):
    settings.WEBHOOK_TIMEOUT = 2
    monkeypatch.setattr(chores, "MOST_SECONDS", 0.3)
    slow = receivers(answer=lambda handler: time.sleep(3))
    quick = receivers(answer=lambda handler: (time.sleep(0.02), reply(handler, 204)))
    for receiver in (slow, quick):
        WebhookFactory(tenant=acme_account.tenant, url=receiver.url)
    happens(MessageFactory(account=acme_account), times=200)
    relay.fan_out(chores.Turn())
    while posting.CHORE.due() and len(quick.requests) < 200:
        began = time.monotonic()
        posting.deliver(chores.Turn())
        assert time.monotonic() - began < 4
    assert len(quick.told()) == 200


@pytest.mark.parametrize("head", [b"HTTP/1.1 200 OK\r\nX: ", b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n"])
def test_an_answer_that_trickles_in_is_ended_in_time(head, acme_account, receivers, settings):
    settings.WEBHOOK_TIMEOUT = 0.6

    def trickle(handler):
        handler.wfile.write(head)
        for _ in range(100):
            handler.wfile.write(b"x")
            time.sleep(0.1)

    receiver = receivers(answer=trickle)
    WebhookFactory(tenant=acme_account.tenant, url=receiver.url)
    happens(MessageFactory(account=acme_account))
    relay.fan_out(chores.Turn())
    began = time.monotonic()
    posting.deliver(chores.Turn())
    assert time.monotonic() - began < 3
    in_body = b"Content-Length" in head  # the status has come, and that counts
    assert WebhookDelivery.objects.get().status == ("delivered" if in_body else "pending")


def test_of_a_long_answer_little_is_read_and_less_is_kept(acme_account, receivers):
    read = []

    def flood(handler):
        handler.send_response(500)
        handler.send_header("Connection", "close")
        handler.end_headers()
        try:
            for _ in range(2000):
                handler.wfile.write(b"key-0123456789abcdef0123456789abcdef " * 500)
                read.append(1)
        except OSError:
            pass

    receiver = receivers(answer=flood)
    WebhookFactory(tenant=acme_account.tenant, url=receiver.url)
    happens(MessageFactory(account=acme_account))
    hand_on()
    assert len(read) < 2000
    text = WebhookAttempt.objects.get().error_text
    assert len(text) <= 500
    assert "0123456789abcdef" not in text


def test_a_secret_that_cannot_be_read_is_its_own_trouble(acme, acme_account, webhook, receiver):
    broken = WebhookFactory(tenant=acme, url=receiver.url)
    with connection.cursor() as cursor:
        cursor.execute("UPDATE delivery_webhook SET secrets = 'gAAAA' WHERE name = %s", [broken.name])
    happens(MessageFactory(account=acme_account))
    hand_on()
    assert len(receiver.told()) == 1
    attempt = WebhookAttempt.objects.get(delivery__webhook_id=broken.pk)
    assert attempt.error_text == posting.UNSIGNED


def test_a_webhook_without_a_secret_holds_up_nobody_else(acme, acme_account, webhook, receiver):
    without = WebhookFactory(tenant=acme, url=receiver.url, secrets={})
    happens(MessageFactory(account=acme_account))
    hand_on()
    assert len(receiver.requests) == 1
    assert WebhookAttempt.objects.get(delivery__webhook=without).error_text == posting.UNSIGNED


def test_a_relay_that_dies_before_its_commit_leaves_the_entry(acme_account, webhook, receiver, monkeypatch):
    happens(MessageFactory(account=acme_account))

    class Died(Exception):
        pass

    def die(*_args, **_kwargs):
        raise Died

    with monkeypatch.context() as dying:
        dying.setattr("django.db.models.query.QuerySet.delete", die)
        with pytest.raises(Died):
            relay.fan_out(chores.Turn())
    assert OutboxEntry.objects.count() == 1
    assert not WebhookDelivery.objects.exists()
    hand_on()
    assert len(receiver.told()) == 1


def test_a_worker_that_dies_after_the_request_repeats_it_under_the_same_id(
    acme_account, webhook, receiver, monkeypatch
):
    (event,) = happens(MessageFactory(account=acme_account))

    class Died(Exception):
        pass

    def die(_answered):
        raise Died

    with monkeypatch.context() as dying:
        dying.setattr(answers, "record", die)
        with pytest.raises(Died):
            hand_on()
    assert not posting.CHORE.due()
    later(minutes=3)
    hand_on()
    assert [payload["id"] for payload in receiver.told()] == [str(event.pk)] * 2
    assert WebhookDelivery.objects.get().status == "delivered"


def test_an_answer_that_comes_after_the_lease_counts_only_if_it_is_good(acme_account, webhook):
    first, second = WebhookDeliveryFactory.create_batch(2, webhook=webhook)
    for delivery in (first, second):
        (claimed,) = posting._claim(webhook, 1, timezone.now() + timedelta(seconds=1))
        WebhookDelivery.objects.filter(pk=claimed.pk).update(lease=None)
        status = 200 if claimed.pk == first.pk else 500
        answers.record([answers.Answered(claimed, answers.Answer(status, "", 5))])
        delivery.refresh_from_db()
    assert (first.status, second.status, second.tries) == ("delivered", "pending", 0)


def test_of_many_attempts_the_newest_are_kept(acme_account, webhook):
    delivery = WebhookDeliveryFactory(webhook=webhook)
    WebhookAttempt.objects.bulk_create(
        WebhookAttempt(delivery=delivery, response_code=500, created_at=timezone.now()) for _ in range(60)
    )
    answers.record([answers.Answered(delivery, answers.Answer(201, "", 5))])
    assert delivery.attempts.count() == answers.MOST_ATTEMPTS
    assert delivery.attempts.order_by("-pk")[0].response_code == 201


def test_what_is_deleted_meanwhile_is_left_alone(acme_account, webhook, receiver):
    happens(MessageFactory(account=acme_account))
    relay.fan_out(chores.Turn())
    (claimed,) = posting._claim(webhook, 1, timezone.now())
    Event.objects.all().delete()
    assert not WebhookDelivery.objects.exists()
    answers.record([answers.Answered(claimed, answers.Answer(200, "", 5))])
    webhook.delete()
    answers.record([answers.Answered(claimed, answers.Answer(500, "", 5))])
    assert not WebhookAttempt.objects.exists()


@pytest.mark.skipif(connection.vendor != "postgresql", reason="threads cannot share SQLite's database in memory")
@pytest.mark.django_db(transaction=True)
def test_two_workers_at_once_make_each_request_once(acme_account, webhook, receiver):
    sent = happens(MessageFactory(account=acme_account), times=150)

    def run():
        try:
            hand_on()
        finally:
            connection.close()

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    hand_on()
    assert sorted(payload["id"] for payload in receiver.told()) == sorted(str(event.pk) for event in sent)
    assert set(WebhookDelivery.objects.values_list("status", flat=True)) == {"delivered"}
