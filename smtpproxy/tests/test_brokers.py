"""QUE-1, QUE-3, QUE-4, AMQP-3: what Celery is told for each QUEUE_TYPE; faults are named before work begins."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from kombu import Exchange

from delivery import queues
from smtpproxy import checks
from smtpproxy.brokers import configuration, names

PROJECT = Path(__file__).resolve().parents[2]
QUEUE = "https://sqs.eu-central-1.amazonaws.com/123456789012/mail"
SHOWN = """
import json
from django.conf import settings as s
from smtpproxy.celery import app
c = app.connection_for_write()
print(json.dumps({"transport": c.get_transport_cls().__module__, "host": c.hostname,
    "port": c.port, "user": c.userid, "shared": s.SHARED_STATE_URL, "options": app.conf.broker_transport_options,
    "remote": app.conf.worker_enable_remote_control,
    "queues": [q.name for q in app.amqp.queues.consume_from.values()]}))
"""


def told(tmp_path, **environment):
    run = subprocess.run(
        [sys.executable, "-c", SHOWN],
        cwd=PROJECT,
        env={
            "PATH": os.environ["PATH"],
            "DATA_DIR": str(tmp_path),
            "DJANGO_SETTINGS_MODULE": "smtpproxy.settings",
            "REDIS_URL": "redis://shared:1/2",
            **environment,
        },
        check=True,
        capture_output=True,
        text=True,
    )
    return json.loads(run.stdout)


def test_redis_carries_rings_and_shared_state(tmp_path):
    found = told(tmp_path, QUEUE_TYPE="redis")
    assert found["transport"] == "smtpproxy.brokers.redis_transport"
    assert (found["host"], found["port"], found["shared"]) == ("shared", 1, "redis://shared:1/2")
    assert found["options"]["visibility_timeout"] == 1800
    assert found["queues"] == list(queues.NAMES)


def test_rabbitmq_carries_rings_and_redis_shared_state(tmp_path):
    found = told(tmp_path, QUEUE_TYPE="rabbitmq", RABBITMQ_URL="amqps://u:p@broker:5671/mail")
    assert found["transport"] == "smtpproxy.brokers.rabbitmq_transport"
    assert (found["host"], found["user"], found["shared"]) == ("broker", "u", "redis://shared:1/2")
    assert found["options"]["confirm_publish"] is True
    assert found["queues"] == list(queues.NAMES)


def test_sqs_is_asked_at_the_host_of_its_queue_with_the_credentials_of_the_usual_chain(tmp_path):
    found = told(tmp_path, QUEUE_TYPE="sqs", SQS_QUEUE_URL=QUEUE)
    assert found["transport"] == "smtpproxy.brokers.sqs_transport"
    assert (found["host"], found["port"], found["user"]) == ("sqs.eu-central-1.amazonaws.com", None, None)
    options = found["options"]
    assert (options["region"], options["is_secure"], options["wait_time_seconds"]) == ("eu-central-1", True, 20)
    assert {each["url"] for each in options["predefined_queues"].values()} == {
        QUEUE,
        *(f"{QUEUE}-{name.replace('.', '-')}" for name in queues.NAMES if name != "outbound.deliver"),
    }
    assert not any("backoff_policy" in each for each in options["predefined_queues"].values())
    assert found["remote"] is False
    assert found["shared"] == "redis://shared:1/2"


def test_nothing_of_aws_is_needed_unless_it_is_chosen(settings):
    settings.QUEUE_TYPE, settings.SQS_QUEUE_URL = "rabbitmq", ""
    assert list(checks.sqs()) == []


@pytest.mark.parametrize(
    ("queue", "region", "ids"),
    [
        (QUEUE, "", []),
        ("", "eu-west-1", ["smtpproxy.E011"]),
        ("https://sqs.eu-central-1.amazonaws.com", "", ["smtpproxy.E011"]),
        (QUEUE + ".fifo", "", ["smtpproxy.E012"]),
        ("http://localhost:4566/1/mail", "", ["smtpproxy.E013"]),
        ("http://localhost:4566/1/mail", "eu-west-1", []),
    ],
)
def test_settings_of_sqs_that_cannot_work_are_named(settings, monkeypatch, queue, region, ids):
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    settings.QUEUE_TYPE, settings.SQS_QUEUE_URL = "sqs", queue
    settings.BROKER = configuration.sqs(queue, names.region(region, queue), 20)
    assert [found.id for found in checks.sqs()] == ids


@pytest.mark.parametrize(
    ("host", "region"),
    [
        ("sqs.eu-central-1.amazonaws.com", "eu-central-1"),
        ("sqs.cn-north-1.amazonaws.com.cn", "cn-north-1"),
        ("vpce-0a1-b2.sqs.us-east-2.vpce.amazonaws.com", "us-east-2"),
        ("us-west-1.queue.amazonaws.com", "us-west-1"),
        ("localhost:4566", "ap-south-1"),
    ],
)
def test_the_region_is_read_from_the_host_and_else_from_the_environment(monkeypatch, host, region):
    monkeypatch.setenv("AWS_REGION", "ap-south-1")
    assert names.region("", f"https://{host}/1/mail") == region
    assert names.region("eu-north-1", f"https://{host}/1/mail") == "eu-north-1"


def test_queues_of_rabbitmq_are_quorum_queues_on_two_exchanges():
    found = {queue.name: queue for queue in configuration.rabbitmq("amqp://h//").queues}
    assert list(found) == list(queues.NAMES)
    for queue in found.values():
        assert queue.durable
        assert queue.exchange.durable
        assert queue.exchange.delivery_mode == Exchange.PERSISTENT_DELIVERY_MODE
        assert queue.queue_arguments["x-queue-type"] == "quorum"
        assert queue.queue_arguments["x-dead-letter-exchange"] == "dead.jobs"
        assert queue.queue_arguments["x-delivery-limit"] > 3
        assert queue.exchange.name == ("security.jobs" if queue.name.startswith("scan.") else "outbound.jobs")


@pytest.mark.parametrize("type_", ["redis", "rabbitmq"])
def test_the_lease_is_below_what_brings_a_task_again(settings, type_):
    """QUE-2; that of SQS is asked of its queues."""
    settings.BROKER = getattr(configuration, type_)("x://h/")
    settings.DELIVERY_LEASE = 1800
    assert [found.id for found in checks.lease()] == ["smtpproxy.E006"]
    settings.BROKER = configuration.sqs(QUEUE, "eu-central-1", 20)
    assert list(checks.lease()) == []


def test_no_task_of_ours_is_sent_with_a_start_time_or_tried_again_by_the_broker():
    """QUE-3: the library would keep it in a worker's memory, past its visibility timeout. Every wait is in a row."""
    forbidden = re.compile(r"countdown=|\beta=|apply_async|\.delay\(|self\.retry\(|autoretry_for|backoff_policy")
    apps = ("smtpproxy", "relay", "delivery", "providers", "accounts")
    found = [
        f"{path}:{line}"
        for app in apps
        for path in (PROJECT / app).rglob("*.py")
        if "tests" not in path.parts
        for line in path.read_text().splitlines()
        if forbidden.search(line)
    ]
    assert found == []


def test_the_commands_that_make_the_queues_of_sqs_make_all_of_them():
    page = (PROJECT / "docs/brokers.md").read_text()
    made = set(re.search(r"for name in (.+?); do", page, re.DOTALL)[1].replace("\\", "").split())
    assert made == {names.sqs_url("mail", name) for name in queues.NAMES}


def test_every_broker_is_described():
    rows = re.findall(r"^\| `([a-z]+)` \| .+ \| .+ \|$", (PROJECT / "docs/brokers.md").read_text(), re.MULTILINE)
    assert rows[:4] == ["embedded", "redis", "rabbitmq", "sqs"]
