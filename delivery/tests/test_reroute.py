"""DEL-9: a person chooses the provider of a message, and rules are not asked until they are given back the choice."""

import pytest

from accounts.models import AuditEntry, Tenant
from delivery import claims, control, explain, routing
from delivery.models import Message, MessageStatus, Recipient
from delivery.tests.factories import MessageFactory
from delivery.tests.mail import accepted
from delivery.tests.test_sender import BUSY, GONE, LOST, deliver, logs, make_due, statuses
from providers.backends.memory import MemoryBackend
from providers.models import Provider
from providers.tests.factories import ProviderFactory, RoutingRuleFactory

pytestmark = pytest.mark.django_db


@pytest.fixture
def other(acme):
    """Another provider of acme, which no rule names."""
    return ProviderFactory(tenant=acme, name="other", default_rank=None, config={"box": "other"})


@pytest.fixture
def other_box(other):
    return MemoryBackend.box("other")


def test_it_goes_to_that_provider_and_to_no_other(acme_account, box, other, other_box, operator):
    message = accepted(acme_account)
    other_box.answers += [BUSY]
    assert control.reroute([message.pk], other, actor=operator).changed == 1
    deliver(message)
    assert (message.status, box.accepted) == (MessageStatus.RETRYING, [])
    make_due(message)
    deliver(message)
    assert message.status == MessageStatus.DELIVERED
    assert logs(message) == [("other", "retrying"), ("other", "delivered")]


def test_a_rule_that_would_hold_reject_or_discard_is_not_asked(acme, acme_account, box, other, operator):
    for action in ("hold", "reject", "discard"):
        rule = RoutingRuleFactory(tenant=acme, action=action)
        message = accepted(acme_account)
        control.reroute([message.pk], other, actor=operator)
        deliver(message)
        assert message.status == MessageStatus.DELIVERED, action
        rule.delete()
        routing.forget()


@pytest.mark.parametrize("answer", [BUSY, GONE])
def test_what_was_given_up_starts_anew_there(acme_account, box, other, operator, answer):
    message = accepted(acme_account)
    for _ in range(6):
        box.answers.append(answer)
        deliver(message)
        if message.next_attempt_at:
            make_due(message)
    assert message.status in {"dlq", "failed"}
    control.reroute([message.pk], other, actor=operator)
    message.refresh_from_db()
    assert (message.status, message.tries, message.finished_at) == ("queued", 0, None)
    deliver(message)
    assert (message.status, statuses(message)) == ("delivered", {"someone@outside.example": "delivered"})


def test_of_a_partial_one_only_who_was_not_reached_is_mailed(acme_account, box, other, other_box, operator):
    message = accepted(acme_account, recipients=["a@outside.example", "b@outside.example"])
    deliver(message)
    Recipient.objects.filter(address__startswith="b").update(status="failed")
    Message.objects.update(status="partial")
    control.reroute([message.pk], other, actor=operator)
    deliver(message)
    assert (message.status, other_box.recipients()) == ("delivered", ["b@outside.example"])


def test_given_back_to_the_rules_it_takes_their_route(acme_account, box, other, other_box, operator):
    message = accepted(acme_account)
    control.reroute([message.pk], other, actor=operator)
    assert control.reroute([message.pk], None, actor=operator).changed == 1
    assert control.reroute([message.pk], None, actor=operator).refused == {message.pk: "The rules decide already."}
    deliver(message)
    assert (len(box.accepted), other_box.accepted) == (1, [])


def test_a_scheduled_message_keeps_its_time(acme_account, broker, other, operator):
    message = MessageFactory(account=acme_account, status="scheduled")
    when = message.accepted_at.replace(year=message.accepted_at.year + 1)
    Message.objects.update(scheduled_at=when, next_attempt_at=when)
    control.reroute([message.pk], other, actor=operator)
    message.refresh_from_db()
    assert (message.status, message.next_attempt_at, message.routed_to) == ("scheduled", when, other)


