"""QUE-3: `manage.py dlq redrive` on SQS; queues that are not as they must be end a worker and are told by probes.

RabbitMQ's part is in test_rabbitmq.py.
"""

import base64
import os
import subprocess
import sys

import pytest
from django.conf import settings as django_settings
from django.core.management import CommandError, call_command

from smtpproxy.brokers import configuration, looks, redrive
from smtpproxy.brokers.exceptions import BrokerUnusable
from smtpproxy.tests import brokers
from smtpproxy.tests.services import wait_until
from smtpproxy.tests.test_unknown_payloads import entry

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server():
    made = brokers.Sqs()
    made.visibility, made.most_receives = 700, 1
    made.start()
    yield made
    made.close()


@pytest.fixture
def sqs(server, settings, monkeypatch):
    """This process configured for the server, whose queues are empty."""
    settings.QUEUE_TYPE, settings.SQS_QUEUE_URL, settings.SQS_DLQ_URL = "sqs", server.url, f"{server.url}-dead"
    settings.BROKER = configuration.sqs(server.url, brokers.REGION, 1)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    server.forget()
    return server


def envelope(queue):
    """A ring as the library sends it; moto does not tell which queue a dead letter came from, as the service does."""
    return base64.b64encode(entry(changes={"properties/delivery_info/routing_key": queue})).decode()


def give_up(server, queue, *bodies):
    """Let the service itself move messages to the dead-letter queue: each is received more often than it may be."""
    client, url = server.client(), queue_url(server, queue)
    for body in bodies:
        client.send_message(QueueUrl=url, MessageBody=body)
    wait_until(lambda: not server.waiting(queue) or not receive(client, url), "the service's giving up")


def receive(client, url):
    got = client.receive_message(QueueUrl=url, MaxNumberOfMessages=10, VisibilityTimeout=0)
    return got.get("Messages", [])


def queue_url(server, queue):
    return server.url if queue == "outbound.deliver" else f"{server.url}-{queue.replace('.', '-')}"


def test_each_ring_goes_back_to_the_queue_it_came_from(sqs, capsys):
    bodies = [envelope("outbound.deliver") for _ in range(2)]
    give_up(sqs, "outbound.deliver", *bodies)
    third = envelope("webhooks")
    give_up(sqs, "webhooks", third)
    assert redrive.count() == 3
    call_command("dlq", "redrive")
    told = capsys.readouterr().out
    assert "2 sent back to outbound.deliver." in told
    assert "1 sent back to webhooks." in told
    assert redrive.count() == 0
    back = receive(sqs.client(), queue_url(sqs, "outbound.deliver"))
    assert sorted(message["Body"] for message in back) == sorted(bodies)
    assert [message["Body"] for message in receive(sqs.client(), queue_url(sqs, "webhooks"))] == [third]


@pytest.mark.parametrize("body", ["stray", "c3RyYXk=", "W10=", "eyJwcm9wZXJ0aWVzIjogW119"])
def test_what_somebody_else_has_put_there_goes_to_the_first_queue(sqs, body):
    sqs.client().send_message(QueueUrl=django_settings.SQS_DLQ_URL, MessageBody=body)
    assert redrive.redrive(5) == {"outbound.deliver": 1}


def test_no_more_than_asked_for_are_sent_back_and_a_dry_run_sends_none(sqs, capsys):
    give_up(sqs, "events", *(envelope("events") for _ in range(3)))
    call_command("dlq", "redrive", "--dry-run")
    assert capsys.readouterr().out == "About 3 in the dead-letter queue.\n"
    assert redrive.count() == 3
    call_command("dlq", "redrive", "--limit", "2")
    assert "2 sent back to events." in capsys.readouterr().out
    assert (redrive.count(), sqs.waiting("events")) == (1, 2)


