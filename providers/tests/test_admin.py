"""Providers and routing rules in the admin: ADM-2, PRV-12, RTE-4."""

from datetime import timedelta

import pytest
from django.db import connection
from django.urls import reverse
from django.utils import timezone

from accounts.models import AuditEntry
from accounts.tests.factories import UserFactory
from providers import registry
from providers.models import Provider, RoutingRule
from providers.tests.factories import ProviderFactory, RoutingRuleFactory

pytestmark = pytest.mark.django_db
ADD = "/admin/providers/provider/add/"
ADD_RULE = "/admin/providers/routingrule/add/"
SECRET = "sesame-4711-open"


@pytest.fixture
def admin(client, acme):
    person = UserFactory(tenant=acme, role="admin")
    client.force_login(person)
    return person


def page_of(row):
    return reverse(f"admin:providers_{row._meta.model_name}_change", args=[row.pk])


def smtp(**changes):
    return {
        "name": "smarthost",
        "enabled": "on",
        "default_rank": "0",
        "retry_schedule": "",
        "config_host": "mx.example",
        "config_port": "587",
        "config_security": "starttls",
        "config_username": "acme",
        "config_password": SECRET,
        "config_verify_certificate": "on",
        "config_idle_seconds": "30",
        "config_data_timeout": "120",
        **changes,
    }


@pytest.fixture
def smarthost(acme):
    config = {"host": "mx.example", "port": 587, "security": "starttls", "username": "acme", "password": SECRET}
    return ProviderFactory(tenant=acme, name="smarthost", type="smtp", config=config)


def stored(provider):
    return Provider.objects.get(pk=provider.pk).config


def raw_config(provider):
    with connection.cursor() as cursor:
        cursor.execute("SELECT config FROM providers_provider WHERE name = %s", [provider.name])
        return cursor.fetchone()[0]


def test_a_new_provider_begins_with_its_type(client, admin):
    page = client.get(ADD).content.decode()
    for type_ in registry.types():
        assert (f'href="?type={type_}"' in page) == (not registry.backend_class(type_).sandbox)
    assert "Amazon SES" in page  # a name nobody could guess is explained
    assert "Needs: Region and an access key" in page
    assert client.get(ADD + "?type=nonsense").content.decode().count("Choose a type") >= 1


@pytest.mark.parametrize("type_", registry.types())
def test_the_form_asks_for_what_the_type_needs(client, operator, type_):
    client.force_login(operator)
    page = client.get(f"{ADD}?type={type_}").content.decode()
    for spec in registry.backend_class(type_).config_fields:
        assert f'name="config_{spec.name}"' in page
        assert spec.label in page
        if spec.kind == "secret":
            assert f'type="password" name="config_{spec.name}"' in page


def test_what_was_entered_is_kept_typed_and_encrypted(client, admin):
    client.post(ADD + "?type=smtp", smtp(retry_schedule="30\n60"))
    provider = Provider.objects.get()
    assert (provider.tenant, provider.type, provider.retry_schedule) == (admin.tenant, "smtp", [30, 60])
    assert provider.config["port"] == 587
    assert provider.config["verify_certificate"] is True
    assert provider.config["password"] == SECRET
    raw = raw_config(provider)
    assert SECRET not in raw
    assert "mx.example" not in raw


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"config_host": ""}, "This field is required"),
        ({"config_port": "many"}, "Enter a whole number"),
        ({"config_security": "hope"}, "Select a valid choice"),
        ({"config_password": ""}, "Password: required with a user name."),
        ({"retry_schedule": "soon"}, "Give whole numbers"),
        ({"retry_schedule": "0"}, "Give seconds before each retry: whole numbers from 1 to 2,592,000"),
        ({"name": ""}, "This field is required"),
        ({"name": "taken"}, "There is a provider of this name."),
    ],
)
def test_a_wrong_value_gets_a_clear_error_and_makes_nothing(client, admin, wrong, text):
    ProviderFactory(tenant=admin.tenant, name="taken")
    answer = client.post(ADD + "?type=smtp", smtp(**wrong))
    assert answer.status_code == 200
    assert text in answer.content.decode()
    assert SECRET not in answer.content.decode()
    assert Provider.objects.count() == 1


