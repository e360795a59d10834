"""Providers over the API: settings by type, secrets never shown, tested, other tenants' hidden. API-1, API-3, PRV-12,
PRV-13."""

import json

import pytest
from django.db import connection
from rest_framework.test import APIClient

from accounts import credentials
from accounts.models import AuditEntry, User
from accounts.tests.factories import UserFactory
from providers import registry
from providers.health import note_misconfigured
from providers.models import Provider
from providers.tests.factories import ProviderFactory, RoutingRuleFactory

pytestmark = pytest.mark.django_db
LIST = "/api/v1/providers/"
SENDGRID = {"name": "sendgrid", "type": "sendgrid", "config": {"api_key": "SG.secret-of-acme"}}
SMTP = {"host": "smtp.outside.example", "username": "acme", "password": "hush-hush"}


def client_of(person):
    client = APIClient()
    client.force_authenticate(person)
    return client


@pytest.fixture
def client(acme):
    return client_of(UserFactory(tenant=acme, role=User.Role.ADMIN))


@pytest.fixture
def smtp(acme):
    return ProviderFactory(tenant=acme, type="smtp", config=SMTP)


def one(provider):
    return f"{LIST}{provider.pk}/"


class TestTypes:
    def test_each_type_tells_its_settings(self, client):
        types = {each["type"]: each for each in client.get(f"{LIST}types/").json()}
        [key, *_] = types["sendgrid"]["settings"]
        assert (key["name"], key["secret"], key["required"]) == ("api_key", True, True)
        assert types["sendgrid"]["webhooks"]

    def test_those_that_act_on_our_own_machine_are_for_operators(self, client, operator):
        assert "file" not in {each["type"] for each in client.get(f"{LIST}types/").json()}
        assert "file" in {each["type"] for each in client_of(operator).get(f"{LIST}types/").json()}
        assert client.post(LIST, {"name": "x", "type": "file"}, format="json").status_code == 400


class TestCreate:
    def test_it_belongs_to_the_callers_tenant_whatever_is_asked_for(self, client, acme, globex):
        answer = client.post(LIST, {**SENDGRID}, format="json")
        assert answer.status_code == 201, answer.json()
        assert Provider.objects.get().tenant == acme
        assert AuditEntry.objects.get().action == "provider.created"

    def test_an_operator_makes_shared_ones(self, operator):
        answer = client_of(operator).post(LIST, {**SENDGRID, "tenant": None}, format="json")
        assert answer.status_code == 201
        assert Provider.objects.get().tenant is None

    @pytest.mark.parametrize(
        ("change", "field"),
        [
            ({"type": "pigeon"}, "type"),
            ({"config": {}}, "config"),
            ({"config": {"api_key": 5}}, "config"),
            ({"config": {"api_key": "SG.x", "colour": "red"}}, "config"),
            ({"config": "SG.x"}, "config"),
            ({"per_second": 0}, "per_second"),
            ({"retry_schedule": [0]}, "retry_schedule"),
            ({"retry_schedule": ["soon"]}, "retry_schedule"),
            ({"name": ""}, "name"),
            ({"health": "fine", "nonsense": 1}, "nonsense"),
        ],
    )
    def test_what_cannot_be_is_refused_at_its_field(self, client, change, field):
        answer = client.post(LIST, {**SENDGRID, **change}, format="json")
        assert answer.status_code == 400
        assert set(answer.json()) == {"code", "message", "details"}
        assert field in answer.json()["details"]
        assert not Provider.objects.exists()

    def test_two_of_a_name_are_refused(self, client):
        client.post(LIST, SENDGRID, format="json")
        assert "name" in client.post(LIST, SENDGRID, format="json").json()["details"]

    def test_private_addresses_are_for_operators(self, client):
        given = {"name": "x", "type": "smtp", "config": {**SMTP, "host": "127.0.0.1"}}
        assert "host" in client.post(LIST, given, format="json").json()["details"]["config"]


class TestSecrets:
    def test_no_answer_and_no_audit_entry_holds_one(self, client, smtp):
        answers = [
            client.get(LIST),
            client.get(one(smtp)),
            client.patch(one(smtp), {"config": {"password": "other-secret"}}, format="json"),
            client.put(one(smtp), {"name": "y", "config": {"password": 7}}, format="json"),
            client.post(LIST, SENDGRID, format="json"),
        ]
        told = " ".join(answer.content.decode() for answer in answers)
        told += json.dumps(list(AuditEntry.objects.values_list("changes", flat=True)))
        for secret in ("hush-hush", "other-secret", "SG.secret"):
            assert secret not in told
        assert client.get(one(smtp)).json()["config"]["password"] == "***"

    @pytest.mark.parametrize("given", [{}, {"password": "***"}, {"username": "acme"}])
    def test_what_is_not_given_or_masked_stays(self, client, smtp, given):
        assert client.patch(one(smtp), {"config": given}, format="json").status_code == 200
        smtp.refresh_from_db()
        assert (smtp.config["password"], smtp.config["username"]) == ("hush-hush", "acme")

    def test_null_takes_one_away(self, client, smtp):
        given = {"config": {"password": None, "username": None}}
        assert client.patch(one(smtp), given, format="json").status_code == 200
        smtp.refresh_from_db()
        assert "password" not in smtp.config

    def test_a_stored_secret_does_not_follow_to_another_server(self, client, smtp):
        answer = client.patch(one(smtp), {"config": {"host": "evil.example", "password": "***"}}, format="json")
        assert "password" in answer.json()["details"]["config"]
        given = {"config": {"host": "new.outside.example", "password": "given-again"}}
        assert client.patch(one(smtp), given, format="json").status_code == 200

    def test_settings_no_key_opens_are_a_conflict_and_not_an_error(self, client, smtp):
        with connection.cursor() as cursor:
            cursor.execute("UPDATE providers_provider SET config = 'garbage'")
        answer = client.get(one(smtp))
        assert (answer.status_code, answer.json()["code"]) == (409, "unreadable")
        assert client.get(LIST).status_code == 200
        assert client.delete(one(smtp)).status_code == 204


