"""QUE-3, QUE-8: what the service may answer, or forget, does not end a worker. Its server is moto's."""

from types import SimpleNamespace

import pytest
from botocore.exceptions import ClientError
from kombu import Connection
from structlog.testing import capture_logs

from smtpproxy.brokers import configuration, sqs_transport
from smtpproxy.tests import brokers
from smtpproxy.tests.test_unknown_payloads import entry

pytestmark = pytest.mark.slow
QUEUE = "outbound.retry"


@pytest.fixture(scope="module")
def server():
    made = brokers.Sqs()
    made.start()
    yield made
    made.close()


@pytest.fixture
def channel(server, monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    server.forget()
    broker = configuration.sqs(server.url, brokers.REGION, 1)
    with Connection(broker.url, transport_options=broker.options) as connection:
        yield connection.default_channel


def taken(server, channel):
    """A ring that this worker has in hand."""
    server.put(QUEUE, entry())
    message = channel.basic_get(QUEUE)
    assert message is not None
    return message


def test_a_ring_goes_back_when_its_process_died(server, channel):
    message = taken(server, channel)
    channel.basic_reject(message.delivery_tag, requeue=True)
    assert server.waiting(QUEUE) == 1


def test_a_ring_that_the_service_has_forgotten_is_not_given_back_and_nothing_breaks(server, channel):
    message = taken(server, channel)
    server.forget()
    with capture_logs() as logs:
        channel.basic_reject(message.delivery_tag, requeue=True)
    assert [line["log_level"] for line in logs] == ["warning"]
    assert channel.qos.can_consume()


def test_a_right_that_is_missing_is_told_and_nothing_breaks(server, channel, monkeypatch):
    message = taken(server, channel)

    def denied(**_):
        raise ClientError({"Error": {"Code": "AccessDenied", "Message": "no"}}, "DeleteMessage")

    monkeypatch.setattr(channel.sqs(), "delete_message", denied)
    with capture_logs() as logs:
        channel.basic_ack(message.delivery_tag)
    assert logs[0]["event"].startswith("ring not deleted")


def test_messages_for_a_connection_that_is_no_more_are_given_back(server, channel):
    server.put(QUEUE, entry())
    url = f"{server.url}-outbound-retry"
    channel.sqs()  # a worker has made its client before it asks for anything
    received = server.client().receive_message(QueueUrl=url)
    transport, channel.connection = channel.connection, None
    try:
        assert channel._on_messages_ready(url, QUEUE, received) == 0
        channel._loop1(QUEUE, 0)
    finally:
        channel.connection = transport
    assert server.client().receive_message(QueueUrl=url)["Messages"]


@pytest.mark.parametrize("status", [400, 403, 500, 599])
def test_an_answer_that_is_none_is_told_once_and_asked_for_again(status):
    receiver = object.__new__(sqs_transport.Receiver)
    receiver.sqs_connection = None
    bad = SimpleNamespace(status=status)
    with capture_logs() as logs:
        for _ in range(3):
            assert receiver._on_list_ready(None, [], "ReceiveMessage", bad) == {}
    assert [(line["event"], line["error"]) for line in logs] == [("SQS gives no messages", f"HTTP {status}")]
    assert receiver.failing


def test_an_answer_that_cannot_be_read_is_as_good_as_none(channel):
    receiver = object.__new__(sqs_transport.Receiver)
    receiver.sqs_connection = channel.sqs()
    cut_off = SimpleNamespace(status=200, response=None)
    assert receiver._on_list_ready(None, [], "ReceiveMessage", cut_off) == {}
    assert receiver.failing


def test_a_refusal_while_a_worker_connects_is_a_lost_connection_to_it(server, channel):
    """It tries again until it is let in; the library would end the worker."""
    with pytest.raises(ClientError) as refusal:
        channel.sqs().get_queue_attributes(QueueUrl=f"{server.url}-nowhere", AttributeNames=["All"])
    assert isinstance(refusal.value, sqs_transport.Transport.connection_errors)
