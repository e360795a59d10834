"""SendEmail messages of a real RabbitMQ become mail, each once, and their publishers are told: AMQP-1."""

import json
import re
import struct
import threading
import uuid
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from amqp.exceptions import NotFound
from django.conf import settings
from django.db import connection
from django.utils import timezone

from accounts.models import Account
from delivery import mime, store
from delivery.letter import Limits
from delivery.models import Message, Receipt
from relay.ingest import consumer, session
from relay.ingest import payload as payload_module
from relay.ingest import work as work_
from relay.ingest.config import Config, owners
from relay.ingest.consumer import Consumer
from relay.tests.processes import wait_until
from relay.tests.publishing import Publisher, Raw, payload
from relay.tests.wire import Wire

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _a_database_for_several_threads():
    if connection.vendor != "postgresql":
        pytest.skip("SQLite in memory, as tests have it, locks whole tables and waits for none")


@pytest.fixture
def publisher(rabbitmq):
    one = Publisher(rabbitmq)
    yield one
    one.close()


@pytest.fixture
def open_door(publisher, acme_account):
    """Starts the door on the publisher's queue, which is acme's; it is closed after the test."""
    opened = []

    def start(**changes):
        config = Config.from_settings(
            {
                **settings.INGEST,
                "URL": publisher.url,
                "QUEUES": {publisher.queue: acme_account.username},
                "REPLY_QUEUE": publisher.replies,
                **{name.upper(): value for name, value in changes.items()},
            }
        )
        stop = threading.Event()
        one = Consumer(owners(config.queues)[0], config, Limits.of(settings.SMTP), stop)
        thread = threading.Thread(target=one.run)
        thread.start()
        opened.append((stop, thread))
        wait_until(lambda: one.connected)
        return stop, thread

    yield start
    for stop, thread in opened:
        stop.set()
        thread.join(30)
        assert not thread.is_alive()


@pytest.fixture
def door(open_door):
    return open_door()


def test_no_password_is_shown_with_the_settings():
    """SEC-8."""
    config = Config.from_settings({**settings.INGEST, "URL": "amqp://door:hunter2@rabbitmq/"})
    assert config.url.endswith("hunter2@rabbitmq/")
    assert "hunter2" not in repr(config)


def test_a_message_is_taken_stored_and_its_publisher_told(door, publisher, acme_account):
    content = payload(
        publisher_message_id="order-1",
        cc=["bob@outside.example"],
        bcc=["carol@outside.example"],
        body={"contentType": "text/html", "content": "<p>Grüße</p>"},
        attachments=[{"name": "a.pdf", "contentType": "application/pdf", "size": 3, "content": "YWJj"}],
        metadata={"tenant": "acme", "account": "crm@acme"},
    )
    publisher.publish(content, correlation_id="c-1")
    [told] = publisher.take(publisher.replies)
    message, receipt = Message.objects.get(), Receipt.objects.get()
    assert (message.source, message.account, message.tenant) == ("amqp", acme_account, acme_account.tenant)
    assert [r.address for r in message.recipients.all()] == [
        "ann@outside.example",
        "bob@outside.example",
        "carol@outside.example",
    ]
    content = mime.parse(raw := store.read(message.store_key))
    assert (content.subject, content.html) == ("Greetings", "<p>Grüße</p>\n")
    assert [(a.filename, a.content) for a in content.attachments] == [("a.pdf", b"abc")]
    assert b"carol" not in raw
    assert json.loads(told.body) == {
        "event_id": str(receipt.pk),
        "publisher_message_id": "order-1",
        "incoming_email_id": str(message.pk),
        "received_at": receipt.created_at.isoformat(),
        "status": "accepted",
    }
    assert (told.properties["correlation_id"], told.properties["delivery_mode"]) == ("c-1", 2)
    wait_until(lambda: Receipt.objects.get().told_at is not None)


def test_the_answer_goes_where_the_message_says(door, publisher):
    publisher.declare(mine := f"{publisher.queue}.mine")
    publisher.publish(payload(), reply_to=mine)
    try:
        publisher.take(mine)
    finally:
        publisher.channel.queue_delete(mine)
    assert publisher.depth(publisher.replies) == 0


def test_a_publisher_that_has_gone_holds_nothing_up(door, publisher):
    publisher.publish(payload(), reply_to=f"nobody-{uuid.uuid4()}")
    publisher.publish(payload())
    publisher.answers()
    assert Message.objects.count() == 2
    wait_until(lambda: Receipt.objects.filter(told_at=None).count() == 1)


