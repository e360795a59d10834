"""Delivery: DEL-1…6, RET-1, RET-2, RET-4, RET-6, RTE-3, PRV-7, QUE-6."""

import os
import uuid
from datetime import timedelta

import pytest
from django.utils import timezone

from accounts.models import Tenant
from delivery import claims, sender, store
from delivery.models import DeliveryLog, Message, MessageStatus, Recipient, RecipientStatus
from delivery.tests.mail import accepted, raw_message
from providers import base
from providers.backends.memory import MemoryBackend
from providers.exceptions import Misconfigured, PermanentFailure, TemporaryFailure, TooLarge, Unsupported
from providers.fidelity import Verdict
from providers.models import Provider
from providers.tests.factories import ProviderFactory, RoutingRuleFactory

pytestmark = pytest.mark.django_db

BUSY = TemporaryFailure("Mailbox busy", code="mailbox_busy", status_code=450)
GONE = PermanentFailure("No such user", code="bad_recipient", status_code=550)
LOST = TemporaryFailure("No answer", code="timeout", outcome_unknown=True)


def deliver(*messages):
    """One round, as a ring would start it; rows come back fresh."""
    sender.deliver([message.pk for message in messages])
    for message in messages:
        message.refresh_from_db()


def make_due(message):
    Message.objects.filter(pk=message.pk).update(next_attempt_at=timezone.now() - timedelta(seconds=1))


def statuses(message):
    return {r.address: str(r.status) for r in message.recipients.all()}


def logs(message):
    return [(log.provider_name, str(log.status)) for log in message.delivery_logs.order_by("attempt_number")]


@pytest.fixture
def fallback(acme, box):
    """acme's second default provider, with a box of its own."""
    ProviderFactory(tenant=acme, name="fallback", default_rank=1, config={"box": "fallback"})
    return MemoryBackend.box("fallback")


def test_a_message_reaches_each_recipient_once_as_it_was_written(acme_account, box):
    raw = raw_message("X-Odd:   kept  as it is ", body="caf\xe9 \x00 . \r\n..\r\n")
    message = accepted(acme_account, raw, ["a@outside.example", "b@outside.example"])
    deliver(message)
    [taken] = box.accepted
    assert taken.raw == raw
    assert taken.mail_from == "crm@acme.example"
    assert set(taken.recipients) == {"a@outside.example", "b@outside.example"}
    assert message.status == MessageStatus.DELIVERED
    assert statuses(message) == {"a@outside.example": "delivered", "b@outside.example": "delivered"}
    assert {r.provider_message_id for r in message.recipients.all()} == {"memory-1"}
    assert (message.lease, message.next_attempt_at, message.claims) == (None, None, 0)
    assert message.finished_at is not None
    [log] = message.delivery_logs.all()
    assert (log.status, log.provider_name, log.attempt_number) == ("delivered", "primary", 1)
    assert log.duration_ms is not None
    assert [event.type for event in message.events.all()] == ["received", "delivered"]


def test_blind_copies_and_control_headers_are_taken_out_on_the_way(acme_account, box):
    raw = raw_message("Bcc: secret@outside.example", "X-SMTPProxy-Hint: mine")
    message = accepted(acme_account, raw, ["secret@outside.example"])
    deliver(message)
    assert box.accepted[0].raw == raw_message()
    assert store.read(message.store_key) == raw
    assert message.delivery_logs.get().removed == ["Bcc", "X-SMTPProxy-Hint"]


def test_a_repeated_ring_sends_nothing_twice(acme_account, box):
    """DEL-6."""
    message = accepted(acme_account)
    deliver(message)
    deliver(message)
    assert len(box.accepted) == 1
    assert message.delivery_logs.count() == 1


def test_a_message_another_worker_holds_is_left_alone(acme_account, box):
    """DEL-1."""
    message = accepted(acme_account)
    assert claims.claim([message.pk])
    deliver(message)
    assert box.accepted == []
    assert message.status == MessageStatus.PROCESSING


