"""Where two features meet: limits and failover, lost answers and other providers, holding and giving up by age
(DEL-5, DEL-6, RET-2, RET-3, RET-6, PRV-4, PRV-8, PRV-9, PRV-10, EVT-2)."""

import threading
import time
from datetime import timedelta

import pytest
from django.utils import timezone

from accounts import shared_state
from accounts.models import Tenant
from delivery import control, routing, sender
from delivery.models import Message, MessageStatus, Suppression
from delivery.tests.mail import accepted
from delivery.tests.test_sender import BUSY, GONE, deliver, logs, make_due, statuses
from providers import connections, limits
from providers.backends.memory import MemoryBackend
from providers.exceptions import TemporaryFailure
from providers.models import Provider
from providers.tests.factories import ProviderFactory, RoutingRuleFactory
from providers.tests.standins import ResendStandIn, SendGridStandIn

pytestmark = pytest.mark.django_db

SLOW_DOWN = TemporaryFailure("Too many requests", code="throttled", status_code=429, retry_after=40)
USED_UP = TemporaryFailure("Quota", code="quota", status_code=429, retry_after=7200)


@pytest.fixture
def fallback(acme, box):
    ProviderFactory(tenant=acme, name="fallback", default_rank=1, config={"box": "fallback"})
    return MemoryBackend.box("fallback")


def used_up(account, name="primary"):
    """From now on the provider's limits let nothing through for a minute."""
    provider = Provider.objects.get(name=name)
    Provider.objects.filter(pk=provider.pk).update(per_minute=1)
    provider.refresh_from_db()
    limits.ask(provider, connections.backend_for(provider), tenant_id=account.tenant_id, cost=1)
    routing.forget()


def again(message):
    make_due(message)
    routing.forget()
    deliver(message)


def _cut(message, cuts):
    left = message.recipients
    for size in cuts[len(left)]:
        yield left[:size]
        left = left[size:]


def old(message, hours=80):
    Message.objects.filter(pk=message.pk).update(accepted_at=timezone.now() - timedelta(hours=hours))


