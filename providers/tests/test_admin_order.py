"""Rules and default providers are put in order in their lists: RTE-6, RTE-4, SEC-2, SEC-5."""

import pytest
from django.urls import reverse

from accounts.models import AuditEntry
from accounts.tests.factories import UserFactory
from providers.models import Provider, RoutingRule
from providers.tests.factories import ProviderFactory, RoutingRuleFactory

pytestmark = pytest.mark.django_db
RULES = "/admin/providers/routingrule/"
ORDER = RULES + "order/"
JSON = {"Accept": "application/json"}


@pytest.fixture
def admin(client, acme):
    person = UserFactory(tenant=acme, role="admin")
    client.force_login(person)
    return person


@pytest.fixture
def rules(acme):
    return [
        RoutingRuleFactory(tenant=acme, name=name, priority=priority, action="hold")
        for name, priority in (("a", 5), ("b", 7), ("c", 30))
    ]


def order_of(tenant):
    return list(RoutingRule.objects.filter(tenant=tenant).order_by("priority", "pk").values_list("name", "priority"))


def test_rules_are_dragged_into_an_order_that_keeps_their_numbers(client, admin, acme, rules):
    a, b, c = rules
    answer = client.post(ORDER, {"order": [str(c.pk), str(a.pk), str(b.pk)]}, headers=JSON)
    assert answer.json() == {"text": "The order is saved.", "numbers": {str(c.pk): 5, str(a.pk): 7, str(b.pk): 30}}
    assert order_of(acme) == [("c", 5), ("a", 7), ("b", 30)]
    entries = AuditEntry.objects.filter(action="routingrule.moved", tenant=acme, actor=admin)
    assert {(entry.target_label, *entry.changes["priority"]) for entry in entries} == {
        ("a", 5, 7),
        ("b", 7, 30),
        ("c", 30, 5),
    }


def test_a_page_of_the_list_is_put_in_order_between_the_others(client, admin, acme, rules):
    client.post(ORDER, {"order": [str(rules[2].pk), str(rules[0].pk)]}, headers=JSON)
    assert order_of(acme) == [("c", 5), ("b", 7), ("a", 30)]


@pytest.mark.parametrize(
    ("move", "names"),
    [({"move": "{b}:up"}, "bac"), ({"move": "{b}:down"}, "acb"), ({"row": "{c}", "number": "1"}, "cab")],
)
def test_without_javascript_the_arrows_and_numbers_do_it(client, admin, acme, rules, move, names):
    keys = {rule.name: rule.pk for rule in rules}
    answer = client.post(ORDER, {name: value.format(**keys) for name, value in move.items()}, follow=True)
    assert "The order is saved." in answer.content.decode()
    assert [name for name, _ in order_of(acme)] == list(names)


def test_equal_priorities_are_numbered_anew(client, admin, acme):
    _, second = (RoutingRuleFactory(tenant=acme, name=name, priority=1, action="hold") for name in "ab")
    client.post(ORDER, {"move": f"{second.pk}:up"}, headers=JSON)
    assert order_of(acme) == [("b", 10), ("a", 20)]


def test_the_first_stays_first(client, admin, acme, rules):
    answer = client.post(ORDER, {"move": f"{rules[0].pk}:up"}, headers=JSON)
    assert answer.json()["text"] == "The order is as it was."
    assert not AuditEntry.objects.exists()


@pytest.mark.parametrize(
    "wrong", [{}, {"move": "nonsense:up"}, {"row": "{a}", "number": "-"}, {"order": ["{a}", "{a}"]}, {"order": ["x"]}]
)
def test_what_makes_no_order_changes_nothing_and_says_so(client, admin, acme, rules, wrong):
    key = str(rules[0].pk)
    sent = {
        name: [one.format(a=key) for one in value] if isinstance(value, list) else value.format(a=key)
        for name, value in wrong.items()
    }
    answer = client.post(ORDER, sent, headers=JSON)
    assert answer.status_code == 409
    assert answer.json()["text"]
    assert order_of(acme) == [("a", 5), ("b", 7), ("c", 30)]


def test_rules_of_others_are_not_moved(client, admin, acme, globex, rules, operator):
    theirs = RoutingRuleFactory(tenant=globex, name="t", priority=1, action="hold")
    assert client.post(ORDER, {"move": f"{theirs.pk}:down"}, headers=JSON).status_code == 409
    client.force_login(operator)
    mixed = {"order": [str(theirs.pk), str(rules[0].pk)]}
    assert client.post(ORDER, mixed, headers=JSON).json()["text"] == "Rows are put in order within one tenant."


