"""RTE-5: what a changed rule would have done to the last messages."""

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from delivery import store
from delivery.dry_run import dry_run
from delivery.models import Message
from delivery.tests.factories import MessageFactory
from delivery.tests.mail import accepted, raw_message
from providers.models import RoutingRule, RoutingTarget
from providers.tests.factories import ProviderFactory, RoutingRuleFactory

pytestmark = pytest.mark.django_db
TO_GMAIL = [{"field": "recipient", "values": ["gmail.com"]}]
INVOICE = [{"field": "header", "name": "X-Kind", "op": "equals", "values": ["invoice"]}]


@pytest.fixture
def special(acme):
    ProviderFactory(tenant=acme, name="default")
    return ProviderFactory(tenant=acme, name="special", default_rank=None)


def new_rule(tenant, *targets, **values):
    """A rule as a form holds it: not saved."""
    rule = RoutingRule(tenant=tenant, name="new", **{"priority": 1, "conditions": [], **values})
    return rule, [RoutingTarget(rule=rule, provider=provider) for provider in targets]


def message_to(account, *addresses, **values):
    return MessageFactory(account=account, recipients=list(addresses), **values)


def told(result):
    return [(change.message.pk, change.recipients, change.before, change.after) for change in result.changed]


def test_a_new_rule_is_compared_with_what_there_is(acme, acme_account, special):
    mine = message_to(acme_account, "a@gmail.com", "b@web.de")
    message_to(acme_account, "c@web.de")
    result = dry_run(acme, *new_rule(acme, special, conditions=TO_GMAIL))
    assert told(result) == [(mine.pk, ("a@gmail.com",), "default", "special")]
    assert (result.looked_at, result.messages_changed, result.stopped) == (2, 1, False)
    assert result.routes == {("default", "special"): 1}
    assert not RoutingRule.objects.exists()


def test_a_changed_rule_takes_the_place_of_the_stored_one(acme, acme_account, special):
    rule = RoutingRuleFactory(tenant=acme, conditions=TO_GMAIL, providers=[special], priority=5)
    message = message_to(acme_account, "a@gmail.com")
    unchanged = RoutingRule.objects.get(pk=rule.pk)
    assert told(dry_run(acme, unchanged, list(rule.targets.all()))) == []
    rule.action = "reject"
    assert told(dry_run(acme, rule, [])) == [(message.pk, ("a@gmail.com",), "special", "reject")]
    rule.action, rule.enabled = "send", False
    assert told(dry_run(acme, rule, [])) == [(message.pk, ("a@gmail.com",), "special", "default")]


def test_a_changed_order_of_rules_counts(acme, acme_account, special):
    RoutingRuleFactory(tenant=acme, priority=5, action="hold")
    rule = RoutingRuleFactory(tenant=acme, priority=9, providers=[special])
    message_to(acme_account, "a@gmail.com")
    rule.priority = 1
    assert dry_run(acme, rule, list(rule.targets.all())).routes == {("hold", "special"): 1}


def test_changed_weights_are_a_changed_route(acme, acme_account, special):
    rule = RoutingRuleFactory(tenant=acme, providers=[special])
    message_to(acme_account, "a@gmail.com")
    other = ProviderFactory(tenant=acme, name="other", default_rank=None)
    targets = [RoutingTarget(rule=rule, provider=special, weight=3), RoutingTarget(rule=rule, provider=other)]
    assert dry_run(acme, rule, targets).routes == {("special", "special (75 %) or other (25 %)"): 1}


def test_headers_are_read_only_where_a_condition_looks_at_them(acme, acme_account, special, monkeypatch):
    accepted(acme_account, raw_message("X-Kind: invoice"))
    gone = accepted(acme_account, raw_message("X-Kind: invoice"))
    result = dry_run(acme, *new_rule(acme, special, conditions=INVOICE))
    assert (result.messages_changed, result.without_headers) == (2, 0)
    store.delete(gone.store_key)
    result = dry_run(acme, *new_rule(acme, special, conditions=INVOICE))
    assert (result.messages_changed, result.without_headers) == (1, 1)
    first = [{"field": "size", "min": 10**9}, *INVOICE]
    assert dry_run(acme, *new_rule(acme, special, conditions=first)).without_headers == 0


def test_it_ends_in_time_and_says_how_far_it_got(acme, acme_account, special):
    for _ in range(3):
        message_to(acme_account, "a@gmail.com")
    result = dry_run(acme, *new_rule(acme, special), seconds=0)
    assert (result.wanted, result.looked_at, result.stopped) == (3, 0, True)


def test_only_the_last_messages_of_this_tenant_are_looked_at(acme, acme_account, globex_account, special):
    message_to(globex_account, "a@gmail.com")
    messages = [message_to(acme_account, "a@gmail.com") for _ in range(5)]
    result = dry_run(acme, *new_rule(acme, special), last=2)
    assert {change.message.pk for change in result.changed} == {message.pk for message in messages[-2:]}


def test_a_thousand_messages_are_quick_and_change_nothing(acme, acme_account, special):
    rows = [
        Message(
            tenant=acme,
            account=acme_account,
            status="held",
            size=1,
            recipient_count=0,
            store_key=f"tests/{number}",
            accepted_at="2026-11-22T12:00:00Z",
        )
        for number in range(1100)
    ]
    Message.objects.bulk_create(rows)
    with CaptureQueriesContext(connection) as queries:
        result = dry_run(acme, *new_rule(acme, special), last=5000)
    assert result.looked_at == 1000
    assert len(queries) < 30
    assert all(query["sql"].startswith("SELECT") for query in queries)