def test_a_ring_that_could_not_be_sent_back_stays(sqs, settings, monkeypatch):
    give_up(sqs, "events", envelope("events"))
    settings.SQS_QUEUE_URL = f"{sqs.url}-nowhere"
    with pytest.raises(CommandError, match=r"The broker \(sqs\) failed"):
        call_command("dlq", "redrive")
    settings.SQS_QUEUE_URL = sqs.url
    attributes = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    left = sqs.client().get_queue_attributes(QueueUrl=settings.SQS_DLQ_URL, AttributeNames=attributes)["Attributes"]
    assert sum(int(number) for number in left.values()) == 1


def test_without_a_dead_letter_queue_the_command_says_what_to_do(sqs, settings):
    settings.SQS_DLQ_URL = ""
    with pytest.raises(CommandError, match="SQS_DLQ_URL"):
        call_command("dlq", "redrive")


@pytest.mark.parametrize("type_", ["embedded", "redis"])
def test_redis_has_none_and_the_command_says_what_takes_its_place(settings, type_):
    settings.QUEUE_TYPE = type_
    with pytest.raises(CommandError, match=f"(?s)QUEUE_TYPE={type_} .*the scheduler rings again"):
        call_command("dlq", "redrive")


@pytest.mark.parametrize("limit", ["0", "-1"])
def test_a_limit_below_one_is_refused(sqs, limit):
    with pytest.raises(CommandError, match="--limit"):
        call_command("dlq", "redrive", "--limit", limit)


def change(server, queue, **attributes):
    server.client().set_queue_attributes(QueueUrl=queue_url(server, queue), Attributes=attributes)


def test_good_queues_have_no_fault(sqs):
    assert looks.faults() == []
    looks.look()


def test_a_queue_that_is_missing_is_named(sqs):
    sqs.client().delete_queue(QueueUrl=queue_url(sqs, "events"))
    try:
        assert looks.faults() == [f"There is no queue {sqs.url}-events."]
    finally:
        sqs.ready()


def test_a_visibility_timeout_not_above_the_lease_is_a_fault(sqs, settings):
    change(sqs, "outbound.deliver", VisibilityTimeout="600")
    try:
        [fault] = looks.faults()
        assert fault.startswith(f"The VisibilityTimeout of {sqs.url} (600 s)")
        with pytest.raises(BrokerUnusable, match="VisibilityTimeout"):
            looks.look()
        settings.DELIVERY_LEASE = 599
        assert looks.faults() == []
    finally:
        change(sqs, "outbound.deliver", VisibilityTimeout="700")


def test_a_policy_for_another_dead_letter_queue_is_a_fault(sqs, settings):
    settings.SQS_DLQ_URL = f"{sqs.url}-elsewhere"
    found = looks.faults()
    assert len(found) == len(brokers.QUEUES)
    assert all("RedrivePolicy" in fault and "mail-dead" in fault for fault in found)


def test_a_queue_without_a_policy_is_a_fault(sqs, settings):
    client = sqs.client()
    client.create_queue(QueueName="bare", Attributes={"VisibilityTimeout": "700"})
    settings.SQS_QUEUE_URL = sqs.url.replace("/mail", "/bare")
    with pytest.raises(BrokerUnusable, match="has no RedrivePolicy"):
        looks.look()


def test_a_worker_does_not_start_on_queues_it_cannot_use(server, tmp_path):
    run = subprocess.run(
        [sys.executable, "-m", "celery", "-A", "smtpproxy", "worker", "-c", "1"],
        cwd=django_settings.BASE_DIR,
        env={**os.environ, **server.settings, "DATA_DIR": str(tmp_path), "DELIVERY_LEASE": "800"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.returncode != 0
    assert f"The VisibilityTimeout of {server.url} (700 s) is not above DELIVERY_LEASE (800 s)." in run.stderr
    assert "broker cannot be used" in run.stdout


def test_a_service_that_is_away_does_not_end_a_worker_that_starts(sqs, settings):
    settings.SQS_QUEUE_URL = "http://127.0.0.1:9/1/mail"
    looks.before_work()
