"""RTE-5: which route a message would take, and why."""

import re
from collections import Counter
from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from delivery import candidates, explain, routing, store
from delivery.candidates import Level
from delivery.explain import Question
from delivery.tests.factories import MessageFactory, SuppressionFactory
from delivery.tests.mail import accepted, raw_message
from delivery.tests.test_fidelity import BROKEN, LOSSLESS, LOSSY, SIGNED, set_lossless
from providers import connections, limits
from providers.backends.memory import MemoryBackend
from providers.exceptions import TemporaryFailure
from providers.models import Provider
from providers.tests.factories import ProviderFactory, RoutingRuleFactory, RoutingTargetFactory
from providers.tests.standins import SendGridStandIn

pytestmark = pytest.mark.django_db


def ask(tenant, *recipients, **values):
    values = {"account": "crm@acme", "sender": "crm@acme.example", "size": 1000, **values}
    return explain.explain(Question(tenant, recipients=recipients or ("a@outside.example",), **values))


def only(explanation):
    [route] = explanation.routes
    return route


def names(route):
    return [candidate.provider.name for candidate in route.candidates]


def verdicts(route):
    return {told.rule.name: told.verdict for told in route.rules}


@pytest.fixture
def grid(acme):
    with SendGridStandIn() as service:
        ProviderFactory(tenant=acme, name="grid", type="sendgrid", config=service.config())
        yield service


class TestRules:
    def test_each_says_whether_it_matches_and_which_condition_failed(self, acme):
        ProviderFactory(tenant=acme, name="default")
        special = ProviderFactory(tenant=acme, name="special", default_rank=None)
        invoices = [
            {"field": "sender", "values": ["acme.example"]},
            {"field": "subject", "op": "contains", "values": ["invoice"]},
        ]
        RoutingRuleFactory(tenant=acme, priority=1, name="off", enabled=False, action="reject")
        RoutingRuleFactory(tenant=acme, priority=2, name="invoices", conditions=invoices, action="hold")
        RoutingRuleFactory(tenant=acme, priority=3, name="all", providers=[special])
        RoutingRuleFactory(tenant=acme, priority=4, name="late", action="discard")
        route = only(ask(acme, subject="Hello"))
        assert verdicts(route) == {
            "off": "disabled, would match",
            "invoices": "does not match",
            "all": "matches and decides",
            "late": "matches too, but comes later",
        }
        assert [(check.holds, check.wanted, check.found) for check in route.rules[1].checks] == [
            (True, "sender is acme.example", "it is crm@acme.example"),
            (False, "subject contains invoice", "it is Hello"),
        ]
        assert route.outcome == "Sent through special."
        assert only(ask(acme, subject="Your invoice")).outcome == "Held until a person releases it."

    @pytest.mark.parametrize(("action", "text"), [("reject", "Rejected."), ("discard", "Accepted and thrown away.")])
    def test_a_rule_may_end_it(self, acme, action, text):
        RoutingRuleFactory(tenant=acme, action=action)
        route = only(ask(acme))
        assert (route.outcome, route.good, route.candidates) == (text, False, ())

    def test_a_released_message_passes_rules_that_hold(self, acme):
        ProviderFactory(tenant=acme, name="default")
        RoutingRuleFactory(tenant=acme, name="stop", action="hold")
        route = only(ask(acme, released=True))
        assert verdicts(route) == {"stop": "matches, but a person has released the message"}
        assert route.outcome == "Sent through default."

    def test_recipients_for_whom_every_rule_says_the_same_are_told_together(self, acme):
        ProviderFactory(tenant=acme, name="default")
        RoutingRuleFactory(
            tenant=acme, conditions=[{"field": "recipient", "values": ["special.example"]}], action="reject"
        )
        routes = ask(acme, "a@special.example", "b@outside.example", "c@special.example").routes
        assert {route.recipients: route.outcome for route in routes} == {
            ("a@special.example", "c@special.example"): "Rejected.",
            ("b@outside.example",): "Sent through default.",
        }

    def test_it_agrees_with_routing(self, acme):
        """The same code decides: whatever the conditions, the rule that is said to decide is the one that does."""
        ProviderFactory(tenant=acme, name="default")
        for number, domain in enumerate(("a.example", "*.example", "b.test")):
            RoutingRuleFactory(
                tenant=acme, priority=9 - number, conditions=[{"field": "recipient", "values": [domain]}], action="hold"
            )
        for address in ("x@a.example", "x@b.test", "x@c.org"):
            message = MessageFactory(tenant=acme, account__tenant=acme, recipients=[address])
            routing.forget()
            question = explain.about(message)
            [group] = routing.plan(
                routing.table_for(acme),
                list(message.recipients.all()),
                lambda recipient, question=question: explain._facts(question, recipient.address),
                released=False,
            )
            route = only(explain.explain(question))
            assert (route.rule is None) == (group.action == "send")

    def test_no_route_at_all_is_held(self, acme, globex):
        ProviderFactory(tenant=globex)
        assert "no default provider" in only(ask(acme)).outcome
        disabled = ProviderFactory(tenant=acme, name="disabled", enabled=False)
        RoutingRuleFactory(tenant=acme, name="mine", providers=[disabled])
        route = only(ask(acme))
        assert route.outcome == "Held: rule 'mine' names no provider that is enabled."
        assert [candidate.problem for candidate in route.candidates] == ["not enabled"]