def test_no_answer_goes_into_a_queue_of_the_door(door, publisher):
    """Who may write to one queue could otherwise have us write to others."""
    publisher.publish(payload(), reply_to=publisher.queue)
    publisher.publish(payload(), reply_to=publisher.dead)
    assert len(publisher.answers(2)) == 2
    assert publisher.depth(publisher.dead) == 0


def test_the_same_message_three_times_is_one_row_and_one_answer(door, publisher):
    for _ in range(3):
        publisher.publish(payload(publisher_message_id="order-1"))
    publisher.publish(payload(publisher_message_id="order-2"))
    assert {answer["publisher_message_id"] for answer in publisher.answers(2)} == {"order-1", "order-2"}
    wait_until(lambda: publisher.depth() == 0 and Receipt.objects.filter(told_at=None).count() == 0)
    publisher.publish(payload(publisher_message_id="order-1"))
    publisher.publish(payload(publisher_message_id="order-3"))
    assert [answer["publisher_message_id"] for answer in publisher.answers()] == ["order-3"]
    assert Message.objects.count() == 3


def test_a_publisher_that_was_not_told_is_told_the_same_event_later(open_door, publisher, monkeypatch):
    """Whoever accepted it died before it could."""
    stop, thread = open_door()
    publisher.publish(content := payload())
    [first] = publisher.answers()
    wait_until(lambda: Receipt.objects.get().told_at is not None)
    stop.set()
    thread.join(20)
    Receipt.objects.update(told_at=None, created_at=timezone.now() - timedelta(minutes=1))
    open_door()
    publisher.publish(content)
    [second] = publisher.answers()
    assert (second["event_id"], second["incoming_email_id"]) == (first["event_id"], first["incoming_email_id"])


def test_while_another_may_be_about_to_tell_it_it_is_not_told_twice(open_door, publisher, monkeypatch):
    monkeypatch.setattr(work_, "LOOK_AGAIN", 0.1)
    stop, thread = open_door()
    publisher.publish(content := payload())
    publisher.answers()
    wait_until(lambda: Receipt.objects.get().told_at is not None)
    Receipt.objects.update(told_at=None)
    publisher.publish(content)
    with pytest.raises(AssertionError):
        publisher.answers(seconds=1)
    Receipt.objects.update(told_at=timezone.now())
    stop.set()
    thread.join(20)
    assert publisher.depth() in (0, 1)  # answered, or brought again to whoever comes next


UNFIT = {
    "malformed": b"no json",
    "malformed 2": b"",
    "no_recipients": payload(to=None),
    "bad_address": payload(to=["nobody"]),
    "bad_field": payload(subject="a\nBcc: x@y.example"),
    "foreign_account": payload(metadata={"tenant": "globex"}),
    "foreign_account 2": payload(metadata={"account": "erp@globex"}),
    "sender_not_allowed": {**payload(), "from": "ceo@globex.example"},
    "too_many_recipients": payload(to=[f"a{n}@outside.example" for n in range(1001)]),
    "attachment_refused": payload(attachments=[{"name": "a", "urlOrId": "https://127.0.0.1/x"}]),
    "bad_field 2": payload(subject="ü\n"),
    "attachment_refused 2": payload(attachments=[{"name": "a", "urlOrId": "s3://other/acme/x"}]),
}


def test_what_can_never_be_taken_becomes_a_dead_letter_with_its_reason(door, publisher):
    for name, content in UNFIT.items():
        headers = {"mine": 7, "CC": ["x"]}
        properties = {"content_encoding": "latin-1", "expiration": "60000", "user_id": "guest"}
        publisher.publish(content, correlation_id=name, application_headers=headers, **properties)
    for letter in publisher.take(publisher.dead, len(UNFIT)):
        headers, name = letter.properties["application_headers"], letter.properties["correlation_id"]
        assert headers["x-smtpproxy-reason"] == name.removesuffix(" 2")
        assert headers["x-smtpproxy-queue"] == publisher.queue
        assert headers["x-smtpproxy-text"]
        assert (headers["mine"], "CC" in headers) == (7, False)
        assert (letter.properties["delivery_mode"], "expiration" in letter.properties) == (2, False)
        body = letter.body.encode() if isinstance(letter.body, str) else letter.body
        assert body == (UNFIT[name] if isinstance(UNFIT[name], bytes) else json.dumps(UNFIT[name]).encode())
    wait_until(lambda: publisher.depth() == 0)
    assert not Message.objects.exists()


