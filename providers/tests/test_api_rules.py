"""Routing rules over the API: conditions and targets whole, an order that nobody else has changed. API-1, API-3, RTE-1,
RTE-2, RTE-6."""

import pytest
from rest_framework.test import APIClient

from accounts.models import AuditEntry
from accounts.tests.factories import UserFactory
from providers.models import RoutingRule
from providers.tests.factories import ProviderFactory, RoutingRuleFactory

pytestmark = pytest.mark.django_db
LIST = "/api/v1/routing-rules/"


@pytest.fixture
def admin(acme):
    return UserFactory(tenant=acme, role="admin")


@pytest.fixture
def client(admin):
    client = APIClient()
    client.force_authenticate(admin)
    return client


@pytest.fixture
def providers(acme):
    return [ProviderFactory(tenant=acme), ProviderFactory(tenant=acme)]


def rule_of(*providers, **change):
    targets = [{"provider": str(provider.pk)} for provider in providers]
    conditions = [{"field": "subject", "op": "contains", "values": ["invoice"]}]
    return {"name": "invoices", "priority": 5, "conditions": conditions, "targets": targets, **change}


def post(client, given):
    return client.post(LIST, given, format="json")


def test_a_rule_is_made_with_its_targets(client, acme, providers):
    answer = post(client, rule_of(*providers))
    assert answer.status_code == 201, answer.json()
    rule = RoutingRule.objects.get()
    assert rule.tenant == acme
    assert [(target.provider, target.position, target.weight) for target in rule.targets.all()] == [
        (providers[0], 0, 1),
        (providers[1], 1, 1),
    ]
    assert [each["provider_name"] for each in answer.json()["targets"]] == [each.name for each in providers]
    assert set(AuditEntry.objects.values_list("action", flat=True)) == {"routingrule.created", "routingrule.changed"}


def test_targets_are_replaced_whole_or_stay(client, providers):
    made = post(client, rule_of(*providers)).json()
    url = f"{LIST}{made['id']}/"
    assert len(client.patch(url, {"name": "bills"}, format="json").json()["targets"]) == 2
    given = {"targets": [{"provider": str(providers[1].pk), "weight": 3}]}
    [target] = client.patch(url, given, format="json").json()["targets"]
    assert (target["provider"], target["weight"]) == (str(providers[1].pk), 3)
    assert client.patch(url, {"targets": []}, format="json").status_code == 400
    assert client.patch(url, {"targets": [], "action": "hold"}, format="json").json()["targets"] == []
    assert client.delete(url).status_code == 204


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"conditions": [{"field": "weather"}]}, "conditions"),
        ({"conditions": {}}, "conditions"),
        ({"conditions": [{"field": "account", "values": ["nobody@acme"]}]}, "conditions"),
        ({"targets": []}, "targets"),
        ({"targets": [{}]}, "targets"),
        ({"targets": [{"provider": "0198c0de-0000-7000-8000-000000000000"}]}, "targets"),
        ({"priority": -1}, "priority"),
        ({"action": "burn"}, "action"),
    ],
)
def test_what_cannot_be_is_refused_at_its_field(client, providers, change, field):
    answer = post(client, rule_of(*providers, **change))
    assert answer.status_code == 400
    assert field in answer.json()["details"]
    assert not RoutingRule.objects.exists()


def test_a_provider_stands_in_a_rule_once(client, providers):
    assert "targets" in post(client, rule_of(providers[0], providers[0])).json()["details"]


def test_nobody_routes_through_what_is_not_theirs(client, acme, globex):
    shared, theirs = ProviderFactory(tenant=None), ProviderFactory(tenant=globex)
    assert post(client, rule_of(shared)).status_code == post(client, rule_of(theirs)).status_code == 400
    acme.may_use_shared_providers = True
    acme.save()
    client.force_authenticate(UserFactory(tenant=acme, role="admin"))
    assert post(client, rule_of(shared)).status_code == 201


class TestOrder:
    @pytest.fixture
    def rules(self, acme):
        return [RoutingRuleFactory(tenant=acme, priority=number) for number in (3, 7, 9)]

    def reorder(self, client, rules):
        return client.post(f"{LIST}reorder/", {"rules": [str(rule.pk) for rule in rules]}, format="json")

    def test_rules_are_tried_in_the_order_they_are_named_in(self, client, rules):
        answer = self.reorder(client, rules[::-1])
        assert [each["id"] for each in answer.json()] == [str(rule.pk) for rule in rules[::-1]]
        assert list(RoutingRule.objects.order_by("priority")) == rules[::-1]
        entry = AuditEntry.objects.get(target_id=str(rules[0].pk))
        assert entry.changes == {"priority": [3, 30]}

    def test_nothing_is_changed_when_there_are_other_rules_by_now(self, client, rules, acme):
        RoutingRuleFactory(tenant=acme, priority=1)
        answer = self.reorder(client, rules)
        assert (answer.status_code, answer.json()["code"]) == (409, "other_rules")
        assert [RoutingRule.objects.get(pk=rule.pk).priority for rule in rules] == [3, 7, 9]

    def test_another_tenants_rules_are_not_touched(self, client, rules, globex):
        theirs = RoutingRuleFactory(tenant=globex, priority=4)
        assert self.reorder(client, [*rules, theirs]).status_code == 409
        assert self.reorder(client, [theirs]).status_code == 400
        assert self.reorder(client, [rules[0], rules[0]]).status_code == 400
        theirs.refresh_from_db()
        assert theirs.priority == 4


def test_a_page_is_a_few_queries(client, acme, providers, django_assert_max_num_queries):
    for _ in range(10):
        RoutingRuleFactory(tenant=acme, providers=providers)
    with django_assert_max_num_queries(6):
        assert len(client.get(LIST).json()["results"]) == 10


def test_another_tenants_rule_is_404_and_a_user_changes_nothing(client, acme, globex, providers):
    theirs = RoutingRuleFactory(tenant=globex)
    assert client.get(f"{LIST}{theirs.pk}/").status_code == 404
    client.force_authenticate(UserFactory(tenant=acme, role="user"))
    assert client.get(LIST).status_code == 200
    assert post(client, rule_of(*providers)).status_code == 403
    assert client.post(f"{LIST}reorder/", {}).status_code == 403
