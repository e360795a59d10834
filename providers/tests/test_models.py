"""What the database itself refuses, and what the models check before it comes to that: PRV-12, RTE-2, RTE-4."""

import pytest
from django.core.exceptions import ValidationError
from django.core.serializers import deserialize, serialize
from django.db import IntegrityError, connection, transaction
from django.db.models import ProtectedError

from accounts.crypto import DecryptionError
from accounts.tests.factories import TenantFactory
from providers import connections
from providers.exceptions import Misconfigured
from providers.models import Provider, RoutingRule, RoutingTarget
from providers.tests.factories import ProviderFactory, RoutingRuleFactory, RoutingTargetFactory

pytestmark = pytest.mark.django_db


def refused(constraint, model, **fields):
    with (
        pytest.raises(IntegrityError, match=constraint if connection.vendor == "postgresql" else None),
        transaction.atomic(),
    ):
        model.objects.bulk_create([model(**fields)])


def test_a_provider_name_is_taken_once_in_a_tenant_and_once_among_the_shared(acme, globex):
    ProviderFactory(tenant=acme, name="one")
    ProviderFactory(tenant=None, name="one")
    ProviderFactory(tenant=globex, name="one")
    for constraint, tenant in (("in_tenant", acme), ("among_shared", None)):
        refused(f"provider_name_unique_{constraint}", Provider, tenant=tenant, name="one", type="memory", config={})


def test_an_unknown_action_is_refused(acme):
    refused("routing_rule_action_known", RoutingRule, tenant=acme, name="x", priority=1, action="teleport")


def test_a_provider_is_a_target_of_a_rule_once(acme):
    target = RoutingTargetFactory(rule__tenant=acme)
    refused("routing_target_provider_once", RoutingTarget, rule=target.rule, provider=target.provider, position=9)


def test_a_target_without_weight_is_refused(acme):
    rule, provider = RoutingRuleFactory(tenant=acme), ProviderFactory(tenant=acme)
    refused("routing_target_weight_positive", RoutingTarget, rule=rule, provider=provider, weight=0)


def test_a_provider_that_a_rule_uses_is_not_deleted():
    target = RoutingTargetFactory()
    with pytest.raises(ProtectedError):
        target.provider.delete()


def test_credentials_are_encrypted_in_the_database_and_readable_through_the_model(acme):
    config = {"host": "mx.example", "password": "sesame", "port": 587}
    provider = ProviderFactory(tenant=acme, config=config)
    with connection.cursor() as cursor:
        cursor.execute("SELECT config FROM providers_provider")
        (raw,) = cursor.fetchone()
    assert not any(text in raw for text in ("sesame", "mx.example", "password"))
    assert Provider.objects.get(pk=provider.pk).config == config


def test_a_backup_by_dumpdata_holds_no_secret_in_the_clear_and_loads_again(acme):
    provider = ProviderFactory(tenant=acme, config={"password": "sesame"})
    dumped = serialize("json", [provider])
    assert "sesame" not in dumped
    provider.delete()
    for row in deserialize("json", dumped):
        row.save()
    assert Provider.objects.get().config == {"password": "sesame"}


def test_credentials_survive_a_rotation_of_keys_and_are_lost_loudly_without_them(acme, settings):
    provider = ProviderFactory(tenant=acme, config={"password": "sesame"})
    old, new = settings.CREDENTIAL_KEYS, "T" * 43 + "="
    settings.CREDENTIAL_KEYS = [new, *old]
    provider = Provider.objects.get(pk=provider.pk)
    assert provider.config == {"password": "sesame"}
    settings.CREDENTIAL_KEYS = [new]
    with pytest.raises(DecryptionError):
        Provider.objects.get(pk=provider.pk)
    settings.CREDENTIAL_KEYS = [new, *old]
    provider.save()
    settings.CREDENTIAL_KEYS = [new]
    assert Provider.objects.get(pk=provider.pk).config == {"password": "sesame"}


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"type": "nonsense"}, "type"),
        ({"type": "memory"}, "type"),
        ({"type": "smtp", "config": {}}, "config"),
        ({"type": "smtp", "config": {"host": "mx", "nose": 1}}, "config"),
        ({"type": "smtp", "config": {"host": "mx", "username": "u"}}, "config"),
        ({"type": "file", "config": {"directory": "relative"}}, "config"),
        ({"type": "smtp", "config": {"host": "mx"}, "retry_schedule": [0]}, "retry_schedule"),
        ({"type": "smtp", "config": {"host": "mx"}, "retry_schedule": [1.5]}, "retry_schedule"),
        ({"type": "smtp", "config": {"host": "mx"}, "retry_schedule": "soon"}, "retry_schedule"),
        ({"type": "smtp", "config": {"host": "mx"}, "name": ""}, "name"),
    ],
)
def test_a_provider_that_cannot_work_is_refused_with_the_field_named(acme, fields, field):
    with pytest.raises(ValidationError) as caught:
        ProviderFactory.build(tenant=acme, **fields).full_clean()
    assert field in caught.value.message_dict


def test_an_error_about_settings_names_no_secret(acme):
    provider = ProviderFactory.build(tenant=acme, type="smtp", config={"password": "sesame", "port": "sesame"})
    with pytest.raises(ValidationError) as caught:
        provider.full_clean()
    assert "sesame" not in str(caught.value)


def test_a_target_belongs_to_the_tenant_of_its_rule_or_is_shared_with_it(acme, globex):
    rule = RoutingRuleFactory(tenant=acme)
    own, foreign, shared = (ProviderFactory(tenant=tenant) for tenant in (acme, globex, None))
    RoutingTarget(rule=rule, provider=own).full_clean()
    for provider in (foreign, shared):
        with pytest.raises(ValidationError):
            RoutingTarget(rule=rule, provider=provider).full_clean()
    acme.may_use_shared_providers = True
    acme.save()
    RoutingTarget(rule=RoutingRule.objects.get(), provider=shared).full_clean()


def test_a_row_says_its_name(acme):
    target = RoutingTargetFactory(rule__tenant=TenantFactory(), provider__name="primary", rule__name="invoices")
    assert (str(target), str(target.rule), str(target.provider)) == ("0: primary", "invoices", "primary")


def test_only_a_shared_provider_may_act_with_the_servers_own_credentials(acme):
    """A tenant's row without keys would send with the rights of the platform (PRV-12)."""
    config = {"region": "eu-central-1", "base_url": "http://127.0.0.1:9"}
    ProviderFactory.build(tenant=None, name="Ours", type="ses", config=config).full_clean()
    with pytest.raises(ValidationError) as caught:
        ProviderFactory.build(tenant=acme, name="Theirs", type="ses", config=config).full_clean()
    assert "own AWS credentials" in str(caught.value)
    smuggled = ProviderFactory(tenant=acme, type="ses", config=config)  # past the form
    with pytest.raises(Misconfigured, match="own AWS credentials"):
        connections.backend_for(smuggled)
    connections.backend_for(ProviderFactory(tenant=None, name="Ours", type="ses", config=config))
