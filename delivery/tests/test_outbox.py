"""What subscribers are told reaches the exchange, whatever dies or is away. EVT-4, AMQP-2."""

import contextlib
import re
import socket
import ssl
import threading
import uuid
from pathlib import Path

import pytest
import trustme
from django.conf import settings
from django.db import connection, transaction
from django.utils import timezone
from structlog.testing import capture_logs

from accounts import shared_state
from delivery import chores, control, events, intake, outbox, sender
from delivery.exceptions import ExchangeUnavailable
from delivery.models import DeliveryLog, Event, EventType, Message, OutboxEntry
from delivery.outgoing import exchange, relay
from delivery.tests.factories import DeliveryLogFactory, EventFactory, MessageFactory, RecipientFactory
from delivery.tests.mail import accepted, submission
from delivery.tests.subscribers import Consumer

pytestmark = pytest.mark.django_db
AWAY = "amqp://guest:hunter2secret@127.0.0.1:1//"


@pytest.fixture
def consumer(settings, rabbitmq):
    """Everything that is published, to an exchange of its own."""
    listening = Consumer(rabbitmq)
    settings.EVENTS_URL, settings.EVENTS_EXCHANGE = rabbitmq, listening.exchange
    yield listening
    listening.close()


def happens(message, type_=EventType.DELIVERED, **data):
    event = events.about(message, type_, timezone.now(), **data)
    events.record([event])
    return event


def test_the_sweep_looks_for_what_is_to_be_handed_on():
    queues = {name: chores.CHORES[name].queue for name in ("outbox-broker", "outbox-webhooks", "webhooks")}
    assert queues == {"outbox-broker": "events", "outbox-webhooks": "events", "webhooks": "webhooks"}


def test_without_a_subscriber_nothing_is_written(acme_account):
    happens(MessageFactory(account=acme_account))
    assert Event.objects.count() == 1
    assert not OutboxEntry.objects.exists()


def test_without_a_subscriber_no_question_is_asked_but_one_a_second(acme_account, django_assert_num_queries):
    message = MessageFactory(account=acme_account)
    happens(message)
    with django_assert_num_queries(1):  # that of the event
        happens(message)


def test_a_message_is_told_of_from_acceptance_to_outcome(acme_account, box, consumer):
    (answer,) = intake.accept([submission(acme_account, recipients=["ann@outside.example", "bert@outside.example"])])
    sender.deliver([answer.message_id])
    relay.publish(chores.Turn())
    told = dict(consumer.told())
    assert set(told) == {"mail.received", "smtp.delivery.result", "mail.delivered"}
    for payload in told.values():
        assert payload["tenant"] == {"id": str(acme_account.tenant_id), "slug": "acme"}
        assert payload["account"] == {"id": str(acme_account.pk), "name": "crm"}
        assert payload["message"]["id"] == str(answer.message_id)
        assert [one["address"] for one in payload["recipients"]] == ["ann@outside.example", "bert@outside.example"]
    attempt = DeliveryLog.objects.get()
    result = told["smtp.delivery.result"]
    assert (result["id"], result["provider"]) == (str(attempt.pk), "primary")
    assert result["provider_message_id"] == attempt.provider_message_id
    assert {one["status"] for one in result["recipients"]} == {"delivered"}
    assert {one["status"] for one in told["mail.received"]["recipients"]} >= {"delivered"}
    assert told["mail.delivered"]["provider"] == "primary"
    assert not OutboxEntry.objects.exists()


def test_events_go_out_as_durable_json_under_their_own_id(acme_account, consumer):
    event = happens(MessageFactory(account=acme_account, subject="Grüße \u2028"))
    relay.publish(chores.Turn())
    (message,) = consumer.all()
    assert message.properties["message_id"] == str(event.pk)
    assert message.properties["delivery_mode"] == 2
    assert message.properties["content_type"] == "application/json"
    assert b"Gr\\u00fc\\u00dfe" in message.body.encode()


@pytest.mark.parametrize(
    ("type_", "key"),
    [
        *((type_, "mail.failed") for type_ in ("failed", "partial", "rejected", "dead_letter")),
        *((type_, f"mail.{type_}") for type_ in ("received", "delivered", "confirmed", "bounced", "held", "opened")),
    ],
)
def test_the_routing_key_says_what_happened(type_, key, acme_account, consumer):
    happens(MessageFactory(account=acme_account), EventType(type_))
    relay.publish(chores.Turn())
    assert [(routing_key, payload["event"]) for routing_key, payload in consumer.told()] == [(key, type_)]