class TestLostAnswer:
    """What became of an attempt only its own provider can say, with the key of that attempt (DEL-5)."""

    @pytest.fixture
    def resend(self, acme, broker):
        """Has taken a message, and its answer was lost."""
        with ResendStandIn() as service:
            ProviderFactory(tenant=acme, type="resend", name="resend", config=service.config())
            service.reset_next(take=True)
            yield service

    @pytest.fixture
    def other(self, acme, resend):
        with SendGridStandIn() as service:
            ProviderFactory(tenant=acme, type="sendgrid", name="other", default_rank=1, config=service.config())
            yield service

    def test_is_asked_for_again_though_another_provider_has_failed_meanwhile(self, acme_account, resend, other):
        resend.fail_next(503)
        other.fail_next(503)
        message = accepted(acme_account)
        deliver(message)
        again(message)
        assert logs(message) == [("resend", "unknown"), ("resend", "unknown"), ("other", "retrying")]
        assert statuses(message) == {"someone@outside.example": "unknown"}
        again(message)
        assert message.status == MessageStatus.DELIVERED
        assert (len(resend.accepted), len(other.accepted)) == (1, 0)

    def test_is_asked_for_again_though_another_provider_was_limited_meanwhile(self, acme_account, resend, other):
        resend.fail_next(503)
        message = accepted(acme_account)
        deliver(message)
        used_up(acme_account, "other")
        again(message)
        assert statuses(message) == {"someone@outside.example": "unknown"}
        again(message)
        assert message.status == MessageStatus.DELIVERED
        assert (len(resend.accepted), len(other.accepted)) == (1, 0)

    def test_another_provider_is_not_given_its_key(self, acme_account, resend, other):
        message = accepted(acme_account)
        deliver(message)
        until = timezone.now() + timedelta(minutes=5)
        Provider.objects.filter(name="resend").update(unhealthy_until=until)
        other.fail_next(503)
        again(message)
        first, second = message.delivery_logs.order_by("attempt_number")
        assert (second.provider_name, second.status) == ("other", "retrying")
        assert second.idempotency_key != first.idempotency_key
        Provider.objects.update(unhealthy_until=None)
        again(message)
        assert message.delivery_logs.get(attempt_number=3).idempotency_key == first.idempotency_key
        assert (len(resend.accepted), len(other.accepted)) == (1, 0)

    def test_those_suppressed_meanwhile_are_not_mailed_through_another_provider(
        self, acme, acme_account, resend, other
    ):
        """EVT-2."""
        message = accepted(acme_account)
        deliver(message)
        Suppression.objects.create(tenant=acme, address="someone@outside.example")
        resend.fail_next(503)
        again(message)
        assert other.accepted == []
        again(message)
        assert (len(resend.accepted), len(other.accepted)) == (1, 0)

    def test_no_provider_outside_the_route_is_asked(self, acme, acme_account, resend, other):
        """RTE-1: the rule names one provider, and the tenant's default ones are not among its targets."""
        RoutingRuleFactory(tenant=acme, providers=[Provider.objects.get(name="resend")])
        message = accepted(acme_account)
        deliver(message)
        resend.fail_next(503)
        again(message)
        assert other.accepted == []
        again(message)
        assert message.status == MessageStatus.DELIVERED
        assert (len(resend.accepted), len(other.accepted)) == (1, 0)

    def test_the_other_targets_of_the_rule_are(self, acme, acme_account, resend, other):
        third = ProviderFactory(tenant=acme, name="third", default_rank=None)
        RoutingRuleFactory(tenant=acme, providers=[Provider.objects.get(name="resend"), third])
        message = accepted(acme_account)
        deliver(message)
        resend.fail_next(503)
        again(message)
        assert message.status == MessageStatus.DELIVERED
        assert len(MemoryBackend.box().accepted) == 1

    def test_is_not_held_for_want_of_retries_while_the_provider_is_limited(self, acme, acme_account, resend):
        """RET-6: being limited is no try, so the last one is still to be made."""
        Tenant.objects.filter(pk=acme.pk).update(unknown_outcome="hold")
        message = accepted(acme_account)
        deliver(message)
        used_up(acme_account, "resend")
        Message.objects.filter(pk=message.pk).update(tries=5)
        again(message)
        assert (message.status, message.tries) == (MessageStatus.RETRYING, 5)
        Provider.objects.update(per_minute=None)
        again(message)
        assert message.status == MessageStatus.DELIVERED
        assert len(resend.accepted) == 1

    def test_a_repeated_call_is_never_cut_into_several_with_the_same_key(self, acme, acme_account, box, monkeypatch):
        """The provider would take the second part for the first one once more, and nobody would mail its recipients."""
        monkeypatch.setattr(MemoryBackend, "idempotent", True)
        box.answers.append(TemporaryFailure("No answer", code="timeout", outcome_unknown=True))
        message = accepted(acme_account, None, ["a@outside.example", "b@outside.example"])
        deliver(message)
        monkeypatch.setattr(MemoryBackend, "max_recipients", 1)
        again(message)
        assert [sorted(taken.recipients) for taken in box.accepted] == [["a@outside.example", "b@outside.example"]]


