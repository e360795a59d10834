"""DEL-9: hold, release, retry now, cancel."""

import pytest

from accounts.ids import uuid7
from delivery import claims, control, sender
from delivery.models import Message, MessageStatus
from delivery.tests.factories import MessageFactory
from delivery.tests.mail import accepted
from delivery.tests.test_sender import BUSY, GONE, deliver, make_due, statuses
from providers.tests.factories import RoutingRuleFactory

pytestmark = pytest.mark.django_db


def test_a_waiting_message_can_be_held_and_is_not_sent(acme_account, box, operator):
    message = accepted(acme_account)
    outcome = control.hold([message.pk], actor=operator, reason="Looks odd.")
    assert (outcome.changed, outcome.refused) == (1, {})
    deliver(message)
    assert (message.status, message.status_reason) == (MessageStatus.HELD, "Looks odd.")
    assert message.next_attempt_at is None
    assert box.accepted == []
    assert message.events.last().data["by"] == "the platform operator"


def test_a_released_message_is_sent_though_a_rule_would_hold_it(acme, acme_account, box, operator):
    RoutingRuleFactory(tenant=acme, action="hold")
    message = accepted(acme_account)
    deliver(message)
    assert message.status == MessageStatus.HELD
    assert control.release([message.pk], actor=operator).changed == 1
    deliver(message)
    assert message.status == MessageStatus.DELIVERED


def test_an_enqueue_failed_message_can_be_released(acme_account, box, operator):
    message = accepted(acme_account)
    Message.objects.update(status=MessageStatus.ENQUEUE_FAILED, next_attempt_at=None)
    control.release([message.pk], actor=operator)
    deliver(message)
    assert message.status == MessageStatus.DELIVERED


def test_a_release_rings_after_the_commit(acme_account, box, broker, operator, django_capture_on_commit_callbacks):
    message = accepted(acme_account)
    control.hold([message.pk], actor=operator)
    broker.flushdb()
    with django_capture_on_commit_callbacks(execute=True):
        control.release([message.pk], actor=operator)
        assert broker.llen("outbound.deliver") == 0
    assert broker.llen("outbound.deliver") == 1


def test_a_dead_letter_is_tried_again_with_its_counter_reset(acme_account, box, operator):
    message = accepted(acme_account)
    for _ in range(6):
        box.answers.append(BUSY)
        deliver(message)
        if message.next_attempt_at:
            make_due(message)
    assert message.status == MessageStatus.DLQ
    control.retry([message.pk], actor=operator)
    box.answers.append(BUSY)
    deliver(message)
    assert (message.status, message.tries) == (MessageStatus.RETRYING, 1)
    make_due(message)
    deliver(message)
    assert message.status == MessageStatus.DELIVERED


def test_a_failed_message_can_be_tried_again(acme_account, box, operator):
    box.answers.append(GONE)
    message = accepted(acme_account)
    deliver(message)
    control.retry([message.pk], actor=operator)
    deliver(message)
    assert message.status == MessageStatus.DELIVERED


def test_a_cancelled_message_is_never_sent(acme_account, box, operator):
    message = accepted(acme_account)
    control.cancel([message.pk], actor=operator)
    deliver(message)
    assert message.status == MessageStatus.CANCELLED
    assert message.finished_at is not None
    assert statuses(message) == {"someone@outside.example": "failed"}
    assert box.accepted == []


def test_what_a_worker_is_sending_cannot_be_touched(acme_account, box, operator):
    message = accepted(acme_account)
    claims.claim([message.pk])
    for action in (control.hold, control.release, control.retry, control.cancel):
        outcome = action([message.pk], actor=operator)
        assert outcome.changed == 0
        assert "processing" in outcome.refused[message.pk]


@pytest.mark.parametrize(
    ("action", "allowed"),
    [
        (control.hold, {"queued", "retrying", "scheduled"}),
        (control.release, {"held", "enqueue_failed"}),
        (control.retry, {"retrying", "failed", "partial", "dlq", "storage_error", "enqueue_failed"}),
        (control.cancel, {"queued", "retrying", "scheduled", "held"}),
    ],
)
def test_each_action_fits_some_statuses_only(acme_account, broker, action, allowed):
    messages = {str(status): MessageFactory(account=acme_account, status=status) for status in MessageStatus}
    outcome = action([message.pk for message in messages.values()], actor=None)
    assert {status for status, message in messages.items() if message.pk not in outcome.refused} == allowed
    for status, message in messages.items():
        if status not in allowed:
            message.refresh_from_db()
            assert message.status == status


def test_an_unknown_id_is_refused_with_a_reason(db):
    id_ = uuid7()
    assert control.hold([id_], actor=None).refused == {id_: "There is no such message."}


def test_a_large_selection_is_changed_page_by_page(acme_account, broker, monkeypatch):
    monkeypatch.setattr(control, "PAGE", 3)
    messages = [MessageFactory(account=acme_account) for _ in range(7)]
    assert control.hold([message.pk for message in messages], actor=None).changed == 7


def test_sending_twice_after_a_release_sends_once(acme_account, box, operator):
    message = accepted(acme_account)
    control.hold([message.pk], actor=operator)
    control.release([message.pk], actor=operator)
    sender.deliver([message.pk])
    sender.deliver([message.pk])
    assert len(box.accepted) == 1