@pytest.mark.parametrize(("role", "status"), [("owner", 200), ("user", 403), ("viewer", 403)])
def test_only_those_who_may_change_rules_put_them_in_order(client, acme, rules, role, status):
    client.force_login(UserFactory(tenant=acme, role=role))
    assert client.post(ORDER, {"move": f"{rules[0].pk}:down"}, headers=JSON).status_code == status
    if role == "user":
        assert 'name="move"' not in client.get(RULES).content.decode()


def test_default_providers_are_put_in_order_and_the_others_left_out(client, admin, acme):
    ranked = [ProviderFactory(tenant=acme, name=name, default_rank=rank) for name, rank in (("a", 0), ("b", 1))]
    other = ProviderFactory(tenant=acme, name="c", default_rank=None)
    url = reverse("admin:providers_provider_order")
    assert client.post(url, {"move": f"{ranked[1].pk}:up"}, headers=JSON).status_code == 200
    ranks = dict(Provider.objects.values_list("name", "default_rank"))
    assert ranks == {"b": 0, "a": 1, "c": None}
    assert client.post(url, {"move": f"{other.pk}:up"}, headers=JSON).status_code == 409
    page = client.get("/admin/providers/provider/").content.decode()
    assert page.index(">b</a>") < page.index(">a</a>") < page.index(">c</a>")


def test_a_list_says_in_words_what_each_rule_does_and_which_is_never_reached(client, admin, acme):
    provider = ProviderFactory(tenant=acme, name="Graph")
    RoutingRuleFactory(tenant=acme, name="all", priority=1, providers=[provider])
    late = RoutingRuleFactory(
        tenant=acme,
        name="late",
        priority=2,
        action="reject",
        conditions=[{"field": "recipient", "values": ["x.example"]}],
    )
    page = client.get(RULES).content.decode()
    assert "Always: send it through Graph." in page
    assert "When recipient is x.example: reject it." in page
    assert "Everything it could match is taken by “all” before it." in page
    client.post(ORDER, {"move": f"{late.pk}:up"})
    assert "never reached" not in client.get(RULES).content.decode()


def test_the_list_asks_no_more_for_more_rules(client, admin, acme, django_assert_max_num_queries):
    def queries():
        with django_assert_max_num_queries(60) as asked:
            client.get(RULES)
        return len(asked)

    provider = ProviderFactory(tenant=acme)
    RoutingRuleFactory(tenant=acme, providers=[provider])
    RoutingRuleFactory(tenant=acme, providers=[provider])
    few = queries()
    for _ in range(5):
        RoutingRuleFactory(tenant=acme, providers=[provider])
    assert queries() == few


class TestInWords:
    URL = "/admin/providers/routingrule/describe/"

    def test_a_rule_is_told_while_it_is_written(self, client, admin, acme):
        provider, other = ProviderFactory(tenant=acme, name="one"), ProviderFactory(tenant=acme, name="two")
        sent = {
            "conditions": '[{"field": "subject", "op": "contains", "values": ["invoice"]}]',
            "action": "send",
            "target": [f"{provider.pk}:0:3", f"{other.pk}:0:1", f"{other.pk}::nonsense"],
        }
        told = client.post(self.URL, sent).json()
        assert told["text"].startswith(
            "When subject contains invoice: send it through one (75 %) or two (25 %), then two"
        )

    @pytest.mark.parametrize("wrong", ["{", "[" * 10_000, '[{"field": "nose"}]', '"x"'])
    def test_what_is_wrong_is_told(self, client, admin, wrong):
        assert client.post(self.URL, {"conditions": wrong}).json()["error"]

    def test_a_rule_that_is_never_reached_is_told(self, client, admin, acme):
        RoutingRuleFactory(tenant=acme, name="all", priority=1, action="hold")
        sent = {"action": "reject", "enabled": "on", "priority": "2"}
        assert "“all”" in client.post(self.URL, sent).json()["warning"]
        assert client.post(self.URL, {**sent, "priority": "0"}).json()["warning"] == ""

    def test_another_tenants_providers_and_rules_are_not_named(self, client, admin, globex):
        theirs = ProviderFactory(tenant=globex, name="secret one")
        RoutingRuleFactory(tenant=globex, name="secret rule", priority=0, action="hold")
        sent = {"target": [f"{theirs.pk}:0:1"], "enabled": "on", "priority": "5", "tenant": str(globex.pk)}
        told = client.post(self.URL, sent).json()
        assert "secret" not in str(told)
        client.force_login(UserFactory(tenant=admin.tenant, role="viewer"))
        assert client.post(self.URL, sent).status_code == 403