class TestLimits:
    def test_a_candidate_there_was_no_time_for_has_refused_nothing(self, acme_account, box, fallback, settings):
        """The first finds it too large; the second waits in line until the worker's time is up (RET-4, PRV-9)."""
        settings.DELIVERY_LEASE = 2
        provider = Provider.objects.get(name="primary")
        provider.config = {"max_size": 10}
        provider.save()
        Provider.objects.filter(name="fallback").update(concurrency=1)
        other = Provider.objects.get(name="fallback")
        permit = limits.ask(other, connections.backend_for(other), tenant_id=acme_account.tenant_id, cost=1)
        message = accepted(acme_account)
        deliver(message)
        limits.done(permit)
        assert (message.status, message.tries) == (MessageStatus.RETRYING, 0)
        again(message)
        assert message.status == MessageStatus.DELIVERED
        assert len(fallback.accepted) == 1

    def test_of_a_group_larger_than_a_day_takes_some_go_today(self, acme_account, box, monkeypatch):
        """PRV-9: it would wait for a day that never comes."""
        monkeypatch.setattr(MemoryBackend, "max_recipients", 2)
        Provider.objects.update(per_day=4)
        message = accepted(acme_account, None, [f"r{n}@outside.example" for n in range(7)])
        deliver(message)
        assert sorted(statuses(message).values()) == ["deferred"] * 3 + ["delivered"] * 4
        assert (message.status, message.tries) == (MessageStatus.RETRYING, 0)
        shared_state.forget_everything()
        again(message)
        assert message.status == MessageStatus.DELIVERED
        assert sorted(box.recipients()) == [f"r{n}@outside.example" for n in range(7)]

    def test_the_parts_of_a_group_count_their_own_recipients(self, acme_account, box, monkeypatch):
        """A backend that cuts by headers may make parts smaller than a call takes (PRV-3)."""
        cuts = {7: [3, 1, 3], 4: [1, 3]}
        monkeypatch.setattr(MemoryBackend, "split", lambda self, message: list(_cut(message, cuts)))
        Provider.objects.update(per_day=100)
        deliver(accepted(acme_account, None, [f"r{n}@outside.example" for n in range(7)]))
        monkeypatch.setattr(MemoryBackend, "max_recipients", 3)
        deliver(accepted(acme_account, None, [f"r{n}@outside.example" for n in range(4)]))
        assert [len(taken.recipients) for taken in box.accepted] == [3, 1, 3, 1, 3]
        assert limits.usage(Provider.objects.get()).today == 11

    def test_what_a_fallback_refuses_for_good_waits_for_a_primary_that_is_limited(self, acme_account, box, fallback):
        """RET-2: as for the message that was given the 429 itself."""
        box.answers.append(USED_UP)
        deliver(accepted(acme_account))
        fallback.answers.append(GONE)
        message = accepted(acme_account)
        deliver(message)
        assert logs(message) == [("fallback", "failed")]
        assert message.status == MessageStatus.RETRYING

    @pytest.mark.parametrize("answer", [BUSY, USED_UP])
    def test_a_fallback_that_cannot_read_it_is_not_the_end(
        self, acme, acme_account, box, monkeypatch, settings, answer
    ):
        """The primary takes it whole, and is only busy (MIM-3, RET-1)."""
        settings.DELIVERY_PREPARE_TIMEOUT = 0.2
        with SendGridStandIn() as service:
            ProviderFactory(tenant=acme, name="json", default_rank=1, type="sendgrid", config=service.config())

            def endless(raw):
                while True:
                    pass

            monkeypatch.setattr("delivery.prepare.mime.parse", endless)
            box.answers.append(answer)
            message = accepted(acme_account)
            deliver(message)
            assert message.status == MessageStatus.RETRYING
            assert service.accepted == []
        limits.forget()

    def test_a_part_that_waits_for_its_limits_is_left_alone_until_they_let_it(self, acme_account, box, monkeypatch):
        """The parts that are delivered already do not call it back earlier."""
        monkeypatch.setattr(MemoryBackend, "max_recipients", 1)
        box.answers.extend([{}, TemporaryFailure("Quota", code="quota", status_code=429, retry_after=7200)])
        message = accepted(acme_account, None, ["a@outside.example", "b@outside.example"])
        deliver(message)
        assert sorted(statuses(message).values()) == ["deferred", "delivered"]
        assert message.next_attempt_at - timezone.now() > timedelta(seconds=7000)