def test_many_messages_travel_in_one_round(acme_account, box):
    messages = [accepted(acme_account, None, [f"r{n}@outside.example"]) for n in range(30)]
    deliver(*messages)
    assert sorted(box.recipients()) == sorted(f"r{n}@outside.example" for n in range(30))
    assert {message.status for message in messages} == {MessageStatus.DELIVERED}


def test_a_ring_for_one_takes_fresh_messages_along(acme_account, box, settings):
    """Under load rings bring few ids; a worker that waited for a provider with each few would fall behind."""
    settings.DELIVERY_BATCH = 4
    messages = [accepted(acme_account, None, [f"r{n}@outside.example"]) for n in range(6)]
    held = accepted(acme_account, None, ["held@outside.example"])
    Message.objects.filter(pk=held.pk).update(status=MessageStatus.HELD, next_attempt_at=None)
    deliver(messages[5])
    assert sorted(box.recipients()) == [f"r{n}@outside.example" for n in (0, 1, 2, 5)]
    deliver(*messages)
    assert len(box.accepted) == 6


def test_a_ring_for_nothing_takes_nothing_along(acme_account, box):
    done, fresh = accepted(acme_account), accepted(acme_account)
    Message.objects.filter(pk=done.pk).update(status=MessageStatus.DELIVERED, next_attempt_at=None)
    sender.deliver([done.pk])
    fresh.refresh_from_db()
    assert fresh.status == MessageStatus.QUEUED


class TestTemporaryFailure:
    def test_is_tried_again_after_the_first_wait_of_the_schedule(self, acme_account, box):
        """RET-1: 30 s times a factor from 0.5 to 1."""
        box.answers.append(BUSY)
        message = accepted(acme_account)
        before = timezone.now()
        deliver(message)
        assert (message.status, message.tries) == (MessageStatus.RETRYING, 1)
        assert timedelta(seconds=14) < message.next_attempt_at - before < timedelta(seconds=32)
        assert statuses(message) == {"someone@outside.example": "deferred"}
        assert logs(message) == [("primary", "retrying")]
        [log] = message.delivery_logs.all()
        assert (log.response_code, log.error_code, log.error_text) == (450, "mailbox_busy", "Mailbox busy")
        assert message.events.last().type == "retrying"

    def test_is_not_tried_again_before_its_time(self, acme_account, box):
        box.answers.append(BUSY)
        message = accepted(acme_account)
        deliver(message)
        deliver(message)
        assert box.accepted == []

    def test_succeeds_when_its_time_has_come(self, acme_account, box):
        box.answers.append(BUSY)
        message = accepted(acme_account)
        deliver(message)
        make_due(message)
        deliver(message)
        assert message.status == MessageStatus.DELIVERED
        assert logs(message) == [("primary", "retrying"), ("primary", "delivered")]

    def test_a_retry_after_that_is_later_wins(self, acme_account, box):
        box.answers.append(TemporaryFailure("Not now", code="busy", status_code=450, retry_after=600))
        message = accepted(acme_account)
        deliver(message)
        assert message.next_attempt_at - timezone.now() > timedelta(seconds=590)

    def test_a_retry_after_of_zero_does_not_shorten_the_wait(self, acme_account, box):
        box.answers.append(TemporaryFailure("Not now", code="busy", status_code=450, retry_after=0))
        message = accepted(acme_account)
        deliver(message)
        assert message.next_attempt_at - timezone.now() > timedelta(seconds=13)

    def test_after_the_last_retry_it_is_a_dead_letter_that_says_why(self, acme_account, box, caplog):
        """RET-3."""
        message = accepted(acme_account)
        for _ in range(6):
            box.answers.append(BUSY)
            deliver(message)
            if message.next_attempt_at:
                make_due(message)
        assert message.status == MessageStatus.DLQ
        assert "Mailbox busy" in message.status_reason
        assert "5 retries" in message.status_reason
        assert statuses(message) == {"someone@outside.example": "failed"}
        assert [status for _, status in logs(message)] == ["retrying"] * 5 + ["dlq"]
        assert message.events.last().type == "dead_letter"
        assert any("dlq" in record.getMessage() and record.levelname == "WARNING" for record in caplog.records)
        deliver(message)
        assert len(logs(message)) == 6

    def test_a_provider_may_have_a_schedule_of_its_own(self, acme_account, box):
        Provider.objects.update(retry_schedule=[3000])
        message = accepted(acme_account)
        box.answers.extend([BUSY, BUSY])
        deliver(message)
        assert message.next_attempt_at - timezone.now() > timedelta(seconds=1400)
        make_due(message)
        deliver(message)
        assert message.status == MessageStatus.DLQ

    def test_an_unforeseen_error_is_temporary(self, acme_account, box):
        box.answers.append(42)  # the backend trips over it, as over anything nobody thought of
        message = accepted(acme_account)
        deliver(message)
        assert message.status == MessageStatus.RETRYING
        assert logs(message) == [("primary", "unknown")]