def test_two_shared_providers_cannot_have_one_name(client, operator):
    client.force_login(operator)
    ProviderFactory(tenant=None, name="smarthost")
    assert b"There is a shared provider of this name" in client.post(ADD + "?type=smtp", smtp()).content


def test_a_secret_left_empty_is_kept(client, admin, smarthost):
    client.post(page_of(smarthost), smtp(config_password="", name="renamed"))
    assert stored(smarthost)["password"] == SECRET
    assert Provider.objects.get().name == "renamed"


def test_a_secret_can_be_replaced_and_an_optional_one_removed(client, admin, smarthost):
    client.post(page_of(smarthost), smtp(config_password="another"))
    assert stored(smarthost)["password"] == "another"
    client.post(page_of(smarthost), smtp(config_password="", config_username="", config_password_clear="on"))
    assert "password" not in stored(smarthost)


@pytest.mark.parametrize(
    "moved",
    [
        {"config_host": "mx.evil.example"},
        {"config_security": "none", "config_allow_plaintext": "on"},
        {"config_verify_certificate": ""},
    ],
)
def test_a_stored_secret_does_not_follow_a_change_of_server(client, admin, smarthost, moved):
    answer = client.post(page_of(smarthost), smtp(config_password="", **moved))
    assert b"Enter it again" in answer.content
    assert stored(smarthost)["host"] == "mx.example"
    client.post(page_of(smarthost), smtp(config_password="new", **moved))
    assert stored(smarthost)["password"] == "new"


def test_an_api_key_does_not_follow_a_change_of_base_url(client, admin, acme):
    provider = ProviderFactory(tenant=acme, type="sendgrid", config={"api_key": SECRET})
    form = {"name": provider.name, "enabled": "on", "config_api_key": ""}
    assert client.post(page_of(provider), {**form, "config_base_url": "https://api.sendgrid.com"}).status_code == 302
    assert client.post(page_of(provider), {**form, "config_base_url": "https://evil.example"}).status_code == 200
    assert stored(provider)["api_key"] == SECRET
    assert stored(provider)["base_url"] == "https://api.sendgrid.com"


def test_a_client_secret_does_not_follow_a_change_of_the_sign_in_url(client, admin, acme):
    config = {"tenant_id": "acme.test", "client_id": "c", "client_secret": SECRET}
    provider = ProviderFactory(tenant=acme, type="msgraph", config=config)
    form = {"name": provider.name, "enabled": "on", "config_tenant_id": "acme.test", "config_client_id": "c"}
    form |= {"config_client_secret": "", "config_max_message_mb": "35", "config_save_to_sent_items": "on"}
    form |= {"config_base_url": "https://graph.microsoft.com/v1.0"}
    assert client.post(page_of(provider), form).status_code == 302
    answer = client.post(page_of(provider), {**form, "config_login_url": "https://evil.example"})
    assert b"Enter it again" in answer.content
    assert "login_url" not in stored(provider)


@pytest.mark.parametrize("role", ["owner", "admin", "user", "operator"])
def test_a_stored_secret_is_on_no_page_at_all(client, acme, operator, smarthost, role):
    RoutingRuleFactory(tenant=acme, providers=[smarthost])
    client.force_login(operator if role == "operator" else UserFactory(tenant=acme, role=role))
    client.post(page_of(smarthost), smtp(config_password="", config_port="x"))
    pages = ["/admin/", "/admin/providers/provider/", page_of(smarthost), "/admin/providers/routingrule/"]
    pages += [page_of(RoutingRule.objects.get()), "/admin/delivery/deliverylog/"]
    pages += [reverse(f"admin:providers_provider_{view}", args=[smarthost.pk]) for view in ("delete", "history")]
    for page in pages:
        text = client.get(page, follow=True).content.decode()
        assert SECRET not in text, page
        assert raw_config(smarthost) not in text, page
    bound = client.post(page_of(smarthost), smtp(config_port="many"), follow=True).content.decode()
    assert SECRET not in bound


def test_the_audit_shows_settings_and_masks_secrets(client, admin):
    client.post(ADD + "?type=smtp", smtp())
    provider = Provider.objects.get()
    client.post(page_of(provider), smtp(config_host="mx2.example", config_password="another"))
    client.post(reverse("admin:providers_provider_delete", args=[provider.pk]), {"post": "yes"})
    created, changed, deleted = AuditEntry.objects.order_by("id")
    assert created.changes["config.host"] == [None, "mx.example"]
    assert created.changes["config.password"] == [None, "***"]
    assert changed.changes == {"config.host": ["mx.example", "mx2.example"], "config.password": ["***", "***"]}
    assert deleted.changes["config.password"] == ["***", None]
    with connection.cursor() as cursor:
        cursor.execute("SELECT * FROM accounts_auditentry")
        assert SECRET not in str(cursor.fetchall())


