"""QUE-4, QUE-8, AMQP-3: what lies in RabbitMQ, and what happens when it does not answer, on a server of our own."""

import json
import os
import signal
import struct
import subprocess
import sys
import time
import uuid

import pytest
from celery import current_app
from django.conf import settings as django_settings
from django.core.management import call_command
from kombu import Connection

from delivery import queues
from smtpproxy.brokers import configuration, looks, rabbitmq_transport, redrive
from smtpproxy.tests import brokers
from smtpproxy.tests.environment import missing
from smtpproxy.tests.services import wait_until
from smtpproxy.tests.test_unknown_payloads import SECRET, entry

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]
FRESH = queues.FRESH


@pytest.fixture(scope="module")
def server():
    if reason := brokers.why_not("rabbitmq"):
        missing(reason)
    made = brokers.RabbitMq()
    made.start()
    yield made
    made.close()


@pytest.fixture
def rabbitmq(server, settings, monkeypatch):
    """This process configured for the server, whose queues are made and empty."""
    settings.QUEUE_TYPE = "rabbitmq"
    settings.BROKER = configuration.rabbitmq(server.url)
    settings.CELERY_TASK_QUEUES = settings.BROKER.queues
    monkeypatch.setattr(current_app, "connection_for_write", lambda: connect(server))
    assert looks.faults() == []
    server.forget()
    with server.connect() as connection, connection.channel() as channel:
        channel.queue_purge("dead.jobs")
    return server


def connect(server, timeout=2):
    return Connection(server.url, connect_timeout=timeout, transport_options=configuration.rabbitmq("").options)


def test_every_queue_is_there_and_hangs_on_its_exchange(rabbitmq):
    for queue in queues.TABLE.values():
        with rabbitmq.connect() as connection, connection.channel() as channel:
            message = channel.prepare_message(b"x", properties={"delivery_mode": 2})
            channel.basic_publish_confirm(message, exchange=queue.exchange, routing_key=queue.name, mandatory=True)
            assert channel.basic_get(queue.name, no_ack=True).body == b"x"


def work_once(server, folder, **environment):
    """The log of a worker that has started and was told to stop."""
    log = folder / "worker.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "celery", "-A", "smtpproxy", "worker", "-c", "1"],
            cwd=django_settings.BASE_DIR,
            env={**os.environ, **server.settings, "DATA_DIR": str(folder), **environment},
            stdout=output,
            stderr=output,
            process_group=0,
        )
    try:
        wait_until(lambda: " ready." in log.read_text() or process.poll() is not None, "the start of the worker", 60)
        process.send_signal(signal.SIGTERM)
        process.wait(30)
    finally:
        process.poll() is None and os.killpg(process.pid, signal.SIGKILL)
    return log.read_text()


def publish(connection, queue=FRESH):
    """As the library publishes a ring."""
    producer = connection.Producer()
    [declared] = [each for each in django_settings.CELERY_TASK_QUEUES if each.name == queue]
    producer.publish([[], {}, {}], exchange=declared.exchange, routing_key=queue, declare=[declared], delivery_mode=2)


def test_a_ring_is_persistent_and_confirmed(rabbitmq):
    with connect(rabbitmq) as connection:
        publish(connection)
    with rabbitmq.connect() as connection, connection.channel() as channel:
        message = channel.basic_get(FRESH, no_ack=True)
    assert message.properties["delivery_mode"] == 2
    assert (message.delivery_info["exchange"], message.delivery_info["routing_key"]) == ("outbound.jobs", FRESH)


def test_a_ring_that_finds_no_queue_is_not_taken_for_sent_and_the_next_one_makes_it(rabbitmq):
    with connect(rabbitmq) as connection:
        publish(connection)
        with rabbitmq.connect() as other, other.channel() as channel:
            channel.queue_delete(FRESH)
        with pytest.raises(Exception, match="NO_ROUTE"):
            publish(connection)
        publish(connection)
        assert connection.default_channel.basic_get(FRESH, no_ack=True) is not None