class TestGivenUp:
    def test_a_message_released_late_is_not_given_up_by_age_at_once(self, acme_account, box, operator):
        """RET-6, DEL-9: held over a long weekend, then released while its provider is limited."""
        message = accepted(acme_account)
        control.hold([message.pk], actor=operator)
        old(message)
        used_up(acme_account)
        control.release([message.pk], actor=operator)
        deliver(message)
        assert message.status == MessageStatus.RETRYING
        Provider.objects.update(per_minute=None)
        again(message)
        assert message.status == MessageStatus.DELIVERED

    def test_nor_is_a_dead_letter_that_is_reprocessed(self, acme_account, box, operator):
        """RET-5."""
        box.answers.append(GONE)
        message = accepted(acme_account)
        deliver(message)
        old(message)
        used_up(acme_account)
        control.retry([message.pk], actor=operator)
        deliver(message)
        assert message.status == MessageStatus.RETRYING
        message.events.filter(type="released").update(occurred_at=timezone.now() - timedelta(hours=73))
        again(message)
        assert message.status == MessageStatus.DLQ

    def test_recipients_a_rule_holds_outlive_those_that_wait_for_a_provider(self, acme, acme_account, box, operator):
        """DEL-9: a person decides about them, and their age does not."""
        condition = {"field": "recipient", "values": ["held@outside.example"]}
        RoutingRuleFactory(tenant=acme, action="hold", conditions=[condition])
        used_up(acme_account)
        message = accepted(acme_account, None, ["held@outside.example", "b@outside.example"])
        deliver(message)
        old(message)
        again(message)
        assert message.status == MessageStatus.HELD
        assert statuses(message) == {"held@outside.example": "pending", "b@outside.example": "failed"}
        control.release([message.pk], actor=operator)
        Provider.objects.update(per_minute=None)
        routing.forget()
        deliver(message)
        assert box.recipients() == ["held@outside.example"]
        assert message.status == MessageStatus.PARTIAL

    def test_with_one_part_too_large_and_the_other_out_of_retries_it_is_a_dead_letter(self, acme, acme_account, box):
        """RET-3."""
        small = ProviderFactory(tenant=acme, name="small", default_rank=None, config={"max_size": 10})
        condition = {"field": "recipient", "values": ["a@outside.example"]}
        RoutingRuleFactory(tenant=acme, conditions=[condition], providers=[small])
        box.answers.append(BUSY)
        message = accepted(acme_account, None, ["a@outside.example", "b@outside.example"])
        Message.objects.filter(pk=message.pk).update(tries=5)
        deliver(message)
        assert set(statuses(message).values()) == {"failed"}
        assert message.status == MessageStatus.DLQ


def test_a_step_that_breaks_keeps_what_it_was_told_before(acme_account, box, monkeypatch):
    """DEL-6: an answer that came back in the same step as the one that breaks it is written down."""
    messages = [accepted(acme_account, None, [f"{name}@outside.example"]) for name in "ab"]
    together = threading.Barrier(2)
    send, answered = MemoryBackend.send, sender.Delivery._answered
    seen = []

    def send_together(self, outbound):
        together.wait(10)
        return send(self, outbound)

    def wait_for_both(self):
        while not all(future.done() for future in self.calls):
            time.sleep(0.01)
        return list(self.calls) or real_wait(self)

    def break_second(self, work, job, call, answer, page):
        seen.append(work.message.pk)
        if len(seen) == 2:
            raise RuntimeError("a bug")
        return answered(self, work, job, call, answer, page)

    real_wait = sender.Delivery._wait
    monkeypatch.setattr(MemoryBackend, "send", send_together)
    monkeypatch.setattr(sender.Delivery, "_wait", wait_for_both)
    monkeypatch.setattr(sender.Delivery, "_answered", break_second)
    with pytest.raises(RuntimeError):
        deliver(*messages)
    assert Message.objects.get(pk=seen[0]).status == MessageStatus.DELIVERED
    assert Message.objects.get(pk=seen[1]).status == MessageStatus.PROCESSING


def test_a_bug_after_the_call_leaves_an_unknown_outcome_and_its_neighbours_alone(acme_account, box, monkeypatch):
    """DEL-5: whatever breaks in the thread of a call, the other answers are written down."""
    messages = [accepted(acme_account, None, [f"{name}@outside.example"]) for name in "ab"]
    done, calls = limits.done, []

    def broken(permit, took=None):
        calls.append(permit)
        if len(calls) == 1:
            raise ValueError("a bug")
        return done(permit, took)

    monkeypatch.setattr(limits, "done", broken)
    deliver(*messages)
    assert sorted(message.status for message in messages) == [MessageStatus.DELIVERED, MessageStatus.RETRYING]
    assert sorted(status for message in messages for _, status in logs(message)) == ["delivered", "unknown"]