class TestChange:
    def test_saving_mends_its_health(self, client, smtp):
        note_misconfigured(smtp, "wrong password")
        assert client.get(one(smtp)).json()["health"]["state"] == "unhealthy"
        assert client.patch(one(smtp), {"enabled": False}, format="json").json()["health"]["state"] == "healthy"
        smtp.refresh_from_db()
        assert not smtp.enabled

    def test_type_and_tenant_stay(self, client, smtp, globex, acme):
        assert "type" in client.patch(one(smtp), {"type": "ses"}, format="json").json()["details"]
        smtp.refresh_from_db()
        assert (smtp.type, smtp.tenant) == ("smtp", acme)

    def test_one_that_rules_name_is_not_deleted(self, client, smtp, acme):
        rule = RoutingRuleFactory(tenant=acme, providers=[smtp])
        assert client.delete(one(smtp)).status_code == 409
        rule.delete()
        assert client.delete(one(smtp)).status_code == 204

    def test_the_next_message_may_probe(self, client, smtp):
        note_misconfigured(smtp, "wrong password")
        assert client.post(f"{one(smtp)}probe/").json() == {"ended": True}
        assert client.get(one(smtp)).json()["health"]["state"] == "probing"


class TestTrial:
    @pytest.fixture
    def provider(self, acme):
        return ProviderFactory(tenant=acme, type="memory")

    def test_the_settings_are_tried_in_the_providers_own_words(self, client_for_memory, provider):
        answer = client_for_memory.post(f"{one(provider)}test/").json()
        assert answer["good"] or answer["text"]
        assert AuditEntry.objects.get().action == "provider.tested"

    def test_a_small_message_is_sent(self, client_for_memory, provider, operator):
        given = {"sender": "test@acme.example", "recipient": "anna@outside.example"}
        answer = client_for_memory.post(f"{one(provider)}test/", given, format="json").json()
        assert answer["good"]
        assert AuditEntry.objects.get().changes == {"from": given["sender"], "to": given["recipient"]}

    def test_nobody_sends_as_a_domain_their_tenant_may_not(self, client, acme_account, smtp):
        given = {"sender": "boss@globex.example", "recipient": "anna@outside.example"}
        assert "sender" in client.post(f"{one(smtp)}test/", given, format="json").json()["details"]

    def test_trials_are_counted(self, client_for_memory, provider, monkeypatch):
        codes = [client_for_memory.post(f"{one(provider)}test/").status_code for _ in range(11)]
        assert codes == [200] * 10 + [429]

    @pytest.fixture
    def client_for_memory(self, operator, monkeypatch):
        """The type of tests is offered to nobody, and so it could not be tried."""
        monkeypatch.setattr(registry, "_FOR_TESTS", frozenset())
        return client_of(operator)


class TestWho:
    def test_another_tenants_is_404(self, client, globex):
        theirs = ProviderFactory(tenant=globex)
        for ask in (client.get, client.delete, lambda url: client.patch(url, {}, format="json")):
            assert ask(one(theirs)).status_code == 404
        for name in ("test", "probe"):
            assert client.post(f"{one(theirs)}{name}/").status_code == 404
        assert client.get(LIST).json()["results"] == []

    @pytest.mark.parametrize(("role", "reads"), [("user", 200), ("viewer", 403)])
    def test_others_change_nothing(self, acme, smtp, role, reads):
        client = client_of(UserFactory(tenant=acme, role=role))
        assert client.get(one(smtp)).status_code == client.get(f"{LIST}types/").status_code == reads
        assert client.patch(one(smtp), {}, format="json").status_code == 403
        assert (
            client.post(f"{one(smtp)}test/").status_code
            == client.post(LIST, SENDGRID, format="json").status_code
            == 403
        )

    def test_shared_ones_are_told_of_where_the_tenant_may_use_them(self, client, acme):
        ProviderFactory(tenant=None, name="ours")
        assert client.get(f"{LIST}shared/").json()["results"] == []
        acme.may_use_shared_providers = True
        acme.save()
        person = User.objects.get(tenant=acme)
        [shared] = client_of(person).get(f"{LIST}shared/").json()["results"]
        assert set(shared) == {"id", "name", "type", "enabled"}
        assert client.get(f"{LIST}{shared['id']}/").status_code == 404

    def test_a_page_of_them_is_a_few_queries(self, client, acme, django_assert_max_num_queries):
        for _ in range(20):
            ProviderFactory(tenant=acme)
        with django_assert_max_num_queries(5):
            assert len(client.get(LIST).json()["results"]) == 20

    def test_the_list_is_filtered(self, client, acme, smtp):
        ProviderFactory(tenant=acme, type="memory")
        [found] = client.get(LIST, {"type": "smtp"}).json()["results"]
        assert found["id"] == str(smtp.pk)


def test_a_key_has_no_business_here(acme_account):
    _, text = credentials.issue_api_key(acme_account, ["send", "logs:read", "messages:read"])
    assert APIClient().get(LIST, headers={"Authorization": f"Bearer {text}"}).status_code == 403