class TestFailover:
    """RET-2."""

    def test_the_next_provider_takes_over_within_the_attempt(self, acme_account, box, fallback):
        box.answers.append(BUSY)
        message = accepted(acme_account)
        deliver(message)
        assert message.status == MessageStatus.DELIVERED
        assert len(fallback.accepted) == 1
        assert logs(message) == [("primary", "retrying"), ("fallback", "delivered")]
        assert message.tries == 0

    def test_a_third_provider_is_not_called_for_what_the_second_has_taken(self, acme, acme_account, box, fallback):
        ProviderFactory(tenant=acme, name="third", default_rank=2, config={"box": "third"})
        box.answers.append(BUSY)
        message = accepted(acme_account, None, ["a@outside.example", "b@outside.example"])
        deliver(message)
        assert logs(message) == [("primary", "retrying"), ("fallback", "delivered")]
        assert MemoryBackend.box("third").accepted == []

    def test_nor_for_those_the_second_has_put_off(self, acme, acme_account, box, fallback):
        ProviderFactory(tenant=acme, name="third", default_rank=2, config={"box": "third"})
        later = base.RecipientResult(base.RecipientStatus.DEFERRED, code="not_sent")
        box.answers.append(BUSY)
        fallback.answers.append({"b@outside.example": later})
        message = accepted(acme_account, None, ["a@outside.example", "b@outside.example"])
        deliver(message)
        assert logs(message) == [("primary", "retrying"), ("fallback", "partial")]
        assert MemoryBackend.box("third").accepted == []
        assert statuses(message) == {"a@outside.example": "delivered", "b@outside.example": "deferred"}
        make_due(message)
        deliver(message)
        assert statuses(message) == {"a@outside.example": "delivered", "b@outside.example": "delivered"}
        assert box.recipients() == ["b@outside.example"]

    def test_a_permanent_failure_ends_it_at_once(self, acme_account, box, fallback):
        """RET-4."""
        box.answers.append(GONE)
        message = accepted(acme_account)
        deliver(message)
        assert message.status == MessageStatus.FAILED
        assert message.status_reason == "No such user"
        assert fallback.accepted == []
        assert logs(message) == [("primary", "failed")]

    @pytest.mark.parametrize("failure", [TooLarge("30 MB", code="too_large"), Unsupported("8-bit", code="eight_bit")])
    def test_what_one_cannot_carry_another_may(self, acme_account, box, fallback, failure):
        box.answers.append(failure)
        message = accepted(acme_account)
        deliver(message)
        assert message.status == MessageStatus.DELIVERED
        assert len(fallback.accepted) == 1

    def test_what_nobody_can_carry_has_failed(self, acme_account, box, fallback):
        box.answers.append(TooLarge("30 MB", code="too_large"))
        fallback.answers.append(TooLarge("10 MB", code="too_large"))
        message = accepted(acme_account)
        deliver(message)
        assert message.status == MessageStatus.FAILED

    def test_what_a_fallback_refuses_for_good_waits_for_the_primary(self, acme_account, box, fallback):
        box.answers.append(BUSY)
        fallback.answers.append(GONE)
        message = accepted(acme_account)
        deliver(message)
        assert message.status == MessageStatus.RETRYING

    def test_the_longest_retry_after_of_all_counts(self, acme_account, box, fallback):
        box.answers.append(TemporaryFailure("x", code="busy", status_code=450, retry_after=900))
        fallback.answers.append(TemporaryFailure("x", code="busy", status_code=450, retry_after=60))
        message = accepted(acme_account)
        deliver(message)
        assert message.next_attempt_at - timezone.now() > timedelta(seconds=890)

    def test_only_what_is_still_pending_goes_to_the_next(self, acme_account, box, fallback):
        """DEL-6: partial success is kept."""
        refused = base.RecipientResult(base.RecipientStatus.DEFERRED, code="450", text="Mailbox busy")
        box.answers.append({"b@outside.example": refused})
        message = accepted(acme_account, None, ["a@outside.example", "b@outside.example"])
        deliver(message)
        assert message.status == MessageStatus.RETRYING
        assert statuses(message) == {"a@outside.example": "delivered", "b@outside.example": "deferred"}
        make_due(message)
        deliver(message)
        assert message.status == MessageStatus.DELIVERED
        assert box.recipients().count("a@outside.example") == 1
        assert box.accepted[-1].recipients == ("b@outside.example",)
        assert set(box.accepted[-1].envelope_recipients) == {"a@outside.example", "b@outside.example"}

    def test_a_refused_recipient_makes_the_message_partial(self, acme_account, box):
        refused = base.RecipientResult(base.RecipientStatus.FAILED, code="550", text="No such user")
        box.answers.append({"b@outside.example": refused})
        message = accepted(acme_account, None, ["a@outside.example", "b@outside.example"])
        deliver(message)
        assert message.status == MessageStatus.PARTIAL
        assert logs(message) == [("primary", "partial")]