def test_a_server_that_does_not_answer_costs_a_few_seconds_and_the_next_ring_is_heard(rabbitmq, monkeypatch):
    """ACC-3: its connections stay open, as those of a machine that is stuck do."""
    monkeypatch.setattr(rabbitmq_transport, "ANSWER_TIMEOUT", 0.5)
    with connect(rabbitmq, 0.5) as connection:
        publish(connection)
        [_, node] = rabbitmq.processes
        os.killpg(node.pid, signal.SIGSTOP)
        try:
            for _ in range(2):  # over the old connection, and over a new one
                started = time.monotonic()
                with pytest.raises(Exception, match="timed out"):
                    publish(connection)
                assert time.monotonic() - started < 3
        finally:
            os.killpg(node.pid, signal.SIGCONT)
        publish(connection)


def test_a_queue_of_another_kind_is_a_fault_which_ends_a_worker(rabbitmq, tmp_path):
    with rabbitmq.connect() as connection, connection.channel() as channel:
        channel.queue_delete("events")
        channel.queue_declare("events", durable=True, auto_delete=False)
    try:
        [fault] = looks.faults()
        assert fault.startswith("The queue events cannot be used: PRECONDITION_FAILED")
        log = work_once(rabbitmq, tmp_path)
        assert "broker cannot be used" in log
        assert " ready." not in log
    finally:
        with rabbitmq.connect() as connection, connection.channel() as channel:
            channel.queue_delete("events")


def test_probes_look_whether_it_lets_us_in(rabbitmq, settings, monkeypatch):
    looks.look()
    stranger = rabbitmq.url.replace("guest:guest", "guest:wrong")
    monkeypatch.setattr(current_app, "connection_for_write", lambda: Connection(stranger, connect_timeout=2))
    with pytest.raises(Exception, match=r"ACCESS_REFUSED|refused"):
        looks.look()


def test_what_it_has_given_up_can_be_sent_back(rabbitmq, capsys):
    id_ = str(uuid.uuid4())
    rabbitmq.put_task("webhooks", json.loads(entry(id_)))
    with rabbitmq.connect() as connection, connection.channel() as channel:
        give_up(channel, "webhooks")
        wait_until(lambda: channel.basic_get("dead.jobs") is not None, "its arrival among the dead letters")
    wait_until(lambda: redrive.count() == 1, "its being counted")
    call_command("dlq", "redrive")
    assert "1 sent back to webhooks." in capsys.readouterr().out
    with rabbitmq.connect() as connection, connection.channel() as channel:
        back = channel.basic_get("webhooks", no_ack=True)
        assert channel.basic_get("dead.jobs", no_ack=True) is None
    assert id_ in back.body
    assert back.headers["task"] == "delivery.tasks.deliver"
    assert back.properties["delivery_mode"] == 2
    assert not any(name.startswith(("x-death", "x-first-death")) for name in back.headers)


def give_up(channel, queue):
    """Bring it back until the server has had enough."""
    for _ in range(configuration.DELIVERY_LIMIT + 5):
        message = channel.basic_get(queue)
        if message is None:
            return
        channel.basic_reject(message.delivery_tag, requeue=True)
    raise AssertionError("it comes again and again")


def test_properties_that_cannot_be_read_cost_a_message_its_properties():
    """QUE-8; other servers than RabbitMQ may pass on what this one refuses."""
    frames = []
    handle = rabbitmq_transport.frame_handler(Counting(), lambda *args: frames.append(args))
    table = b"\1aZ" + SECRET.encode()
    header = struct.pack(">HHQ", 60, 0, 4) + struct.pack(">HI", 0x2000, len(table)) + table
    handle((1, 1, struct.pack(">HH", 60, 60)))
    handle((2, 1, memoryview(header)))
    handle((3, 1, b"body"))
    [(_, _, _, message)] = frames
    assert (message.body, message.properties) == (b"body", {})


class Counting:
    bytes_recv = 0
