"""What deliveries and acceptance remember is dropped when it changes, whatever its time to live: AMQP-4."""

import uuid

import pytest

from accounts import changes
from accounts.changes import Change
from accounts.models import Account
from delivery import caps, intake, outbox, routing
from delivery.models import QueueSetting, Webhook
from delivery.tests.factories import WebhookFactory
from providers import connections
from providers.models import Provider
from providers.tests.factories import ProviderFactory, RoutingRuleFactory

pytestmark = pytest.mark.django_db
FOR_EVER = 1e9


@pytest.fixture(autouse=True)
def _nothing_grows_old(monkeypatch):
    monkeypatch.setattr(intake, "ACCOUNT_SECONDS", FOR_EVER)
    monkeypatch.setattr(routing, "CACHE_SECONDS", FOR_EVER)
    monkeypatch.setattr(outbox, "REMEMBERED", FOR_EVER)
    monkeypatch.setattr(caps, "KEEP", FOR_EVER)
    routing.forget()
    yield
    routing.forget()


def rules(tenant):
    return [rule.name for rule in routing.table_for(tenant).rules]


def test_rules_and_providers_are_read_anew_for_their_tenant_alone(acme, globex, django_assert_num_queries):
    rule = RoutingRuleFactory(tenant=acme, name="before")
    assert rules(acme) == ["before"]
    assert rules(globex) == []
    type(rule).objects.update(name="after")
    assert rules(acme) == ["before"]
    for kind, tenant_id in (("routing_rule", acme.pk), ("routing_target", acme.pk), ("provider", None)):
        changes.hear(Change(kind, tenant_id, uuid.uuid4()))
        assert rules(acme) == ["after"]
        type(rule).objects.update(name=kind)
        changes.hear(Change(kind, tenant_id, uuid.uuid4()))
        assert rules(acme) == [kind]
        type(rule).objects.update(name="after")
    rules(acme), rules(globex)
    changes.hear(Change("routing_rule", acme.pk, rule.pk))
    with django_assert_num_queries(0):
        rules(globex)


def test_what_was_read_while_it_changed_is_not_kept(acme, monkeypatch):
    load = routing.load

    def load_as_it_changes(tenant):
        found = load(tenant)
        RoutingRuleFactory(tenant=acme, name="new")
        changes.hear(Change("routing_rule", acme.pk, uuid.uuid4()))
        return found

    monkeypatch.setattr(routing, "load", load_as_it_changes)
    assert rules(acme) == []
    monkeypatch.setattr(routing, "load", load)
    assert rules(acme) == ["new"]


@pytest.mark.parametrize("kind", ["account", "tenant"])
def test_an_account_is_read_anew_when_it_or_its_tenant_changes(acme_account, kind):
    assert intake._accounts({acme_account.pk})[acme_account.pk].status == "active"
    Account.objects.update(status="suspended")
    assert intake._accounts({acme_account.pk})[acme_account.pk].status == "active"
    row = acme_account.pk if kind == "account" else acme_account.tenant_id
    changes.hear(Change(kind, acme_account.tenant_id, row))
    assert intake._accounts({acme_account.pk})[acme_account.pk].status == "suspended"


def test_a_webhook_that_is_new_is_told_at_once(acme):
    assert acme.pk not in outbox._subscriptions()
    webhook = WebhookFactory(tenant=acme)
    assert acme.pk not in outbox._subscriptions()
    changes.hear(Change("webhook", acme.pk, webhook.pk))
    assert acme.pk in outbox._subscriptions()
    Webhook.objects.update(enabled=False)
    changes.hear(changes.EVERYTHING)
    assert acme.pk not in outbox._subscriptions()


def test_a_queue_that_is_paused_is_paused_at_once():
    assert not caps.paused("outbound.deliver")
    QueueSetting.objects.filter(name="outbound.deliver").update(paused=True)
    changes.hear(Change("queue_setting", None, "whatever"))
    assert caps.paused("outbound.deliver")


def test_connections_of_a_provider_that_changed_are_closed(acme, tmp_path):
    provider = ProviderFactory(tenant=acme)
    other = ProviderFactory(tenant=acme)
    first, beside = connections.backend_for(provider), connections.backend_for(other)
    assert connections.backend_for(provider) is first
    changes.hear(Change("provider", acme.pk, provider.pk))
    assert provider.pk not in connections._live
    assert connections.backend_for(Provider.objects.get(pk=provider.pk)) is not first
    assert connections.backend_for(other) is beside
    connections.forget_all()