class TestBadCredentials:
    """PRV-7, RET-6."""

    WRONG = Misconfigured("Invalid API key", code="bad_credentials", status_code=401)

    def test_mark_the_provider_unhealthy_and_the_next_one_takes_over(self, acme_account, box, fallback):
        box.answers.append(self.WRONG)
        message = accepted(acme_account)
        deliver(message)
        assert message.status == MessageStatus.DELIVERED
        primary = Provider.objects.get(name="primary")
        assert primary.unhealthy_until > timezone.now()
        assert primary.unhealthy_reason == "Invalid API key"

    def test_use_up_no_try_when_no_other_provider_is_left(self, acme_account, box):
        box.answers.append(self.WRONG)
        message = accepted(acme_account)
        deliver(message)
        assert (message.status, message.tries) == (MessageStatus.RETRYING, 0)
        make_due(message)
        deliver(message)
        assert (message.status, message.tries) == (MessageStatus.RETRYING, 0)
        assert len(logs(message)) == 1
        assert box.accepted == []

    def test_are_forgotten_when_a_send_goes_through_after_the_pause(self, acme_account, box):
        Provider.objects.update(unhealthy_until=timezone.now() - timedelta(seconds=1), unhealthy_reason="x")
        message = accepted(acme_account)
        deliver(message)
        assert message.status == MessageStatus.DELIVERED
        assert Provider.objects.get().unhealthy_until is None

    def test_are_given_up_by_age_only(self, acme_account, box):
        box.answers.append(self.WRONG)
        message = accepted(acme_account)
        Message.objects.update(accepted_at=timezone.now() - timedelta(hours=73))
        deliver(message)
        assert message.status == MessageStatus.DLQ
        assert "age" in message.status_reason

    def test_of_a_row_nobody_can_decrypt_do_not_stop_the_others(self, acme_account, box, fallback, settings):
        from cryptography.fernet import Fernet

        primary = Provider.objects.get(name="primary")
        keys = settings.CREDENTIAL_KEYS
        settings.CREDENTIAL_KEYS = [Fernet.generate_key().decode()]
        primary.config = {"password": "x"}
        primary.save()
        settings.CREDENTIAL_KEYS = keys
        message = accepted(acme_account)
        deliver(message)
        assert message.status == MessageStatus.DELIVERED
        assert len(fallback.accepted) == 1


