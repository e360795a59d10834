"""RTE-1…4: which provider carries which recipients."""

from collections import Counter
from datetime import UTC, datetime

import pytest

from delivery import routing
from delivery.tests.factories import MessageFactory
from providers.conditions import Facts
from providers.models import RoutingRule
from providers.tests.factories import ProviderFactory, RoutingRuleFactory, RoutingTargetFactory

pytestmark = pytest.mark.django_db


def facts(recipient):
    return Facts("crm@acme", "crm@acme.example", recipient.address, [], "Hi", 100, False, "id", datetime.now(UTC))


def plan(tenant, *addresses, released=False):
    routing.forget()
    message = MessageFactory(tenant=tenant, account__tenant=tenant, recipients=list(addresses) or ["a@outside.example"])
    return routing.plan(routing.table_for(tenant), list(message.recipients.all()), facts, released=released)


def names(group):
    return [provider.name for provider in group.providers]


def test_the_lowest_priority_that_matches_wins(acme):
    first, second = ProviderFactory(tenant=acme, name="first"), ProviderFactory(tenant=acme, name="second")
    RoutingRuleFactory(tenant=acme, priority=20, providers=[second])
    RoutingRuleFactory(tenant=acme, priority=10, providers=[first])
    [group] = plan(acme)
    assert names(group) == ["first"]


def test_a_disabled_rule_is_passed_over(acme):
    ProviderFactory(tenant=acme, name="default")
    RoutingRuleFactory(tenant=acme, enabled=False, action="reject")
    [group] = plan(acme)
    assert names(group) == ["default"]


def test_without_a_match_the_defaults_serve_in_order_and_then_the_shared_ones(acme):
    acme.may_use_shared_providers = True
    acme.save()
    ProviderFactory(tenant=acme, name="b", default_rank=2)
    ProviderFactory(tenant=acme, name="a", default_rank=1)
    ProviderFactory(tenant=acme, name="named only", default_rank=None)
    ProviderFactory(tenant=None, name="shared", default_rank=0)
    [group] = plan(acme)
    assert names(group) == ["a", "b", "shared"]


def test_another_tenants_rules_and_providers_do_not_count(acme, globex):
    ProviderFactory(tenant=globex, name="theirs")
    RoutingRuleFactory(tenant=globex, action="discard")
    [group] = plan(acme)
    assert (group.action, group.providers) == (RoutingRule.Action.HOLD, ())


def test_a_rule_that_names_a_foreign_provider_does_not_use_it(acme, globex):
    theirs = ProviderFactory(tenant=globex, name="theirs")
    RoutingTargetFactory(rule=RoutingRuleFactory(tenant=acme), provider=theirs)
    [group] = plan(acme)
    assert (group.action, group.providers) == (RoutingRule.Action.HOLD, ())


def test_a_rule_may_name_a_shared_provider_only_where_the_tenant_may_use_them(acme):
    shared = ProviderFactory(tenant=None, name="shared", default_rank=None)
    RoutingRuleFactory(tenant=acme, providers=[shared])
    [group] = plan(acme)
    assert group.providers == ()
    acme.may_use_shared_providers = True
    acme.save()
    [group] = plan(acme)
    assert names(group) == ["shared"]


def test_recipients_are_grouped_by_the_rule_that_matches_each(acme):
    ProviderFactory(tenant=acme, name="default")
    special = ProviderFactory(tenant=acme, name="special", default_rank=None)
    RoutingRuleFactory(
        tenant=acme, conditions=[{"field": "recipient", "values": ["special.example"]}], providers=[special]
    )
    groups = plan(acme, "a@special.example", "b@outside.example", "c@special.example")
    assert {tuple(names(g)): [r.address for r in g.recipients] for g in groups} == {
        ("special",): ["a@special.example", "c@special.example"],
        ("default",): ["b@outside.example"],
    }


def test_a_released_message_passes_rules_that_hold_and_no_others(acme):
    ProviderFactory(tenant=acme, name="default")
    RoutingRuleFactory(tenant=acme, priority=1, action="hold")
    assert plan(acme)[0].action == "hold"
    assert names(plan(acme, released=True)[0]) == ["default"]
    RoutingRuleFactory(tenant=acme, priority=2, action="reject")
    assert plan(acme, released=True)[0].action == "reject"


def test_targets_of_one_position_share_the_traffic_by_weight(acme):
    """RTE-2."""
    heavy, light = ProviderFactory(tenant=acme, name="heavy"), ProviderFactory(tenant=acme, name="light")
    last = ProviderFactory(tenant=acme, name="last")
    rule = RoutingRuleFactory(tenant=acme)
    RoutingTargetFactory(rule=rule, provider=heavy, position=0, weight=9)
    RoutingTargetFactory(rule=rule, provider=light, position=0, weight=1)
    RoutingTargetFactory(rule=rule, provider=last, position=1)
    targets = list(rule.targets.select_related("provider"))
    orders = [[provider.name for provider in routing.ordered(targets)] for _ in range(2000)]
    assert all(order[2] == "last" for order in orders)
    assert 0.86 < Counter(order[0] for order in orders)["heavy"] / 2000 < 0.94


def test_a_change_of_rules_counts_within_a_second(acme, monkeypatch):
    """AMQP-4: the cache's time to live."""
    ProviderFactory(tenant=acme, name="default")
    assert names(plan(acme)[0]) == ["default"]
    RoutingRuleFactory(tenant=acme, action="reject")
    assert routing.table_for(acme).rules == ()
    monkeypatch.setattr(routing, "CACHE_SECONDS", 0.0)
    assert len(routing.table_for(acme).rules) == 1
