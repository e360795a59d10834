"""DEL-3: the sweeper rings for everything due; QUE-6, QUE-8: what a task does with its payload."""

import base64
import json
import uuid
from datetime import timedelta

import pytest
from django.utils import timezone

from delivery import claims, queue, sweeper, tasks
from delivery.models import Message, MessageStatus
from delivery.tests.factories import MessageFactory
from delivery.tests.mail import accepted
from delivery.tests.test_sender import make_due

pytestmark = pytest.mark.django_db
PAST = timedelta(minutes=5)


def rung(broker, queue="outbound.retry"):
    bodies = [json.loads(base64.b64decode(json.loads(entry)["body"])) for entry in broker.lrange(queue, 0, -1)]
    return [[uuid.UUID(id_) for id_ in body[0][0]] for body in reversed(bodies)]


def due(account, status, **values):
    return MessageFactory(account=account, status=status, next_attempt_at=timezone.now() - PAST, **values)


@pytest.mark.parametrize("status", ["queued", "retrying", "scheduled", "processing"])
def test_whatever_is_due_is_rung_for(acme_account, broker, status):
    message = due(acme_account, status)
    assert sweeper.ring_due() == 1
    assert rung(broker) == [[message.pk]]


def test_what_is_not_due_yet_or_over_is_left_alone(acme_account, broker):
    MessageFactory(account=acme_account, status="retrying", next_attempt_at=timezone.now() + PAST)
    for status in ("held", "delivered", "failed", "dlq", "enqueue_failed", "storage_error", "cancelled"):
        MessageFactory(account=acme_account, status=status)
    assert sweeper.ring_due() == 0


def test_what_was_rung_for_a_moment_ago_is_not_rung_for_again(acme_account, broker):
    due(acme_account, "retrying")
    assert sweeper.ring_due() == 1
    assert sweeper.ring_due() == 0
    Message.objects.update(rung_at=timezone.now() - timedelta(minutes=2))
    assert sweeper.ring_due() == 1


def test_a_worker_that_is_there_at_once_finds_the_row_written(acme_account, broker, monkeypatch):
    """It would pass over a row that is being written, and the message would wait for a minute."""
    due(acme_account, "retrying")
    ring, found = queue.ring, []

    def looked_at_while_ringing(ids, name):
        found.extend(Message.objects.filter(pk__in=ids).values_list("rung_at", flat=True))
        ring(ids, name)

    monkeypatch.setattr(queue, "ring", looked_at_while_ringing)
    sweeper.ring_due()
    assert None not in found
    assert len(found) == 1


def test_what_the_broker_did_not_take_is_rung_for_by_the_next_sweep(acme_account, broker, monkeypatch):
    message = due(acme_account, "retrying")
    with monkeypatch.context() as away:
        away.setattr(queue, "_send", _refuse)
        assert sweeper.ring_due() == 0
    message.refresh_from_db()
    assert message.rung_at is None
    assert sweeper.ring_due() == 1


def _refuse(*_):
    raise queue.RingFailed("away")


def test_many_due_messages_are_rung_for_in_lists(acme_account, broker, settings, monkeypatch):
    settings.DELIVERY_BATCH = 4
    monkeypatch.setattr(sweeper, "PAGE", 6)
    ids = {due(acme_account, "queued").pk for _ in range(10)}
    assert sweeper.ring_due() == 10
    lists = rung(broker)
    assert {id_ for some in lists for id_ in some} == ids
    assert max(len(some) for some in lists) == 4


def test_a_message_claimed_without_an_outcome_is_rung_for_alone(acme_account, broker):
    """QUE-6."""
    due(acme_account, "retrying")
    suspect = due(acme_account, "processing", claims=1, lease=uuid.uuid4())
    due(acme_account, "retrying")
    sweeper.ring_due()
    assert [suspect.pk] in rung(broker)
    assert sorted(len(some) for some in rung(broker)) == [1, 2]


def test_a_message_whose_ring_was_lost_is_delivered_all_the_same(acme_account, box, broker):
    message = accepted(acme_account)
    broker.flushdb()
    make_due(message)
    tasks.ring_due()
    for some in rung(broker):
        tasks.deliver([str(id_) for id_ in some])
    message.refresh_from_db()
    assert message.status == MessageStatus.DELIVERED


def test_the_lease_of_a_dead_worker_is_taken_over(acme_account, box, broker):
    message = accepted(acme_account)
    claims.claim([message.pk])
    make_due(message)
    tasks.ring_due()
    tasks.deliver([str(message.pk)])
    message.refresh_from_db()
    assert message.status == MessageStatus.DELIVERED


@pytest.mark.parametrize(
    ("payload", "named"),
    [
        ((), {}),
        ((None,), {}),
        (("not a list",), {}),
        ((["not an id"],), {}),
        (([42],), {}),
        (({"message": "old format"},), {}),
        (([], "more"), {}),
        (([],), {"body": "x"}),
    ],
)
def test_an_unknown_payload_is_logged_and_dropped(box, caplog, payload, named):
    """QUE-8."""
    tasks.deliver(*payload, **named)
    assert any("unknown payload dropped" in record.getMessage() for record in caplog.records)


def test_every_task_may_run_twice(acme_account, box, broker):
    """DEL-6."""
    message = accepted(acme_account)
    for _ in range(2):
        tasks.deliver([str(message.pk)])
        tasks.ring_due()
    assert len(box.accepted) == 1


def test_when_the_workers_are_behind_no_more_rings_pile_up(acme_account, broker, monkeypatch, settings):
    settings.DELIVERY_BATCH = 1
    monkeypatch.setattr(sweeper, "MOST_WAITING", 3)
    monkeypatch.setattr(sweeper, "PAGE", 2)
    for _ in range(10):
        due(acme_account, "queued")
    sweeper.ring_due()
    assert broker.llen("outbound.retry") == 4
    assert sweeper.ring_due() == 0
    broker.flushdb()
    assert sweeper.ring_due() == 4
