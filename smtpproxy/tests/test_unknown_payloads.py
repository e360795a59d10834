"""QUE-8: whatever lies in a queue, the worker lives, tells of it once and never of what is in it, and goes on."""

import base64
import json
import os
import signal
import uuid

import pytest
import redis
from django.conf import settings
from django.db import connection

from delivery.tests.workers import Worker
from smtpproxy.tests.services import wait_until

pytestmark = pytest.mark.django_db
QUEUE = "outbound.deliver"
SECRET = "the-body-of-a-message"
DELIVER = "delivery.tasks.deliver"
DELETE = object()


def body(value):
    return base64.b64encode(json.dumps(value).encode()).decode()


def task(ids=()):
    return [[list(ids)], {}, {"callbacks": None, "errbacks": None, "chain": None, "chord": None}]


def entry(id_=None, changes=None, payload=None):
    """What Celery puts in the list for a ring; `changes` by dotted path."""
    tag = str(uuid.uuid4())
    envelope = {
        "body": body(task([id_] if id_ else []) if payload is None else payload),
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": {
            "lang": "py",
            "task": DELIVER,
            "id": str(uuid.uuid4()),
            "eta": None,
            "expires": None,
            "retries": 0,
            "timelimit": [None, None],
            "argsrepr": SECRET,
        },
        "properties": {
            "delivery_mode": 2,
            "delivery_info": {"exchange": "", "routing_key": QUEUE},
            "priority": 0,
            "body_encoding": "base64",
            "delivery_tag": tag,
        },
    }
    for path, value in (changes or {}).items():
        *above, last = path.split("/")
        inner = envelope
        for name in above:
            inner = inner[name]
        if value is DELETE:
            del inner[last]
        else:
            inner[last] = value
    return json.dumps(envelope).encode()


def deep(levels):
    value = [SECRET]
    for _ in range(levels):
        value = [value]
    return value


NO_ENVELOPE = {
    "bytes that are no JSON": b"\xff\xfe\x00" + SECRET.encode(),
    "text that is no JSON": SECRET.encode(),
    "nothing": b"",
    "a broken object": b'{"body": "' + SECRET.encode(),
    "a number too long to be read": b"1" * 10_000,
    "an object of a type unknown to the library": b'{"__type__": "datetime", "__value__": "x"}',
    "null": b"null",
    "a number": b"17",
    "a string": json.dumps(SECRET).encode(),
    "a list": json.dumps([SECRET]).encode(),
    "an object": json.dumps({"message": SECRET}).encode(),
    "an empty object": b"{}",
    "a deep list": b"[" * 100_000 + b"]" * 100_000,
    "a list almost too deep to be read": b"[" * 900 + b"]" * 900,
    "a huge string": json.dumps("x" * 5_000_000).encode(),
    "a huge task": entry(payload=task([str(uuid.uuid4())] * 40_000)),
}
DAMAGED_ENVELOPE = {
    "no body": {"body": DELETE},
    "a body that is a number": {"body": 7},
    "no properties": {"properties": DELETE},
    "properties that are a list": {"properties": [SECRET]},
    "no headers": {"headers": DELETE},
    "headers that are a list": {"headers": [SECRET]},
    "no delivery tag": {"properties/delivery_tag": DELETE},
    "a delivery tag that is an object": {"properties/delivery_tag": {}},
    "a delivery tag that cannot be written": {"properties/delivery_tag": "\ud800"},
    "no delivery info": {"properties/delivery_info": DELETE},
    "a delivery info without a queue": {"properties/delivery_info": {"exchange": ""}},
    "a delivery info that is a string": {"properties/delivery_info": SECRET},
    "an endless priority": {"properties/priority": float("inf")},
    "a body that is no base64": {"body": "abcde"},
    "an unknown body encoding": {"properties/body_encoding": "rot13"},
    "an unknown compression": {"headers/compression": "application/x-rar"},
    "a body that is not compressed": {"headers/compression": "application/x-gzip"},
    "an envelope too deep to be noted": {"headers/more": deep(800)},
}
UNKNOWN_TASK = {
    "another content type": {"content-type": "application/x-python-serialize"},
    "a content type that is a list": {"content-type": [SECRET]},
    "no content type": {"content-type": DELETE},
    "another encoding": {"content-encoding": "klingon", "content-type": "text/plain"},
    "an encoding that is a number": {"content-encoding": 8},
    "a body that is no JSON": {"body": base64.b64encode(SECRET.encode()).decode()},
    "an empty body": {"body": ""},
    "no task name": {"headers/task": DELETE},
    "a task name that is a list": {"headers/task": [SECRET]},
    "an unknown task": {"headers/task": "apps.mail.tasks.send_message"},
    "no id": {"headers/id": DELETE},
    "an id that is an object": {"headers/id": {}},
    "a time limit that is a string": {"headers/timelimit": SECRET},
    "a time limit that is no number": {"headers/timelimit": [float("nan"), None]},
    "a start time that is none": {"headers/eta": SECRET},
    "an end time that is a list": {"headers/expires": [SECRET]},
    "stamps that are an object of objects": {"headers/stamped_headers": [{}], "headers/stamps": {"a": {}}},
    "callbacks among the headers": {"headers/errbacks": [SECRET]},
}
UNKNOWN_BODY = {
    "an object with ids": {"ids": [SECRET]},
    "an object of protocol 1": {"task": DELIVER, "id": "1", "args": [[]], "kwargs": {}},
    "a pair": [1, 2],
    "a string of three": "abc",
    "null": None,
    "arguments that are a string": [SECRET, {}, {}],
    "names that are a list": [[[]], [SECRET], {}],
    "callbacks": [[[]], {}, {"callbacks": [SECRET]}],
    "options that are a list": [[[]], {}, [SECRET]],
    "deep arguments": [deep(900), {}, {}],
}
GARBAGE = {
    **{f"no envelope: {name}": raw for name, raw in NO_ENVELOPE.items()},
    **{f"damaged envelope: {name}": entry(changes=changes) for name, changes in DAMAGED_ENVELOPE.items()},
    **{f"unknown task: {name}": entry(changes=changes) for name, changes in UNKNOWN_TASK.items()},
    **{f"unknown body: {name}": entry(payload=value, changes={}) for name, value in UNKNOWN_BODY.items() if value},
    "unknown body: null": entry(changes={"body": body(None)}),
    "unknown arguments: of another task": entry(changes={"headers/task": "delivery.tasks.ring_due"}),
    "old format: protocol 1": entry(
        payload={"task": DELIVER, "id": "1", "args": [[]], "kwargs": {}}, changes={"headers": {}}
    ),
}