class TestRoutes:
    def test_without_any_provider_the_message_is_held_with_a_reason(self, acme_account, broker):
        """DEL-8."""
        message = accepted(acme_account)
        deliver(message)
        assert message.status == MessageStatus.HELD
        assert "no default provider" in message.status_reason
        assert message.events.last().type == "held"

    def test_shared_providers_serve_only_tenants_that_may_use_them(self, acme, acme_account, broker):
        """RTE-4."""
        ProviderFactory(tenant=None, name="shared", config={"box": "shared"})
        refused = accepted(acme_account)
        deliver(refused)
        assert refused.status == MessageStatus.HELD
        Tenant.objects.filter(pk=acme.pk).update(may_use_shared_providers=True)
        from delivery import routing

        routing.forget()
        taken = accepted(acme_account)
        deliver(taken)
        assert taken.status == MessageStatus.DELIVERED

    def test_another_tenants_provider_is_never_used(self, acme_account, globex, broker):
        ProviderFactory(tenant=globex, name="theirs")
        message = accepted(acme_account)
        deliver(message)
        assert message.status == MessageStatus.HELD

    def test_recipients_that_match_different_rules_go_different_ways(self, acme, acme_account, box):
        """RTE-3."""
        special = ProviderFactory(tenant=acme, name="special", default_rank=None, config={"box": "special"})
        RoutingRuleFactory(
            tenant=acme, conditions=[{"field": "recipient", "values": ["special.example"]}], providers=[special]
        )
        message = accepted(acme_account, None, ["a@special.example", "b@outside.example"])
        deliver(message)
        assert message.status == MessageStatus.DELIVERED
        assert MemoryBackend.box("special").recipients() == ["a@special.example"]
        assert box.recipients() == ["b@outside.example"]
        assert message.delivery_logs.count() == 2

    def test_a_rule_may_read_headers(self, acme, acme_account, box):
        special = ProviderFactory(tenant=acme, name="special", default_rank=None, config={"box": "special"})
        RoutingRuleFactory(
            tenant=acme,
            conditions=[{"field": "header", "name": "X-Kind", "op": "equals", "values": ["invoice"]}],
            providers=[special],
        )
        deliver(accepted(acme_account, raw_message("X-Kind: =?utf-8?q?invoice?=")))
        deliver(accepted(acme_account, raw_message("X-Kind: letter")))
        assert (len(MemoryBackend.box("special").accepted), len(box.accepted)) == (1, 1)

    @pytest.mark.parametrize(
        ("action", "status", "recipient"),
        [("hold", "held", "pending"), ("reject", "rejected", "failed"), ("discard", "discarded", "suppressed")],
    )
    def test_a_rule_may_hold_reject_or_discard(self, acme, acme_account, box, action, status, recipient):
        RoutingRuleFactory(tenant=acme, name="the rule", action=action)
        message = accepted(acme_account)
        deliver(message)
        assert message.status == status
        assert "the rule" in message.status_reason
        assert statuses(message) == {"someone@outside.example": recipient}
        assert box.accepted == []

    def test_a_held_part_waits_while_the_rest_goes_out(self, acme, acme_account, box):
        RoutingRuleFactory(tenant=acme, action="hold", conditions=[{"field": "recipient", "values": ["vip.example"]}])
        message = accepted(acme_account, None, ["a@vip.example", "b@outside.example"])
        deliver(message)
        assert message.status == MessageStatus.HELD
        assert statuses(message) == {"a@vip.example": "pending", "b@outside.example": "delivered"}

    def test_fallbacks_of_a_rule_are_tried_in_order(self, acme, acme_account, broker):
        first = ProviderFactory(tenant=acme, name="first", default_rank=None, config={"box": "first"})
        second = ProviderFactory(tenant=acme, name="second", default_rank=None, config={"box": "second"})
        RoutingRuleFactory(tenant=acme, providers=[first, second])
        MemoryBackend.box("first").answers.append(BUSY)
        message = accepted(acme_account)
        deliver(message)
        assert logs(message) == [("first", "retrying"), ("second", "delivered")]

    def test_a_disabled_provider_is_passed_over(self, acme, acme_account, box, fallback):
        Provider.objects.filter(name="primary").update(enabled=False)
        deliver(accepted(acme_account))
        assert (len(box.accepted), len(fallback.accepted)) == (0, 1)