class TestCandidates:
    def test_weights_are_told_as_shares(self, acme):
        rule = RoutingRuleFactory(tenant=acme)
        for name, position, weight in (("light", 0, 1), ("heavy", 0, 3), ("last", 1, 1)):
            provider = ProviderFactory(tenant=acme, name=name, default_rank=None)
            RoutingTargetFactory(rule=rule, provider=provider, position=position, weight=weight)
        route = only(ask(acme))
        assert [(c.provider.name, c.drawn, c.share) for c in route.candidates] == [
            ("heavy", 75, 75),
            ("light", 25, 25),
            ("last", 100, 0),
        ]
        assert route.outcome == "Sent through heavy (75 %) or light (25 %)."

    def test_the_shares_are_what_the_weights_draw(self, acme):
        """RTE-2: 3 to 1 over 4,000 draws, also when one more is unhealthy and passed over."""
        rule = RoutingRuleFactory(tenant=acme)
        later = timezone.now() + timedelta(hours=1)
        for name, weight in (("heavy", 3), ("light", 1), ("down", 4)):
            provider = ProviderFactory(
                tenant=acme, name=name, default_rank=None, unhealthy_until=later if name == "down" else None
            )
            RoutingTargetFactory(rule=rule, provider=provider, weight=weight)
        told = {c.provider.name: c.share for c in only(ask(acme)).candidates}
        assert told == {"down": 0, "heavy": 75, "light": 25}
        targets = list(rule.targets.select_related("provider"))
        drawn = Counter()
        for _ in range(4000):
            healthy = [p.name for p in routing.ordered(targets) if p.unhealthy_until is None]
            drawn[healthy[0]] += 1
        assert 72 < 100 * drawn["heavy"] / 4000 < 78

    def test_an_unhealthy_provider_is_passed_over_and_says_until_when(self, acme):
        until = timezone.now() + timedelta(hours=1)
        ProviderFactory(tenant=acme, name="down", unhealthy_until=until, unhealthy_reason="secret reason")
        ProviderFactory(tenant=acme, name="up", default_rank=1)
        route = only(ask(acme))
        assert route.outcome == "Sent through up."
        assert route.candidates[0].problem == f"unhealthy, until {until:%Y-%m-%d %H:%M:%S} UTC"
        Provider.objects.filter(name="up").update(unhealthy_until=until)
        assert only(ask(acme)).outcome.startswith("Waits: every provider")

    def test_one_whose_pause_is_over_is_probed_by_the_next(self, acme):
        ProviderFactory(tenant=acme, name="down", unhealthy_until=timezone.now() - timedelta(seconds=1))
        route = only(ask(acme))
        assert route.outcome == "Sent through down."
        assert route.candidates[0].problem == "unhealthy, the next message probes it"
        assert Provider.objects.get().unhealthy_until is not None

    def test_settings_that_cannot_be_used_are_told(self, acme):
        ProviderFactory(tenant=acme, name="wrong", type="smtp", config={})
        route = only(ask(acme))
        assert "host: required" in route.candidates[0].problem
        assert route.outcome.startswith("Waits")
        assert Provider.objects.get().unhealthy_until is None

    def test_one_that_must_slow_down_says_when_the_next_call_may_begin(self, acme, settings):
        """PRV-9."""
        provider = ProviderFactory(tenant=acme, name="slow")
        asked = TemporaryFailure("Too many requests", code="throttled", status_code=429, retry_after=90)
        limits.throttled(provider, connections.backend_for(provider), asked, tenant_id=acme.pk, age=0.0)
        route = only(ask(acme))
        assert re.fullmatch(r"limited: the next call in about (8|9)\d s", route.candidates[0].problem)
        assert route.outcome == "Sent through slow."
        settings.SHARED_STATE_URL = "redis://127.0.0.1:1/0"
        assert only(ask(acme)).candidates[0].problem == ""

    def test_a_message_too_large_for_one_goes_to_the_next(self, acme, grid):
        assert only(ask(acme, size=31 * 1024 * 1024)).outcome.startswith("Fails: too large")
        ProviderFactory(tenant=acme, name="any", default_rank=1)
        route = only(ask(acme, size=31 * 1024 * 1024))
        assert route.outcome == "Sent through any."
        assert route.candidates[0].level is Level.TOO_LARGE
        assert grid.requests == 0

    def test_what_a_tenant_asks_for_byte_for_byte_is_noted_where_no_verdict_is_known(self, acme):
        """PRV-4, RTE-5."""
        ProviderFactory(tenant=acme)
        assert ask(acme).notes == ()
        set_lossless(acme, "required")
        [note] = ask(acme).notes
        assert note.startswith("This tenant requires providers that leave a message as it was written")

    def test_suppressed_recipients_are_told_and_not_routed(self, acme):
        ProviderFactory(tenant=acme)
        SuppressionFactory(tenant=acme, address="gone@outside.example", text="550 no such user")
        told = ask(acme, "Gone@outside.example", "a@outside.example")
        [(address, why)] = told.suppressed
        assert address == "Gone@outside.example"
        assert "550 no such user" in why
        assert only(told).recipients == ("a@outside.example",)