@pytest.fixture(scope="module")
def broker():
    client = redis.Redis.from_url(settings.REDIS_URL)
    client.flushdb()
    yield client
    client.flushdb()
    client.close()


@pytest.fixture(scope="module")
def worker(tmp_path_factory, broker, django_db_setup, django_db_blocker):
    with django_db_blocker.unblock():
        if connection.vendor != "postgresql":
            pytest.skip("a test database in memory cannot be shared with worker processes")
        made = Worker(tmp_path_factory.mktemp("worker") / "worker.log")
    yield made
    made.stop()


def dropped(worker):
    return [json.loads(line) for line in worker.log().splitlines() if '"unknown payload dropped"' in line]


@pytest.mark.parametrize("name", GARBAGE)
def test_an_unknown_payload_is_told_of_and_dropped_and_the_next_ring_is_heard(worker, broker, name):
    told, id_ = len(dropped(worker)), str(uuid.uuid4())
    broker.lpush(QUEUE, GARBAGE[name])
    broker.lpush(QUEUE, entry(id_))
    wait_until(lambda: id_ in worker.log() or worker.process.poll() is not None, "the ring behind it")
    assert worker.process.poll() is None
    wait_until(lambda: not broker.hlen("unacked"), "the acknowledgement")
    assert (broker.llen(QUEUE), broker.zcard("unacked_index")) == (0, 0)
    [line] = dropped(worker)[told:]
    assert (line["level"], line["queue"]) == ("warning", QUEUE)
    assert line["kind"]
    assert line["length"] <= len(GARBAGE[name])


def test_all_that_time_it_was_the_same_worker_and_it_said_nothing_else(worker, broker):
    log = worker.log()
    assert log.count(" ready.") == 1
    assert SECRET not in log
    assert "Traceback" not in log
    assert "exception" not in log
    assert "onnection to broker lost" not in log


def test_a_ring_waits_for_its_turn_among_thousands_of_unknown_payloads(worker, broker):
    id_ = str(uuid.uuid4())
    broker.lpush(QUEUE, *[SECRET] * 3000, entry(id_))
    wait_until(lambda: id_ in worker.log(), "the ring behind them", 60)
    assert worker.process.poll() is None


def test_a_worker_told_to_stop_among_unknown_payloads_ends_in_order(worker, broker):
    """Last: it ends the worker of this module."""
    broker.lpush(QUEUE, *[SECRET] * 200)
    os.kill(worker.process.pid, signal.SIGTERM)
    assert worker.process.wait(30) == 0
    assert broker.hlen("unacked") == 0
