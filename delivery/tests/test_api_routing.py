"""Where mail would go, and what a changed rule would do, asked over the API. RTE-5, API-1."""

import pytest

from accounts.tests.api_client import signed_in
from accounts.tests.factories import UserFactory
from delivery.tests.factories import MessageFactory
from providers.models import RoutingRule
from providers.tests.factories import ProviderFactory, RoutingRuleFactory

pytestmark = pytest.mark.django_db
EXPLAIN, DRY_RUN = "/api/v1/routing-rules/explain/", "/api/v1/routing-rules/dry-run/"
INVOICES = [{"field": "subject", "op": "contains", "values": ["invoice"]}]


@pytest.fixture
def client(acme):
    return signed_in(UserFactory(tenant=acme, role="admin"))


@pytest.fixture
def rule(acme):
    provider = ProviderFactory(tenant=acme, name="bills", default_rank=None)
    return RoutingRuleFactory(tenant=acme, conditions=INVOICES, providers=[provider])


@pytest.fixture(autouse=True)
def usual(acme):
    return ProviderFactory(tenant=acme, name="usual")


def post(client, url, given):
    return client.post(url, given, format="json")


def test_a_made_up_message_is_explained(client, rule, acme_account):
    given = {"account": str(acme_account.pk), "recipients": ["anna@outside.example"], "subject": "Your invoice"}
    [route] = post(client, EXPLAIN, given).json()["routes"]
    assert (route["outcome"], route["good"], route["rule"]) == ("Sent through bills.", True, str(rule.pk))
    [told] = route["rules"]
    assert (told["verdict"], told["checks"][0]["holds"]) == ("matches and decides", True)
    [route] = post(client, EXPLAIN, {**given, "subject": "Hello"}).json()["routes"]
    assert (route["outcome"], route["rule"]) == ("Sent through usual.", None)


def test_a_stored_message_is_explained(client, rule, acme_account):
    message = MessageFactory(account=acme_account, subject="Invoice 7")
    told = post(client, EXPLAIN, {"message": str(message.pk)}).json()
    assert told["routes"][0]["outcome"] == "Sent through bills."
    assert told["notes"]


@pytest.mark.parametrize("given", [{}, {"recipients": ["anna@x.example"]}, {"message": "x"}])
def test_a_question_must_be_whole(client, given):
    assert post(client, EXPLAIN, given).status_code == 400


def test_what_is_not_ones_own_is_not_there(client, globex_account):
    theirs = MessageFactory(account=globex_account)
    assert post(client, EXPLAIN, {"message": str(theirs.pk)}).status_code == 404
    given = {"account": str(globex_account.pk), "recipients": ["anna@outside.example"]}
    assert "account" in post(client, EXPLAIN, given).json()["details"]


class TestDryRun:
    @pytest.fixture(autouse=True)
    def mail(self, acme_account, globex_account):
        for subject in ("Invoice 1", "Receipt 1", "Receipt 2"):
            MessageFactory(account=acme_account, subject=subject)
        MessageFactory(account=globex_account, subject="Receipt of globex")

    def test_a_changed_rule_is_compared_and_not_saved(self, client, rule):
        conditions = [{**INVOICES[0], "values": ["receipt"]}]
        told = post(client, DRY_RUN, {"rule": str(rule.pk), "change": {"conditions": conditions}}).json()
        assert (told["looked_at"], told["messages_changed"]) == (3, 3)
        assert {(each["before"], each["after"]): each["messages"] for each in told["routes"]} == {
            ("usual", "bills"): 2,
            ("bills", "usual"): 1,
        }
        rule.refresh_from_db()
        assert rule.conditions == INVOICES

    def test_a_new_rule_is_tried_with_its_targets(self, client, usual):
        change = {"name": "new", "priority": 1, "action": "hold", "conditions": INVOICES}
        told = post(client, DRY_RUN, {"change": change, "last": 2}).json()
        assert (told["wanted"], told["messages_changed"]) == (2, 0)
        told = post(client, DRY_RUN, {"change": change}).json()
        assert [each["after"] for each in told["changed"]] == ["hold"]
        assert not RoutingRule.objects.exists()

    def test_a_rule_that_could_not_be_saved_is_not_tried(self, client, rule, globex):
        assert post(client, DRY_RUN, {"change": {"name": "x", "priority": 1}}).status_code == 400
        assert post(client, DRY_RUN, {"rule": str(rule.pk), "change": {"conditions": [{}]}}).status_code == 400
        assert post(client, DRY_RUN, {"rule": str(rule.pk), "change": {}, "last": 10**6}).status_code == 400
        theirs = RoutingRuleFactory(tenant=globex)
        assert post(client, DRY_RUN, {"rule": str(theirs.pk), "change": {}}).status_code == 404
