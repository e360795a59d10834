"""DEL-9, DEL-11, RET-5: hold, release, retry now, cancel, reprocess."""

from datetime import timedelta
from functools import partial

import pytest
from django.utils import timezone
from structlog.testing import capture_logs

from accounts.ids import uuid7
from accounts.models import AuditEntry
from accounts.tests.factories import UserFactory
from delivery import claims, control, queues, sender, store
from delivery.models import Event, Message, MessageStatus
from delivery.tests.factories import MessageFactory
from delivery.tests.mail import accepted
from delivery.tests.test_sender import BUSY, GONE, deliver, make_due, statuses
from providers.exceptions import TemporaryFailure
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


def test_each_is_rung_for_in_the_queue_it_belongs_to(
    acme_account, broker, operator, django_capture_on_commit_callbacks
):
    rows = [MessageFactory(account=acme_account, status="held", queue=name) for name in (queues.FRESH, queues.LARGE)]
    with django_capture_on_commit_callbacks(execute=True):
        control.release([row.pk for row in rows], actor=operator)
    assert [broker.llen(name) for name in (queues.FRESH, queues.LARGE, queues.AGAIN)] == [1, 1, 0]


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
    to_the_rules = partial(control.reroute, provider=None)
    for action in (
        control.hold,
        control.release,
        control.retry,
        control.cancel,
        control.reprocess,
        to_the_rules,
    ):
        outcome = action([message.pk], actor=operator)
        assert outcome.changed == 0
        assert "processing" in outcome.refused[message.pk]