def test_who_may_only_read_sees_settings_but_of_a_secret_only_that_there_is_one(client, acme, smarthost):
    client.force_login(UserFactory(tenant=acme, role="user"))
    page = client.get(page_of(smarthost)).content.decode()
    assert "Host: mx.example" in page
    assert "Password: stored" in page


def test_types_that_act_on_our_own_machine_are_the_operators(client, admin, operator, acme, tmp_path):
    form = {"name": "folder", "enabled": "on", "config_directory": str(tmp_path)}
    client.post(ADD + "?type=file", form)
    assert not Provider.objects.exists()
    client.force_login(operator)
    client.post(ADD + "?type=file", {**form, "tenant": str(acme.pk)})
    provider = Provider.objects.get()
    assert provider.tenant == acme
    client.force_login(admin)
    assert client.get(page_of(provider)).status_code == 200
    assert client.post(page_of(provider), form).status_code == 403


def test_mending_the_settings_makes_an_unhealthy_provider_usable_at_once(client, admin, smarthost):
    until = timezone.now() + timedelta(hours=1)
    Provider.objects.update(unhealthy_until=until, unhealthy_reason="535 bad credentials")
    assert b": 535 bad credentials" in client.get("/admin/providers/provider/").content
    client.post(page_of(smarthost), smtp(config_password="right"))
    smarthost.refresh_from_db()
    assert (smarthost.unhealthy_until, smarthost.unhealthy_reason) == (None, "")


def test_a_list_of_providers_does_not_decrypt_anything(client, admin, smarthost, settings):
    RoutingRuleFactory(tenant=admin.tenant, providers=[smarthost])
    settings.CREDENTIAL_KEYS = ["T" * 43 + "="]
    for listed in ("provider", "routingrule"):
        assert smarthost.name in client.get(f"/admin/providers/{listed}/").content.decode()


def test_a_provider_of_a_type_that_is_gone_can_be_seen_and_deleted(client, admin, acme):
    provider = ProviderFactory(tenant=acme, type="pigeon", config={"coop": SECRET})
    assert client.get(page_of(provider)).status_code == 200
    assert client.post(page_of(provider), {"name": "x"}).status_code == 403
    client.post(reverse("admin:providers_provider_delete", args=[provider.pk]), {"post": "yes"})
    assert not Provider.objects.exists()
    assert AuditEntry.objects.get().changes["config.coop"] == ["***", None]


def test_a_provider_that_a_rule_uses_is_not_deleted(client, admin, acme, smarthost):
    RoutingRuleFactory(tenant=acme, providers=[smarthost])
    delete = reverse("admin:providers_provider_delete", args=[smarthost.pk])
    assert b"routing targets that belong to it" in client.get(delete).content
    client.post(delete, {"post": "yes"})
    assert Provider.objects.exists()
    assert not AuditEntry.objects.exists()