class TestStoredMessages:
    def test_what_each_provider_would_do_to_it_is_told(self, acme, acme_account, grid):
        """PRV-4."""
        ProviderFactory(tenant=acme, name="raw", default_rank=1)
        route = only(explain.explain(explain.about(accepted(acme_account, SIGNED))))
        assert names(route) == ["raw", "grid"]
        assert route.candidates[0].verdict == "lossless"
        assert route.candidates[1].verdict.startswith("signature broken")
        assert route.outcome == "Sent through raw."
        assert names(only(explain.explain(explain.about(accepted(acme_account))))) == ["grid", "raw"]
        assert (grid.requests, MemoryBackend.box().accepted) == (0, [])

    def test_its_headers_are_looked_at(self, acme, acme_account):
        ProviderFactory(tenant=acme)
        condition = {"field": "header", "name": "X-Kind", "op": "equals", "values": ["invoice"]}
        RoutingRuleFactory(tenant=acme, conditions=[condition], action="reject")
        message = accepted(acme_account, raw_message("X-Kind: invoice"))
        assert only(explain.explain(explain.about(message))).outcome == "Rejected."

    def test_where_nothing_else_will_do_the_others_are_named_and_not_used(self, acme, acme_account, broker):
        set_lossless(acme, "required")
        ProviderFactory(tenant=acme, name="lossy", config={"box": "lossy"})
        MemoryBackend.box("lossy").verdict = LOSSY
        message = accepted(acme_account)
        route = only(explain.explain(explain.about(message)))
        assert route.outcome.startswith("Held: this tenant's mail must go out as it was written")
        assert route.candidates[0].verdict == "headers lost: X-Kind, List-Id"
        ProviderFactory(tenant=acme, name="whole", default_rank=1, config={"box": "whole"})
        MemoryBackend.box("whole").verdict = LOSSLESS
        assert only(explain.explain(explain.about(message))).outcome == "Sent through whole."

    def test_weights_decide_among_those_that_lose_the_same(self, acme, acme_account, broker):
        """RTE-2 with PRV-4."""
        rule = RoutingRuleFactory(tenant=acme)
        for name, weight, verdict in (("broken", 9, BROKEN), ("a", 3, LOSSLESS), ("b", 1, LOSSLESS)):
            provider = ProviderFactory(tenant=acme, name=name, default_rank=None, config={"box": name})
            MemoryBackend.box(name).verdict = verdict
            RoutingTargetFactory(rule=rule, provider=provider, weight=weight)
        route = only(explain.explain(explain.about(accepted(acme_account, SIGNED))))
        assert route.outcome == "Sent through a (75 %) or b (25 %)."
        assert names(route) == ["a", "b", "broken"]

    def test_a_body_that_is_gone_is_noted(self, acme, acme_account):
        ProviderFactory(tenant=acme)
        message = accepted(acme_account)
        store.delete(message.store_key)
        told = explain.explain(explain.about(message))
        assert re.search("no longer stored", told.notes[0])
        assert only(told).good

    def test_nothing_is_written_or_asked(self, acme, acme_account, grid):
        RoutingRuleFactory(tenant=acme, providers=[Provider.objects.get()])
        message = accepted(acme_account, None, [f"r{n}@outside.example" for n in range(50)])
        with CaptureQueriesContext(
            connection,
        ) as queries:
            explain.explain(explain.about(message))
        assert all(query["sql"].startswith("SELECT") for query in queries)
        assert len(queries) < 15
        assert grid.requests == 0


def test_a_route_in_one_line(acme):
    providers = [ProviderFactory(tenant=acme, name=name, enabled=name != "off") for name in ("a", "b", "c", "off")]
    options = [candidates.Option(provider, place) for provider, place in zip(providers, (0, 0, 1, 2), strict=True)]
    assert candidates.in_words(options) == "a (50 %) or b (50 %) → c"
