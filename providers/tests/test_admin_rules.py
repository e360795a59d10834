"""Routing rules as people enter them: RTE-1, RTE-2."""

import pytest

from accounts.tests.factories import AccountFactory, UserFactory
from providers.models import RoutingRule
from providers.tests.factories import ProviderFactory, RoutingRuleFactory
from providers.tests.test_admin import ADD_RULE, page_of

pytestmark = pytest.mark.django_db


@pytest.fixture
def admin(client, acme):
    person = UserFactory(tenant=acme, role="admin")
    client.force_login(person)
    return person


def rule(*targets, **changes):
    rows = {}
    for number, (provider, position) in enumerate(targets):
        rows |= {
            f"targets-{number}-provider": str(provider.pk),
            f"targets-{number}-position": position,
            f"targets-{number}-weight": "1",
        }
    return {
        "name": "invoices",
        "priority": "10",
        "enabled": "on",
        "action": "hold",
        "conditions": "",
        "targets-TOTAL_FORMS": str(len(targets)),
        "targets-INITIAL_FORMS": "0",
        **rows,
        **changes,
    }


@pytest.mark.parametrize("conditions", ["", "  ", "null", "[]"])
def test_no_conditions_mean_always(client, admin, conditions):
    assert client.post(ADD_RULE, rule(conditions=conditions)).status_code == 302
    assert RoutingRule.objects.get().conditions == []


def test_conditions_can_be_taken_away(client, admin, acme):
    made = RoutingRuleFactory(tenant=acme, action="hold", conditions=[{"field": "size", "min": 1}])
    assert client.post(page_of(made), rule()).status_code == 302
    made.refresh_from_db()
    assert made.conditions == []


@pytest.mark.parametrize(
    ("conditions", "text"),
    [
        ("{}", "Give a list of conditions"),
        ('{"field": "size", "min": 1}', "Give a list of conditions"),
        ('""', "Give a list of conditions"),
        ("0", "Give a list of conditions"),
        ("[" * 3000, "Enter a valid JSON"),
        ("[" * 200 + "]" * 200, "Condition 1: must be an object"),
        ("[" * 100_000 + "]" * 100_000, "Enter a valid JSON"),
        ("[" + "9" * 5000 + "]", "Enter a valid JSON"),
        ("[NaN]", "Condition 1: must be an object"),
        ('[{"field": ["a"]}]', "Condition 1: field must be one of"),
        ('[{"field": "subject", "op": "contains", "values": ["a\\u0000"]}]', "Condition 1: values must be"),
        ('[{"field": "subject", "op": "contains", "values": ["\\ud800"]}]', "Condition 1: values must be"),
        ('[{"field": "size", "min": 1, "\\u0000": 1}]', "Condition 1: beside field, size takes the keys min, max"),
        ('[{"field": "account", "values": ["nobody@acme"]}]', "There is no account nobody@acme in this tenant."),
    ],
)
def test_conditions_that_cannot_be_kept_are_a_form_error(client, admin, conditions, text):
    answer = client.post(ADD_RULE, rule(conditions=conditions))
    assert answer.status_code == 200
    (error,) = answer.context["adminform"].form.errors["conditions"]
    assert error.startswith(text)
    assert not RoutingRule.objects.exists()


def test_what_was_typed_comes_back_as_it_was_typed(client, admin):
    answer = client.post(ADD_RULE, rule(conditions='[{"field":   "nose"}]'))
    assert "[{&quot;field&quot;:   &quot;nose&quot;}]" in answer.content.decode()


def test_an_account_is_known_by_its_username_in_its_own_tenant(client, admin, acme_account, globex_account):
    conditions = '[{"field": "account", "values": ["%s"]}]'
    assert client.post(ADD_RULE, rule(conditions=conditions % "ERP@globex")).status_code == 200
    assert client.post(ADD_RULE, rule(conditions=conditions % "CRM@acme")).status_code == 302
    assert AccountFactory._meta.model.objects.count() == 2


def test_the_page_names_where_conditions_are_explained(client, admin):
    assert "see docs/routing-conditions.md" in client.get(ADD_RULE).content.decode()


def test_a_rule_that_sends_needs_a_provider(client, admin, acme):
    text = "A rule that sends needs at least one provider below."
    assert text in client.post(ADD_RULE, rule(action="send")).content.decode()
    assert not RoutingRule.objects.exists()
    provider = ProviderFactory(tenant=acme)
    assert client.post(ADD_RULE, rule((provider, "0"), action="send")).status_code == 302
    made = RoutingRule.objects.get()
    gone = rule((provider, "0"), action="send")
    gone |= {"targets-INITIAL_FORMS": "1", "targets-0-id": str(made.targets.get().pk), "targets-0-DELETE": "on"}
    assert text in client.post(page_of(made), gone).content.decode()
    assert made.targets.count() == 1


def test_a_target_without_a_position_comes_after_the_others(client, admin, acme):
    first, second, third = (ProviderFactory(tenant=acme) for _ in range(3))
    form = rule((second, ""), (first, "4"), (third, ""), action="send")
    assert client.post(ADD_RULE, form).status_code == 302
    made = RoutingRule.objects.get()
    assert list(made.targets.values_list("provider", "position")) == [(first.pk, 4), (second.pk, 5), (third.pk, 6)]
    # A position that is emptied later stays what it was.
    rows = {f"targets-{number}-id": str(target.pk) for number, target in enumerate(made.targets.all())}
    form = rule((first, "4"), (second, ""), (third, "6"), action="send")
    assert client.post(page_of(made), {**form, **rows, "targets-INITIAL_FORMS": "3"}).status_code == 302
    assert list(made.targets.values_list("position", flat=True)) == [4, 5, 6]
    assert "share the mail by weight" in client.get(page_of(made)).content.decode()


def test_a_provider_twice_and_a_weight_of_nothing_are_refused(client, admin, acme):
    provider = ProviderFactory(tenant=acme)
    assert client.post(ADD_RULE, rule((provider, "0"), (provider, "1"), action="send")).status_code == 200
    assert client.post(ADD_RULE, rule((provider, "0"), **{"targets-0-weight": "0"})).status_code == 200
    assert client.post(ADD_RULE, rule((provider, "99999"))).status_code == 200
    assert not RoutingRule.objects.exists()
