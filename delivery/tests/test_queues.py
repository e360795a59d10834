"""QUE-5: each kind of message has a queue of its own, decided at acceptance."""

import json

import pytest

from accounts.tests.factories import AccountFactory
from delivery import claims, intake, queue, queues, ringing
from delivery.models import Message, MessageStatus
from delivery.submission import Accepted
from delivery.tests.factories import MessageFactory
from delivery.tests.mail import accepted, raw_message, submission

pytestmark = pytest.mark.django_db

ATTACHED = raw_message("Content-Type: multipart/mixed; boundary=x")
ALTERNATIVE = raw_message("Content-Type: multipart/alternative; boundary=x")


def rings(broker):
    """How many rings lie in each queue that has any."""
    return {name: broker.llen(name) for name in queues.NAMES if broker.llen(name)}


@pytest.mark.parametrize(
    ("raw", "name"),
    [
        (raw_message(), queues.FRESH),
        (ALTERNATIVE, queues.FRESH),
        (ATTACHED, queues.LARGE),
        (raw_message("Content-Type: application/pdf"), queues.LARGE),
        (raw_message("Content-Type: Multipart/MIXED; boundary=é"), queues.LARGE),
    ],
)
def test_attachments_are_known_by_the_content_type(acme_account, broker, raw, name):
    assert accepted(acme_account, raw).queue == name
    assert rings(broker) == {name: 1}


def test_a_large_message_counts_like_one_with_attachments(acme_account, broker, settings):
    raw = raw_message(body="x" * 60 + "\r\n")
    settings.QUEUE_LARGE_SIZE = len(raw) + 1
    assert accepted(acme_account, raw).queue == queues.FRESH
    settings.QUEUE_LARGE_SIZE = len(raw)
    assert accepted(acme_account, raw).queue == queues.LARGE


def test_mail_of_a_transactional_account_goes_ahead_whatever_is_in_it(acme, broker):
    account = AccountFactory(tenant=acme, transactional=True)
    assert accepted(account, ATTACHED).queue == queues.TRANSACTIONAL
    assert rings(broker) == {queues.TRANSACTIONAL: 1}


def test_messages_that_end_together_ring_once_for_each_queue(acme_account, broker):
    raws = [raw_message(), ATTACHED, raw_message(), ATTACHED, ATTACHED]
    answers = intake.accept([submission(acme_account, raw) for raw in raws])
    assert all(isinstance(answer, Accepted) for answer in answers)
    assert rings(broker) == {queues.FRESH: 1, queues.LARGE: 1}
    assert sorted(Message.objects.values_list("queue", flat=True)) == [queues.FRESH] * 2 + [queues.LARGE] * 3


def test_a_queue_that_cannot_be_rung_fails_its_own_messages_only(acme_account, broker, monkeypatch):
    """ACC-3: what the broker took is accepted; the client of the other is told to send again."""
    monkeypatch.setattr(ringing, "RING_WAITS", (0.0,))
    broker.set(queues.LARGE, "no list: nothing can be put on it")
    large, small = intake.accept([submission(acme_account, ATTACHED), submission(acme_account)])
    assert isinstance(small, Accepted)
    assert large.code == "enqueue_failed"
    statuses = dict(Message.objects.values_list("queue", "status"))
    assert statuses == {queues.FRESH: MessageStatus.QUEUED, queues.LARGE: MessageStatus.ENQUEUE_FAILED}


def test_a_worker_takes_along_mail_of_the_same_queue_only(acme_account):
    small, other = [MessageFactory(account=acme_account) for _ in range(2)]
    large = MessageFactory(account=acme_account, queue=queues.LARGE)
    assert {one.message.pk for one in claims.claim([small.pk])} == {small.pk, other.pk}
    large.refresh_from_db()
    assert large.status == MessageStatus.QUEUED


def test_every_queue_is_in_the_documentation(settings):
    text = (settings.BASE_DIR / "docs" / "queues.md").read_text()
    for one in queues.TABLE.values():
        assert f"| `{one.name}` | {one.holds} |" in text


def test_a_ring_names_its_messages_only(acme_account, broker):
    queue.ring([MessageFactory(account=acme_account).pk], queues.LARGE)
    [entry] = broker.lrange(queues.LARGE, 0, -1)
    assert json.loads(entry)["properties"]["delivery_info"]["routing_key"] == queues.LARGE