class TestRoutingRules:
    def form(self, *targets, **changes):
        rows = {}
        for number, provider in enumerate(targets):
            rows |= {
                f"targets-{number}-provider": str(provider.pk),
                f"targets-{number}-position": str(number),
                f"targets-{number}-weight": "1",
            }
        return {
            "name": "invoices",
            "priority": "10",
            "enabled": "on",
            "action": "send",
            "conditions": '[{"field": "subject", "op": "contains", "values": ["invoice"]}]',
            "targets-TOTAL_FORMS": str(len(targets)),
            "targets-INITIAL_FORMS": "0",
            **rows,
            **changes,
        }

    def test_a_rule_is_made_with_its_targets_in_order(self, client, admin, acme):
        first, second = ProviderFactory(tenant=acme), ProviderFactory(tenant=acme)
        client.post(ADD_RULE, self.form(second, first))
        rule = RoutingRule.objects.get()
        assert (rule.tenant, rule.conditions[0]["values"]) == (acme, ["invoice"])
        assert [target.provider for target in rule.targets.all()] == [second, first]
        page = client.get("/admin/providers/routingrule/").content.decode()
        assert f"send it through {second.name}, then {first.name}" in page
        assert set(AuditEntry.objects.values_list("action", flat=True)) == {
            "routingrule.created",
            "routingrule.changed",
        }
        assert str(second.pk) in str(AuditEntry.objects.get(action="routingrule.changed").changes["targets"])

    @pytest.mark.parametrize(
        ("conditions", "text"),
        [
            ("not json", "Enter a valid JSON"),
            ('[{"field": "nose"}]', "Condition 1: field must be one of"),
            ('[{"field": "subject", "op": "matches", "values": ["("]}]', "Condition 1: "),
        ],
    )
    def test_a_wrong_condition_is_named(self, client, admin, conditions, text):
        assert text in client.post(ADD_RULE, self.form(conditions=conditions)).content.decode()
        assert not RoutingRule.objects.exists()

    def test_a_provider_of_another_tenant_is_refused(self, client, admin, globex):
        assert client.post(ADD_RULE, self.form(ProviderFactory(tenant=globex))).status_code == 200
        assert not RoutingRule.objects.exists()

    def test_an_operator_cannot_mix_tenants_either(self, client, operator, acme, globex):
        client.force_login(operator)
        answer = client.post(ADD_RULE, self.form(ProviderFactory(tenant=globex), tenant=str(acme.pk)))
        assert b"belongs to another tenant" in answer.content
        assert client.post(ADD_RULE, self.form(ProviderFactory(tenant=globex), tenant="")).status_code == 200
        assert not RoutingRule.objects.exists()

    @pytest.mark.parametrize("allowed", [True, False])
    def test_a_shared_provider_is_for_tenants_that_may_use_it(self, client, admin, acme, operator, allowed):
        acme.may_use_shared_providers = allowed
        acme.save()
        shared = ProviderFactory(tenant=None, name="shared one")
        assert ("shared one" in client.get(ADD_RULE).content.decode()) == allowed
        client.post(ADD_RULE, self.form(shared))
        assert RoutingRule.objects.exists() == allowed
        client.force_login(operator)
        answer = client.post(ADD_RULE, self.form(shared, tenant=str(acme.pk), name="by the operator"))
        assert (b"may not use shared providers" in answer.content) == (not allowed)

    def test_a_shared_provider_is_not_listed_to_tenants(self, client, admin, acme):
        acme.may_use_shared_providers = True
        acme.save()
        shared = ProviderFactory(tenant=None)
        assert client.get(page_of(shared)).status_code == 404


def test_the_page_shows_the_webhooks_address_and_what_is_missing(client, admin, acme, settings):
    """EVT-1."""
    settings.WEB_PUBLIC_URL = "https://mail.acme.example"
    provider = ProviderFactory(tenant=acme, type="postmark", config={"server_token": "t" * 20})
    address = f"https://mail.acme.example/webhooks/{provider.pk}/"
    page = client.get(page_of(provider)).content.decode()
    assert address in page
    assert "missing: Webhook password." in page
    provider.config = provider.config | {"webhook_password": "correct horse"}
    provider.save()
    page = client.get(page_of(provider)).content.decode()
    assert address in page
    assert "missing" not in page
    assert "correct horse" not in page


def test_an_address_whose_beginning_nobody_has_set_says_who_sets_it(client, admin, acme):
    provider = ProviderFactory(tenant=acme, type="postmark", config={"server_token": "t" * 20})
    page = client.get(page_of(provider)).content.decode()
    assert f"https://&lt;this server&gt;/webhooks/{provider.pk}/" in page
    assert "once the platform operator has set WEB_PUBLIC_URL" in page


def test_only_a_secret_that_is_stored_can_be_removed(client, admin, acme):
    """PRV-12."""
    provider = ProviderFactory(tenant=acme, type="postmark", config={"server_token": "t" * 20})
    assert "Remove: Webhook password" not in client.get(page_of(provider)).content.decode()
    provider.config = provider.config | {"webhook_password": "correct horse"}
    provider.save()
    assert "Remove: Webhook password" in client.get(page_of(provider)).content.decode()


def test_a_type_without_webhooks_shows_no_address(client, admin, smarthost):
    assert "/webhooks/" not in client.get(page_of(smarthost)).content.decode()