@pytest.mark.parametrize(
    ("action", "allowed"),
    [
        (control.hold, {"queued", "retrying", "scheduled"}),
        (control.release, {"held", "enqueue_failed"}),
        (control.retry, {"retrying", "scheduled", "failed", "partial", "dlq", "storage_error", "enqueue_failed"}),
        (control.reprocess, {"dlq", "storage_error", "enqueue_failed"}),
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


class TestDeadLetters:
    @pytest.fixture
    def dead(self, acme_account, box):
        """A message whose retries are used up."""
        message = accepted(acme_account)
        for _ in range(6):
            box.answers.append(BUSY)
            deliver(message)
            if message.next_attempt_at:
                make_due(message)
        assert message.status == MessageStatus.DLQ
        return message

    def test_what_used_up_its_retries_tells_how_many_and_every_reason(self, dead):
        """RET-3."""
        told = dead.events.get(type="dead_letter").data
        assert "5 retries" in told["reason"]
        assert "Mailbox busy" in told["reason"]
        attempts = list(dead.delivery_logs.order_by("pk"))
        assert [attempt.status for attempt in attempts] == ["retrying"] * 5 + ["dlq"]
        assert [attempt.attempt_number for attempt in attempts] == [1, 2, 3, 4, 5, 6]
        assert {attempt.error_text for attempt in attempts} == {"Mailbox busy"}
        assert told["errors"] == ["Mailbox busy"]

    def test_the_event_has_each_different_error_once_and_the_log_a_warning(self, acme_account, box):
        """RET-3."""
        message = accepted(acme_account)
        full = TemporaryFailure("Mailbox full", code="mailbox_full", status_code=452)
        with capture_logs() as logs:
            for answer in (BUSY, full, BUSY, BUSY, full, BUSY):
                box.answers.append(answer)
                deliver(message)
                if message.next_attempt_at:
                    make_due(message)
        told = message.events.get(type="dead_letter").data
        assert (told["errors"], told["tries"]) == (["Mailbox busy", "Mailbox full"], 5)
        [entry] = [entry for entry in logs if entry["event"] == "message" and entry["status"] == "dlq"]
        assert (entry["log_level"], entry["tries"]) == ("warning", 5)
        assert entry["message_id"] == str(message.pk)

    def test_reprocessed_it_has_all_its_retries_again(self, dead, box, operator):
        control.reprocess([dead.pk], actor=operator)
        box.answers.append(BUSY)
        deliver(dead)
        assert (dead.status, dead.tries) == (MessageStatus.RETRYING, 1)
        make_due(dead)
        deliver(dead)
        assert dead.status == MessageStatus.DELIVERED

    def test_each_id_has_its_result_and_there_is_a_count(self, dead, acme_account, operator):
        delivered = MessageFactory(account=acme_account, status="delivered")
        nobody = uuid7()
        outcome = control.reprocess([dead.pk, delivered.pk, nobody, dead.pk], actor=operator)
        assert (outcome.done, outcome.changed) == ([dead.pk], 1)
        assert outcome.refused == {delivered.pk: "The message is delivered.", nobody: control.NO_SUCH}

    def test_one_whose_body_is_still_missing_is_parked_again_and_says_why(
        self, acme_account, box, operator, monkeypatch
    ):
        monkeypatch.setattr(sender, "FETCH_WAITS", (0.0,))
        message = accepted(acme_account)
        store.delete(message.store_key)
        deliver(message)
        assert message.status == MessageStatus.STORAGE_ERROR
        assert control.reprocess([message.pk], actor=operator).changed == 1
        deliver(message)
        assert message.status == MessageStatus.STORAGE_ERROR
        assert message.status_reason.startswith("The body cannot be read: ")
        assert statuses(message) == {"someone@outside.example": "failed"}

    @pytest.mark.parametrize(
        ("action", "status"),
        [
            (control.release, "held"),
            (control.retry, "dlq"),
            (control.retry, "scheduled"),
            (control.reprocess, "storage_error"),
            (partial(control.reroute, provider=None), "failed"),
        ],
    )
    def test_nothing_is_sent_whose_body_was_deleted_when_its_days_were_over(self, acme_account, broker, action, status):
        message = MessageFactory(account=acme_account, status=status, body_deleted_at=timezone.now())
        assert action([message.pk], actor=None).refused == {message.pk: "Its body is no longer stored."}

    def test_what_has_no_body_can_still_be_held_and_cancelled(self, acme_account, broker):
        message = MessageFactory(account=acme_account, body_deleted_at=timezone.now())
        assert control.hold([message.pk], actor=None).changed == 1
        assert control.cancel([message.pk], actor=None).changed == 1


class TestScheduled:
    @pytest.fixture
    def tomorrow(self):
        return timezone.now() + timedelta(days=1)

    @pytest.fixture
    def scheduled(self, acme_account, box, tomorrow):
        return accepted(acme_account, scheduled_at=tomorrow)

    def test_it_can_be_cancelled_until_it_starts(self, scheduled, box, operator):
        assert control.cancel([scheduled.pk], actor=operator).changed == 1
        deliver(scheduled)
        assert (scheduled.status, box.accepted) == (MessageStatus.CANCELLED, [])

    def test_once_it_has_started_it_cannot_be_cancelled(self, scheduled, box, operator):
        make_due(scheduled)
        assert claims.claim([scheduled.pk])
        assert control.cancel([scheduled.pk], actor=operator).refused == {scheduled.pk: "The message is processing."}

    def test_it_can_be_sent_now(self, scheduled, box, operator):
        assert control.retry([scheduled.pk], actor=operator).changed == 1
        deliver(scheduled)
        assert (scheduled.status, scheduled.scheduled_at) == (MessageStatus.DELIVERED, None)

    def test_held_and_released_it_keeps_its_time(self, scheduled, box, operator, tomorrow):
        control.hold([scheduled.pk], actor=operator)
        control.release([scheduled.pk], actor=operator)
        deliver(scheduled)
        assert (scheduled.status, scheduled.next_attempt_at, box.accepted) == ("scheduled", tomorrow, [])

    def test_released_after_its_time_it_is_sent_at_once(self, scheduled, box, operator):
        control.hold([scheduled.pk], actor=operator)
        Message.objects.update(scheduled_at=timezone.now() - timedelta(minutes=1))
        control.release([scheduled.pk], actor=operator)
        deliver(scheduled)
        assert scheduled.status == MessageStatus.DELIVERED


class TestAudit:
    def test_what_a_person_did_is_told_beside_each_message_with_their_address(self, acme_account, broker):
        anna = UserFactory(tenant=acme_account.tenant, role="admin", email="anna@acme.example")
        messages = [MessageFactory(account=acme_account) for _ in range(2)]
        other = MessageFactory(account=acme_account, status="delivered")
        control.hold([message.pk for message in (*messages, other)], actor=anna, ip="192.0.2.7")
        entries = AuditEntry.objects.filter(action="message.held", actor=anna, client_ip="192.0.2.7")
        assert {entry.target_id for entry in entries} == {str(message.pk) for message in messages}
        assert {entry.tenant_id for entry in entries} == {acme_account.tenant_id}

    def test_a_command_is_named_in_the_audit_and_not_to_the_tenant(self, acme_account, broker):
        message = MessageFactory(account=acme_account)
        control.cancel([message.pk], actor="manage.py messages")
        assert AuditEntry.objects.get().actor_label == "manage.py messages"
        assert Event.objects.get().data["by"] == "the platform operator"

    def test_what_the_system_does_by_itself_is_no_ones_action(self, acme_account, broker):
        control.hold([MessageFactory(account=acme_account).pk], actor=None)
        assert not AuditEntry.objects.exists()