class TestWorkerDeath:
    """DEL-5, QUE-6: a worker dies between the attempt row and the outcome."""

    def die_in_the_call(self, message):
        """What the database holds after SIGKILL while the provider was called; the lease has run out since."""
        [one] = claims.claim([message.pk])
        log = DeliveryLog.objects.create(
            message=message,
            tenant=message.tenant,
            account=message.account,
            provider=Provider.objects.get(name="primary"),
            provider_name="primary",
            provider_type="memory",
            attempt_number=1,
            idempotency_key=uuid.uuid4(),
            recipients=[r.address for r in one.pending],
            created_at=timezone.now(),
        )
        make_due(message)
        return log

    def test_the_attempt_is_unknown_and_the_message_is_sent_again(self, acme_account, box):
        message = accepted(acme_account)
        self.die_in_the_call(message)
        deliver(message)
        assert message.status == MessageStatus.DELIVERED
        assert logs(message) == [("primary", "unknown"), ("primary", "delivered")]
        assert len(box.accepted) == 1

    def test_it_is_held_where_the_tenant_wants_no_duplicate(self, acme, acme_account, box):
        Tenant.objects.filter(pk=acme.pk).update(unknown_outcome="hold")
        message = accepted(acme_account)
        self.die_in_the_call(message)
        deliver(message)
        assert message.status == MessageStatus.HELD
        assert statuses(message) == {"someone@outside.example": "unknown"}
        assert box.accepted == []

    def test_a_provider_that_knows_the_key_is_asked_with_the_same_key(self, acme, acme_account, box, monkeypatch):
        monkeypatch.setattr(MemoryBackend, "idempotent", True)
        Tenant.objects.filter(pk=acme.pk).update(unknown_outcome="hold")
        message = accepted(acme_account)
        log = self.die_in_the_call(message)
        deliver(message)
        assert message.status == MessageStatus.DELIVERED
        assert box.accepted[0].idempotency_key == str(log.idempotency_key)

    def test_a_message_that_kills_every_worker_is_parked(self, acme_account, box):
        message = accepted(acme_account)
        for _ in range(3):
            assert claims.claim([message.pk])
            make_due(message)
        deliver(message)
        assert message.status == MessageStatus.DLQ
        assert "without an outcome" in message.status_reason
        assert box.accepted == []

    def test_a_message_claimed_before_travels_alone(self, acme_account, box):
        suspect = accepted(acme_account)
        claims.claim([suspect.pk])
        make_due(suspect)
        other = accepted(acme_account)
        deliver(suspect, other)
        assert (suspect.status, other.status) == (MessageStatus.PROCESSING, MessageStatus.DELIVERED)
        deliver(suspect)
        assert suspect.status == MessageStatus.DELIVERED

    def test_an_answer_that_was_lost_is_resent_by_the_next_provider(self, acme_account, box, fallback):
        box.answers.append(LOST)
        message = accepted(acme_account)
        deliver(message)
        assert logs(message) == [("primary", "unknown"), ("fallback", "delivered")]

    def test_an_answer_that_was_lost_holds_where_the_tenant_says_so(self, acme, acme_account, box, fallback):
        Tenant.objects.filter(pk=acme.pk).update(unknown_outcome="hold")
        box.answers.append(LOST)
        message = accepted(acme_account)
        deliver(message)
        assert message.status == MessageStatus.HELD
        assert fallback.accepted == []


