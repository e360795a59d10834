"""QUE-1 to QUE-4, QUE-6, QUE-8, ACC-3: the same faults on every broker, in real processes. No mail is lost, and none is
sent twice unless a killed worker's attempt says so."""

import json
import smtplib
import struct
import uuid

import pytest

from delivery.models import DeliveryLog, Message, MessageStatus
from providers.tests.standins import PostalStandIn
from smtpproxy.tests import brokers
from smtpproxy.tests.environment import missing
from smtpproxy.tests.fleet import POISONED, Fleet
from smtpproxy.tests.services import wait_until
from smtpproxy.tests.test_unknown_payloads import DELIVER, GARBAGE, SECRET, deep, entry
from smtpproxy.tests.test_unknown_payloads import task as task_body

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]
FRESH = "outbound.deliver"


class Asked(PostalStandIn):
    """Notes each request before it answers."""

    asked = 0

    def entered(self, request):
        self.asked += 1


@pytest.fixture(scope="module")
def rabbitmq():
    """Started first and waited for last: it takes ten seconds."""
    if brokers.why_not("rabbitmq"):
        yield None
        return
    server = brokers.RabbitMq()
    server.launch()
    yield server
    server.close()


@pytest.fixture(scope="module", params=brokers.TYPES)
def fleet(request, tmp_path_factory, rabbitmq, database, django_db_blocker):
    """Its rows stay for all tests of one broker."""
    if reason := brokers.why_not(request.param):
        missing(reason)
    with django_db_blocker.unblock():
        broker = rabbitmq if request.param == "rabbitmq" else brokers.TYPES[request.param]()
        if broker is not rabbitmq:
            broker.launch()
        with Asked() as service:
            made = Fleet(broker, tmp_path_factory.mktemp(request.param), service)
            try:
                broker.ready()
                made.start()
                made.poison = made.send(f"somebody@{POISONED}", body="POISON")
                yield made
            finally:
                made.stop()
                broker.close()


@pytest.fixture(autouse=True)
def _database(django_db_blocker):
    with django_db_blocker.unblock():
        yield


def message(id_):
    return Message.objects.get(pk=id_)


def sent_once(fleet, id_, recipient):
    """Whether the service took it once, and again only where a worker died over it (the poisoned mail takes along what
    is sent beside it the first time); returns how many attempts have no outcome."""
    attempts = DeliveryLog.objects.filter(message=id_)
    unknown = attempts.filter(status=DeliveryLog.Status.UNKNOWN).count()
    assert attempts.count() == 1 + unknown
    assert 1 <= fleet.taken(recipient) <= 1 + unknown
    return unknown


def test_what_is_accepted_is_delivered(fleet):
    ids = [fleet.send(f"r{number}@outside.example") for number in range(3)]
    fleet.until_delivered(*ids)
    for number, id_ in enumerate(ids):
        sent_once(fleet, id_, f"r{number}@outside.example")
    wait_until(lambda: fleet.broker.waiting(FRESH) == 0, "the acknowledgement of every ring")
    assert not fleet.broker.has("celery_delayed_0")  # what the library needs for tasks with a start time


def test_a_ring_that_comes_many_times_sends_once(fleet):
    """DEL-6: before the message is sent, and after."""
    with fleet.paused():
        id_ = fleet.send("many@outside.example")
        for _ in range(5):
            fleet.broker.put_task(FRESH, json.loads(entry(id_)))
    fleet.until_delivered(id_)
    fleet.broker.put_task(FRESH, json.loads(entry(id_)))
    last = fleet.send("after@outside.example")
    fleet.until_delivered(last)
    wait_until(lambda: fleet.broker.waiting(FRESH) == 0, "the end of every ring")
    sent_once(fleet, id_, "many@outside.example")


def test_unknown_payloads_are_dropped_one_line_each_and_the_worker_goes_on(fleet):
    before, process = len(fleet.told("unknown payload dropped")), fleet.worker.process
    put = hostile(fleet.broker)
    id_ = fleet.send("behind@outside.example")
    fleet.until_delivered(id_)
    wait_until(lambda: fleet.broker.waiting(FRESH) == 0, "the end of every payload")
    dropped = fleet.told("unknown payload dropped")[before:]
    assert len(dropped) == put
    assert {line["queue"] for line in dropped} == {FRESH}
    assert process.poll() is None
    assert SECRET not in fleet.worker.log()


def hostile(broker):
    """Lay all kinds of things into the queue; returns how many."""
    if broker.type == "rabbitmq":
        return hostile_messages(broker)
    # What is longer than a message of SQS may be, or is empty, its service refuses; Redis' own tests have those.
    entries = [raw for name, raw in GARBAGE.items() if 0 < len(raw) < 150_000]
    for raw in entries:
        broker.put(FRESH, raw)
    return len(entries)