def test_what_a_provider_told_names_recipient_and_reason(acme_account, consumer):
    message = MessageFactory(account=acme_account, recipients=["ann@outside.example"])
    RecipientFactory(message=message, address="bert@outside.example")
    event = EventFactory.build(
        message=message,
        tenant=message.tenant,
        type=EventType.BOUNCED,
        recipient=message.recipients.get(address="ann@outside.example"),
        data={"recipient": "ann@outside.example", "code": "5.1.1", "text": "No such user", "hard": True},
    )
    events.record([event])
    relay.publish(chores.Turn())
    ((key, payload),) = consumer.told()
    assert (key, payload["code"], payload["text"], payload["hard"]) == ("mail.bounced", "5.1.1", "No such user", True)
    assert [one["address"] for one in payload["recipients"]] == ["ann@outside.example"]


def test_a_long_list_is_cut_and_counted(acme_account, consumer):
    message = MessageFactory(account=acme_account, recipients=[f"r{n:03}@outside.example" for n in range(120)])
    happens(message)
    relay.publish(chores.Turn())
    ((_, payload),) = consumer.told()
    assert (len(payload["recipients"]), payload["recipient_count"]) == (100, 120)


def test_an_outcome_that_is_rolled_back_is_not_told(acme_account, consumer):
    message = MessageFactory(account=acme_account)
    with transaction.atomic():
        happens(message)
        transaction.set_rollback(True)
    relay.publish(chores.Turn())
    assert consumer.told() == []


def test_an_attempt_without_an_answer_is_told_as_unknown(acme_account, box, consumer):
    message = accepted(acme_account)
    Message.objects.filter(pk=message.pk).update(claims=1, attempts=1)
    DeliveryLogFactory(message=message, status=DeliveryLog.Status.SENDING)
    sender.deliver([message.pk])
    relay.publish(chores.Turn())
    results = [payload for key, payload in consumer.told() if key == outbox.RESULT]
    assert results[0]["attempt"]["status"] == "unknown"
    assert {one["status"] for one in results[0]["recipients"]} == {"unknown"}


def test_what_a_person_does_is_told(acme_account, consumer):
    message = MessageFactory(account=acme_account)
    control.hold([message.pk], actor=None, reason="Looked odd.")
    relay.publish(chores.Turn())
    assert [(key, payload["text"]) for key, payload in consumer.told()] == [("mail.held", "Looked odd.")]


def test_entries_stay_while_the_broker_is_away_and_go_when_it_is_back(acme_account, consumer, settings, rabbitmq):
    event = happens(MessageFactory(account=acme_account))
    settings.EVENTS_URL = AWAY
    with capture_logs() as logs:
        relay.publish(chores.Turn())
    (entry,) = [entry for entry in logs if entry["log_level"] == "error"]
    assert "hunter2secret" not in str(entry)
    assert OutboxEntry.objects.get().event_id == event.pk
    assert not relay._broker_due()
    settings.EVENTS_URL = rabbitmq
    shared_state.client().delete(relay._PAUSED)
    assert relay._broker_due()
    relay.publish(chores.Turn())
    assert [payload["id"] for _, payload in consumer.told()] == [str(event.pk)]
    assert not relay._broker_due()


def test_a_broker_that_stays_away_is_asked_less_and_less_often(acme_account, settings):
    settings.EVENTS_URL = AWAY
    happens(MessageFactory(account=acme_account))
    pauses = []
    for _ in range(7):
        relay.publish(chores.Turn())
        pauses.append(shared_state.client().ttl(relay._PAUSED))
    assert pauses == sorted(pauses)
    assert (pauses[0], pauses[-1]) == (2, 60)


def test_a_relay_that_dies_between_confirm_and_deletion_repeats_under_the_same_id(acme_account, consumer, monkeypatch):
    event = happens(MessageFactory(account=acme_account))

    class Died(Exception):
        pass

    def die(*_args, **_kwargs):
        raise Died

    with monkeypatch.context() as dying:
        dying.setattr("django.db.models.query.QuerySet.delete", die)
        with pytest.raises(Died):
            relay.publish(chores.Turn())
    assert not relay._broker_due()  # its lease has to end first
    OutboxEntry.objects.update(lease_until=timezone.now() - relay.LEASE)
    relay.publish(chores.Turn())
    assert [message.properties["message_id"] for message in consumer.all()] == [str(event.pk)] * 2


def test_an_entry_whose_message_is_gone_is_dropped(acme_account, consumer):
    message = MessageFactory(account=acme_account)
    happens(message)
    message.delete()
    relay.publish(chores.Turn())
    assert consumer.told() == []
    assert not OutboxEntry.objects.exists()


