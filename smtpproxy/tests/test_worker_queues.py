"""QUE-5: which queues a worker looks at, and in which order."""

import os
import subprocess
import sys

import pytest

from delivery import queues
from smtpproxy import settings
from smtpproxy.brokers.redis_transport import InTurn

SHOW = """
from celery.signals import celeryd_init
from smtpproxy.celery import app
celeryd_init.send(sender="test")
print(",".join(app.amqp.queues.consume_from))
"""


def started(**environment):
    return subprocess.run(
        [sys.executable, "-c", SHOW],
        check=False,
        cwd=settings.BASE_DIR,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )


def test_a_worker_looks_at_every_queue_unless_told_otherwise():
    assert started().stdout.strip().split(",") == list(queues.NAMES)


def test_a_worker_looks_at_the_queues_it_is_told():
    assert started(WORKER_QUEUES="outbound.large,webhooks").stdout.strip() == "outbound.large,webhooks"


def test_a_queue_nobody_knows_stops_the_start():
    run = started(WORKER_QUEUES="outbound.large,outbound.larger")
    assert run.returncode != 0
    assert "WORKER_QUEUES='outbound.large,outbound.larger' is not valid" in run.stderr


@pytest.mark.parametrize("busy", [queues.LARGE, queues.FRESH, queues.TRANSACTIONAL])
def test_a_queue_that_was_served_comes_after_the_others_but_transactional_mail_before_all(busy):
    cycle = InTurn()
    cycle.update(queues.NAMES)
    for _ in range(3):
        assert cycle.consume(len(queues.NAMES))[0] == queues.TRANSACTIONAL
        cycle.rotate(busy)
    order = cycle.consume(len(queues.NAMES))
    assert sorted(order) == sorted(queues.NAMES)
    assert order[0] == queues.TRANSACTIONAL
    assert busy == queues.TRANSACTIONAL or order[-1] == busy