def a_header(kind, value):
    """Properties with one header of this type."""
    table = b"\x02at" + kind + value
    return b"\x20\x00" + struct.pack(">I", len(table)) + table


@pytest.mark.parametrize(
    "properties",
    [
        pytest.param(a_header(b"T", struct.pack(">Q", 1_795_000_000_000)), id="a time in milliseconds"),
        pytest.param(b"\x02\x00\x01\xff", id="a reply_to that is not UTF-8"),
    ],
)
def test_properties_that_cannot_be_read_cost_the_messages_behind_nothing(door, publisher, properties):
    """What other libraries may write, RabbitMQ hands on, and ours fails at."""
    publisher.send(Raw(json.dumps(payload()), properties))
    publisher.publish(payload(publisher_message_id="behind"))
    assert publisher.answers()[0]["publisher_message_id"] == "behind"
    [letter] = publisher.take(publisher.dead)
    assert letter.properties["application_headers"]["x-smtpproxy-reason"] == "malformed"


def test_a_bad_message_costs_those_beside_it_nothing(open_door, publisher):
    publisher.declare()
    for number in range(10):
        publisher.publish(payload(publisher_message_id=str(number)) if number % 2 else b"bad")
    open_door()
    assert sorted(answer["publisher_message_id"] for answer in publisher.answers(5)) == ["1", "3", "5", "7", "9"]
    publisher.take(publisher.dead, 5)


def test_the_same_id_for_another_message_is_a_dead_letter(door, publisher):
    publisher.publish(payload(publisher_message_id="order-1"))
    publisher.answers()
    publisher.publish(payload(publisher_message_id="order-1", subject="Something else"))
    [letter] = publisher.take(publisher.dead)
    assert letter.properties["application_headers"]["x-smtpproxy-reason"] == "key_reused"
    assert Message.objects.count() == 1


def test_mail_of_a_suspended_account_waits_in_its_queue(open_door, publisher, acme_account, monkeypatch):
    monkeypatch.setattr(work_, "WAIT", 0.2)
    Account.objects.update(status=Account.Status.SUSPENDED)
    open_door()
    publisher.publish(payload())
    with pytest.raises(AssertionError):
        publisher.answers(seconds=1)
    assert publisher.depth(publisher.dead) == 0
    Account.objects.update(status=Account.Status.ACTIVE)
    publisher.answers()


def test_above_a_quota_mail_waits_in_its_queue(open_door, publisher, acme_account, monkeypatch):
    """LIM-1."""
    monkeypatch.setattr(work_, "LONGEST_WAIT", 1.0)
    acme_account.messages_per_month = 2
    acme_account.save()
    open_door()
    for _ in range(4):
        publisher.publish(payload())
    publisher.answers(2)
    with pytest.raises(AssertionError):
        publisher.answers(seconds=1.5)
    Account.objects.update(messages_per_month=10)
    publisher.answers(2)
    assert Message.objects.count() == 4


def test_what_waits_too_long_goes_back_to_its_queue(open_door, publisher, acme_account, monkeypatch):
    """RabbitMQ closes the channel of a consumer that holds a message for half an hour."""
    monkeypatch.setattr(session, "HOLD_AT_MOST", 0.3)
    Account.objects.update(status=Account.Status.SUSPENDED)
    publisher.declare()
    publisher.publish(payload())
    stop, thread = open_door()
    threading.Event().wait(1.0)
    stop.set()
    thread.join(20)
    message = publisher.channel.basic_get(publisher.queue, no_ack=True)
    assert message.delivery_info["redelivered"]


def test_at_the_end_what_is_unanswered_goes_back_and_what_is_under_way_is_finished(open_door, publisher):
    publisher.declare()
    for _ in range(200):
        publisher.publish(payload())
    stop, thread = open_door(prefetch=20)
    publisher.answers(20)
    stop.set()
    thread.join(20)
    taken = Message.objects.count()
    assert taken < 200
    assert publisher.depth() == 200 - taken
    assert len(publisher.answers(taken - 20)) == taken - 20
    assert Receipt.objects.filter(told_at=None).count() == 0


def test_queues_that_exist_are_taken_as_they_are(open_door, publisher):
    for name in (publisher.queue, publisher.dead, publisher.replies):
        publisher.channel.queue_declare(name, durable=True, auto_delete=False)
    open_door(declare=False)
    publisher.publish(payload())
    publisher.answers()