def test_the_consumer_of_the_documentation_is_told(acme_account, consumer, rabbitmq):
    page = (Path(settings.BASE_DIR) / "docs/events.md").read_text()
    code = next(code for code in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "kombu" in code)
    queue = f"test-{uuid.uuid4().hex}"
    for documented, ours in (
        ("amqp://guest:guest@127.0.0.1:5672//", rabbitmq),
        ("mail.events", consumer.exchange),
        ("crm.mail", queue),
    ):
        assert documented in code
        code = code.replace(documented, ours)
    told = []

    def end(*words):
        told.append(words)
        raise KeyboardInterrupt

    message = MessageFactory(account=acme_account)
    consumer.channel.queue_declare(queue, durable=True, auto_delete=False)
    consumer.channel.queue_bind(queue, consumer.exchange, "mail.#")
    try:
        happens(message)
        relay.publish(chores.Turn())
        with pytest.raises(KeyboardInterrupt):
            exec(code, {"print": end})
    finally:
        consumer.channel.queue_delete(queue)
    assert told == [("mail.delivered", str(message.pk))]


def test_the_exchange_is_made_where_there_is_none(acme_account, consumer, settings):
    settings.EVENTS_EXCHANGE = f"test-{uuid.uuid4().hex}"
    happens(MessageFactory(account=acme_account))
    relay.publish(chores.Turn())
    assert not OutboxEntry.objects.exists()
    consumer.channel.exchange_declare(settings.EVENTS_EXCHANGE, "topic", durable=True, auto_delete=False)
    consumer.channel.exchange_delete(settings.EVENTS_EXCHANGE)


def test_a_virtual_host_that_does_not_exist_is_an_error_and_loses_nothing(acme_account, consumer, settings, rabbitmq):
    settings.EVENTS_URL = rabbitmq.rstrip("/") + "/no-such-vhost"
    happens(MessageFactory(account=acme_account))
    with capture_logs() as logs:
        relay.publish(chores.Turn())
    assert [entry["event"] for entry in logs] == ["events not published"]
    assert OutboxEntry.objects.count() == 1


def test_a_pages_events_are_refused_one_by_one(consumer):
    """A queue that takes one message and refuses the others: its events stay, the first one goes."""
    full = consumer.channel.queue_declare(
        exclusive=True, arguments={"x-max-length": 1, "x-overflow": "reject-publish"}
    ).queue
    consumer.channel.queue_bind(full, consumer.exchange, "mail.full")
    page = [exchange.Outgoing(str(number), "mail.full", b"{}") for number in range(3)]
    with exchange.opened() as channel:
        assert channel.publish(page) == {"1", "2"}
        assert channel.publish([exchange.Outgoing("4", "mail.other", b"{}")]) == set()


def test_a_refused_event_stays(acme_account, consumer):
    full = consumer.channel.queue_declare(
        exclusive=True, arguments={"x-max-length": 1, "x-overflow": "reject-publish"}
    ).queue
    consumer.channel.queue_bind(full, consumer.exchange, "#")
    message = MessageFactory(account=acme_account)
    first, second = happens(message), happens(message)
    relay.publish(chores.Turn())
    assert OutboxEntry.objects.get().event_id == second.pk
    assert str(first.pk) in [one.properties["message_id"] for one in consumer.all()]


def test_a_certificate_nobody_vouches_for_is_refused(settings):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("localhost").configure_cert(context)

    def answer(listener):
        connected, _ = listener.accept()
        with connected, contextlib.suppress(OSError):
            context.wrap_socket(connected, server_side=True).close()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        settings.EVENTS_URL = f"amqps://guest:guest@localhost:{listener.getsockname()[1]}//"
        thread = threading.Thread(target=answer, args=[listener])
        thread.start()
        with pytest.raises(ExchangeUnavailable, match=r"(?i)certificate"), exchange.opened():
            pass
        thread.join(10)


@pytest.mark.skipif(connection.vendor != "postgresql", reason="threads cannot share SQLite's database in memory")
@pytest.mark.django_db(transaction=True)
def test_two_relays_at_once_publish_everything(acme_account, consumer):
    message = MessageFactory(account=acme_account)
    events.record([events.about(message, EventType.OPENED, timezone.now()) for _ in range(3 * relay.PAGE)])

    def run():
        try:
            relay.publish(chores.Turn())
        finally:
            connection.close()

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    ids = [one.properties["message_id"] for one in consumer.all()]
    assert sorted(ids) == sorted(str(pk) for pk in Event.objects.values_list("pk", flat=True))
    assert not OutboxEntry.objects.exists()
    Message.objects.all().delete()