class TestBody:
    def test_a_body_that_is_gone_ends_in_storage_error(self, acme_account, box, monkeypatch, caplog):
        """DEL-4."""
        monkeypatch.setattr(sender, "FETCH_WAITS", (0.01, 0.01, 0.01))
        message = accepted(acme_account)
        store.delete(message.store_key)
        deliver(message)
        assert message.status == MessageStatus.STORAGE_ERROR
        assert statuses(message) == {"someone@outside.example": "failed"}
        assert box.accepted == []
        assert any("body not readable" in record.getMessage() for record in caplog.records)

    def test_a_body_that_comes_back_in_time_is_sent(self, acme_account, box, monkeypatch):
        monkeypatch.setattr(sender, "FETCH_WAITS", (0.3, 0.3, 0.3))
        message = accepted(acme_account)
        path = os.path.join(store._storage().location, message.store_key)
        os.rename(path, path + ".away")
        import threading

        timer = threading.Timer(0.4, os.rename, (path + ".away", path))
        timer.start()
        deliver(message)
        timer.join()
        assert message.status == MessageStatus.DELIVERED


def test_an_id_without_a_row_is_logged_and_nothing_else(box, caplog):
    """QUE-8."""
    sender.deliver([uuid.uuid4()])
    assert any("does not exist" in record.getMessage() for record in caplog.records)


def test_large_groups_are_split_into_the_calls_a_provider_takes(acme_account, box, monkeypatch):
    """PRV-3."""
    monkeypatch.setattr(MemoryBackend, "max_recipients", 4)
    message = accepted(acme_account, None, [f"r{n}@outside.example" for n in range(10)])
    deliver(message)
    assert message.status == MessageStatus.DELIVERED
    assert sorted(len(taken.recipients) for taken in box.accepted) == [2, 4, 4]
    assert sorted(box.recipients()) == sorted(f"r{n}@outside.example" for n in range(10))
    assert message.delivery_logs.count() == 3


def test_what_a_provider_cannot_carry_is_on_the_attempt(acme_account, box):
    box.verdict = Verdict.mapped(("header X-Odd",))
    message = accepted(acme_account)
    deliver(message)
    attempt = message.delivery_logs.get()
    assert (attempt.fidelity, attempt.lost) == ("lossy", ["header X-Odd"])


def test_a_message_that_takes_the_parser_too_long_is_parked_and_the_worker_lives(
    acme_account, box, monkeypatch, settings
):
    """MIM-3."""
    settings.DELIVERY_PREPARE_TIMEOUT = 0.2
    monkeypatch.setattr(MemoryBackend, "takes_raw", False)
    from delivery import mime

    real = mime.parse

    def endless(raw):
        while b"BOMB" in raw:
            pass
        return real(raw)

    monkeypatch.setattr("delivery.prepare.mime.parse", endless)
    bomb, other = accepted(acme_account, raw_message("X: BOMB")), accepted(acme_account)
    deliver(bomb, other)
    assert bomb.status == MessageStatus.DLQ
    assert "in time" in bomb.status_reason
    assert other.status == MessageStatus.DELIVERED
    assert Recipient.objects.get(message=bomb).status == RecipientStatus.FAILED