def test_a_queue_that_is_deleted_is_made_again(door, publisher):
    publisher.channel.queue_delete(publisher.queue)
    wait_until(lambda: _exists(publisher), 20)
    publisher.publish(payload())
    publisher.answers()


def _exists(publisher):
    try:
        publisher.depth()
    except NotFound:
        publisher.connect()
        return False
    return True


def test_a_message_we_fail_at_holds_no_other_up(open_door, publisher, monkeypatch):
    """An unknown error counts as temporary: it waits, and stays in its queue."""
    real = payload_module.read

    def read(body):
        if b"poison" in body:
            raise RuntimeError("nobody has foreseen this")
        return real(body)

    monkeypatch.setattr(payload_module, "read", read)
    publisher.declare()
    publisher.publish(payload(publisher_message_id="poison"))
    publisher.publish(payload(publisher_message_id="good"))
    stop, thread = open_door()
    assert [answer["publisher_message_id"] for answer in publisher.answers()] == ["good"]
    stop.set()
    thread.join(20)
    wait_until(lambda: publisher.depth() == 1)  # the broker takes its time to put it back
    assert publisher.depth(publisher.dead) == 0


@pytest.fixture
def wire(publisher):
    parts = urlsplit(publisher.url)
    one = Wire(parts.hostname, parts.port or 5672)
    yield one
    one.close()


def test_a_link_that_breaks_before_the_answer_makes_no_second_row_and_says_the_same_later(
    open_door, publisher, wire, monkeypatch
):
    """The row is committed; neither the answer nor the acknowledgement gets through."""
    monkeypatch.setattr(work_, "ANSWERED_WITHIN", 1.0)
    url = urlsplit(publisher.url)
    open_door(url=url._replace(netloc=f"{url.username}:{url.password}@127.0.0.1:{wire.port}").geturl())
    wire.hold()
    publisher.publish(payload(publisher_message_id="order-1"))
    wait_until(Message.objects.exists)
    wire.cut()
    [answer] = publisher.answers()
    receipt = Receipt.objects.get()
    assert (answer["event_id"], answer["incoming_email_id"]) == (str(receipt.pk), str(receipt.message_id))
    wait_until(lambda: Receipt.objects.get().told_at is not None)
    publisher.publish(payload(publisher_message_id="order-2"))
    assert [answer["publisher_message_id"] for answer in publisher.answers()] == ["order-2"]
    assert Message.objects.count() == 2


def test_a_link_that_breaks_again_and_again_loses_nothing(open_door, publisher, wire, monkeypatch):
    monkeypatch.setattr(work_, "ANSWERED_WITHIN", 0.5)
    monkeypatch.setattr(consumer, "FIRST_PAUSE", 0.1)
    url = urlsplit(publisher.url)
    open_door(url=url._replace(netloc=f"{url.username}:{url.password}@127.0.0.1:{wire.port}").geturl(), prefetch=7)
    names = [f"order-{number}" for number in range(60)]
    for number, name in enumerate(names):
        publisher.publish(payload(publisher_message_id=name))
        if number in (20, 40):
            wire.cut()
    told = set()
    while told < set(names):
        told |= {answer["publisher_message_id"] for answer in publisher.answers()}
    assert Message.objects.count() == Receipt.objects.count() == 60
    wait_until(lambda: publisher.depth() == 0)


def test_the_example_in_the_documentation_sends_a_message(door, publisher):
    page = (Path(settings.BASE_DIR) / "docs/ingest.md").read_text()
    [code] = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    wired = code.replace("amqp://guest:guest@127.0.0.1:5672//", publisher.url).replace(
        '"orders"', f'"{publisher.queue}"'
    )
    exec(wired, {})
    [answer] = publisher.answers()
    message = Message.objects.get(pk=answer["incoming_email_id"])
    assert (message.mail_from, message.subject) == ("shop@acme.example", "Your order")
    [shown] = re.findall(r"```json\n(.*?)```", page, re.DOTALL)
    assert set(json.loads(shown)) == set(answer)


def test_the_documentation_names_every_reason_of_the_door_itself():
    page = (Path(settings.BASE_DIR) / "docs/ingest.md").read_text()
    sources = [path.read_text() for path in (Path(settings.BASE_DIR) / "relay/ingest").glob("*.py")]
    codes = set(re.findall(r"(?:refuse|_never|_refusal|Dead)\(\s*\"([a-z_]+)\"", "".join(sources)))
    assert codes >= {"malformed", "foreign_account", "key_reused", "attachment_refused", "size_mismatch"}
    assert {code for code in codes if f"`{code}`" not in page} == set()