def hostile_messages(broker):
    """The same kinds of things as AMQP has them: bodies, headers, and properties that cannot be read."""
    task = {"task": DELIVER, "id": str(uuid.uuid4()), "timelimit": [None, None]}
    bodies = [
        b"",
        SECRET.encode(),
        b"null",
        b"[",
        b"\xff\xfe",
        b'{"ids": [1]}',
        b"x" * 2_000_000,
    ]
    headers = [
        {},
        {**task, "task": [SECRET]},
        {**task, "task": "apps.mail.tasks.send_message"},
        {**task, "id": {}},
        {**task, "timelimit": SECRET},
        {**task, "eta": SECRET},
        {**task, "errbacks": [SECRET]},
        {**task, "more": deep(50)},
    ]
    good = json.dumps(task_body([])).encode()
    for body in bodies:
        broker.put(FRESH, body, content_type="application/json", content_encoding="utf-8", headers=task)
    for each in headers:
        broker.put(FRESH, good, content_type="application/json", content_encoding="utf-8", headers=each)
    broker.put(FRESH, good, content_type="application/x-python-serialize", content_encoding="binary", headers=task)
    nested = b""
    for _ in range(2000):
        nested = b"\1aF" + struct.pack(">I", len(nested)) + nested
    broker.put_properties(FRESH, struct.pack(">HI", 0x2000, len(nested)) + nested)
    return len(bodies) + len(headers) + 2


def test_a_worker_killed_in_mid_send_costs_nothing_but_a_second_mail_on_record(fleet):
    """QUE-2, DEL-5."""
    fleet.service.hang_next(1, take=True)
    asked = fleet.service.asked
    id_ = fleet.send("killed@outside.example")
    wait_until(lambda: fleet.service.asked > asked, "the provider's being asked")
    fleet.worker.kill()
    fleet.worker.start()
    fleet.until_delivered(id_)
    assert sent_once(fleet, id_, "killed@outside.example") >= 1


def test_a_broker_that_dies_is_told_to_the_client_and_costs_no_mail_accepted_before(fleet):
    """ACC-3: three more tries, then 451; when it is back all goes on by itself, whether it kept its rings or not."""
    with fleet.paused():
        before = [fleet.send(f"before{number}@outside.example") for number in range(3)]
        fleet.broker.kill()
        with pytest.raises(smtplib.SMTPDataError) as refusal:
            fleet.send("during@outside.example")
        assert refusal.value.smtp_code == 451
        fleet.broker.start()
        if fleet.broker.keeps:  # RabbitMQ counts every few seconds
            wait_until(lambda: fleet.broker.waiting(FRESH) > 0, "the return of the rings")
        else:
            assert fleet.broker.waiting(FRESH) == 0
        after = fleet.send("after-restart@outside.example")
    fleet.a_minute_later(*before)  # one ring was on its way to the worker
    fleet.until_delivered(*before, after)
    for number, id_ in enumerate(before):
        sent_once(fleet, id_, f"before{number}@outside.example")
    during = Message.objects.get(recipients__address="during@outside.example")
    assert (during.status, during.next_attempt_at) == (MessageStatus.ENQUEUE_FAILED, None)
    assert fleet.taken("during@outside.example") == 0
    tries = [json.loads(line) for line in fleet.listener.log().splitlines() if '"ring failed"' in line]
    mine = [line for line in tries if line["message_id"] == str(during.pk)]
    assert [line["attempt"] for line in mine] == [1, 2, 3, 4]
    assert all(line["error"] for line in mine)


def test_rings_that_a_broker_forgets_are_rung_again(fleet):
    """DEL-3: also where it keeps them, somebody may empty a queue."""
    with fleet.paused():
        ids = [fleet.send(f"forgotten{number}@outside.example") for number in range(2)]
        fleet.broker.forget()
        fleet.a_minute_later(*ids)
    fleet.until_delivered(*ids)


def test_a_message_that_kills_its_worker_is_parked_after_three_claims(fleet):
    """QUE-6: it was sent before all the others, which have arrived."""
    fleet.a_minute_later(fleet.poison)  # its ring may have been lost with a broker
    wait_until(lambda: message(fleet.poison).status == MessageStatus.DLQ, "the parking", 60)
    assert message(fleet.poison).status_reason == "Claimed 3 times without an outcome."
    id_ = fleet.send("at-last@outside.example")
    fleet.until_delivered(id_)