class TestProvidersThatMayNotBeUsed:
    def test_one_of_another_tenant(self, acme_account, globex, broker, operator):
        theirs = ProviderFactory(tenant=globex)
        message = MessageFactory(account=acme_account)
        refused = control.reroute([message.pk], theirs, actor=operator).refused
        assert refused == {message.pk: "Its tenant may not use that provider."}

    def test_a_shared_one_unless_the_tenant_may(self, acme, acme_account, broker, operator):
        shared = ProviderFactory(tenant=None)
        message = MessageFactory(account=acme_account)
        assert control.reroute([message.pk], shared, actor=operator).changed == 0
        Tenant.objects.filter(pk=acme.pk).update(may_use_shared_providers=True)
        assert control.reroute([message.pk], shared, actor=operator).changed == 1

    def test_one_that_is_not_enabled(self, acme_account, broker, other, operator):
        other.enabled = False
        message = MessageFactory(account=acme_account)
        refused = control.reroute([message.pk], other, actor=operator).refused
        assert refused == {message.pk: "That provider is not enabled."}

    def test_when_it_is_switched_off_later_the_message_is_held_and_says_why(
        self, acme_account, box, other, other_box, operator
    ):
        message = accepted(acme_account)
        control.reroute([message.pk], other, actor=operator)
        Provider.objects.filter(pk=other.pk).update(enabled=False)
        deliver(message)
        assert (message.status, message.status_reason) == ("held", routing.NOT_USABLE)
        assert (box.accepted, other_box.accepted) == ([], [])

    def test_when_it_is_deleted_the_rules_decide_again(self, acme_account, box, other, operator):
        message = accepted(acme_account)
        control.reroute([message.pk], other, actor=operator)
        other.delete()
        deliver(message)
        assert (message.status, len(box.accepted)) == ("delivered", 1)


class TestAfterALostAnswer:
    """DEL-5: a provider may have taken the message, and nobody knows."""

    def test_the_tenant_that_would_rather_wait_is_asked_by_holding_it(
        self, acme, acme_account, box, other, other_box, operator
    ):
        message = accepted(acme_account)
        claims.claim([message.pk])
        Message.objects.update(status="retrying")
        Recipient.objects.update(status="unknown")
        Tenant.objects.filter(pk=acme.pk).update(unknown_outcome="hold")
        control.reroute([message.pk], other, actor=operator)
        deliver(message)
        assert (message.status, other_box.accepted) == ("held", [])
        control.reroute([message.pk], other, actor=operator)
        deliver(message)
        assert (message.status, len(other_box.accepted)) == ("delivered", 1)

    def test_otherwise_it_is_sent_by_the_chosen_one_alone(self, acme_account, box, other, operator, monkeypatch):
        monkeypatch.setattr(MemoryBackend, "idempotent", True)
        message = accepted(acme_account)
        box.answers += [LOST, LOST]
        deliver(message)
        assert message.status == "retrying"
        control.reroute([message.pk], other, actor=operator)
        deliver(message)
        assert (message.status, box.accepted) == ("delivered", [])
        assert logs(message)[-1] == ("other", "delivered")


def test_events_and_audit_tell_of_the_choice(acme_account, broker, other, operator):
    message = MessageFactory(account=acme_account)
    control.reroute([message.pk], other, actor=operator)
    assert message.events.get().data == {"by": "the platform operator", "provider": "other"}
    entry = AuditEntry.objects.get(action="message.rerouted")
    assert (entry.target_id, entry.changes) == (str(message.pk), {"provider": "other"})


class TestExplain:
    def test_the_chosen_provider_is_the_route_whatever_rules_match(self, acme, acme_account, box, other, operator):
        RoutingRuleFactory(tenant=acme, name="to nobody", action="discard")
        message = accepted(acme_account)
        control.reroute([message.pk], other, actor=operator)
        message.refresh_from_db()
        [route] = explain.explain(explain.about(message)).routes
        assert (route.outcome, route.good, route.chosen) == ("Sent through other.", True, True)
        assert [told.verdict for told in route.rules] == ["matches, but a person has chosen the provider"]

    def test_one_that_cannot_be_used_means_held(self, acme_account, box, other, operator):
        message = accepted(acme_account)
        control.reroute([message.pk], other, actor=operator)
        Provider.objects.filter(pk=other.pk).update(enabled=False)
        message.refresh_from_db()
        [route] = explain.explain(explain.about(message)).routes
        assert (route.outcome, route.good) == (f"Held. {routing.NOT_USABLE}", False)
