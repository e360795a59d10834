"""The dashboard: figures equal to the rows, each with a way to them, for those only who may see them (ADM-1, ADM-3)."""

import re
from html import unescape

import pytest
from django.core.cache import cache
from django.urls import reverse

from accounts.tests.factories import UserFactory
from delivery.models import DeliveryLog
from delivery.tests.factories import DeliveryLogFactory, EventFactory, MessageFactory
from providers.tests.factories import ProviderFactory

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _no_figures_remembered():
    cache.clear()


@pytest.fixture
def mail(acme_account, globex_account):
    """Of acme: four delivered, one failed, two dead letters, one held, one queued; of globex: three delivered."""
    for account, statuses in (
        (acme_account, ["delivered"] * 4 + ["failed", "dlq", "dlq"]),
        (globex_account, ["delivered"] * 3),
    ):
        provider = ProviderFactory(tenant=account.tenant, name=f"relay of {account.tenant.slug}", config={})
        for status in statuses:
            message = MessageFactory(account=account, status=status)
            EventFactory(message=message)
            error = "" if status == "delivered" else "550 5.1.1"
            DeliveryLogFactory(message=message, provider=provider, status=status, error_code=error, duration_ms=100)
    for status in ("held", "queued"):
        EventFactory(message=MessageFactory(account=acme_account, status=status))


def signed_in(client, acme, operator, role):
    client.force_login(operator if role == "operator" else UserFactory(tenant=acme, role=role))
    return client


def numbers(page):
    """Name → value and address of every number on the page."""
    cards = re.findall(r'<(a|div) class="card number-card[^"]*"(?: href="([^"]*)")?>(.*?)</\1>', page.text, re.DOTALL)
    told = {}
    for _, link, inner in cards:
        name, value = (re.search(rf'number-{part}">(.*?)<', inner).group(1) for part in ("name", "value"))
        told[name] = (value, unescape(link))
    return told


def test_figures_are_those_of_the_rows_of_the_own_tenant(client, acme, operator, mail):
    told = numbers(signed_in(client, acme, operator, "user").get("/admin/"))
    assert {name: value for name, (value, _) in told.items()} == {
        "Accepted": "9",
        "Sent": "7",
        "Delivered": "4",
        "Delivery rate": "57.1 %",
        "Failed": "3",
        "Error rate": "42.9 %",
        "Latency, mean": "100 ms",
        "Latency, p95": told["Latency, p95"][0],
        "Waiting": "1",
        "Oldest is late by": told["Oldest is late by"][0],
        "On hold": "1",
        "Dead letters": "2",
    }


def test_operators_see_all_tenants_and_those_with_the_most_mail(client, acme, operator, mail):
    page = signed_in(client, acme, operator, "operator").get("/admin/")
    assert numbers(page)["Accepted"][0] == "12"
    assert page.text.index("Acme</a>") < page.text.index("Globex</a>")


@pytest.mark.parametrize("role", ["operator", "owner", "user", "viewer"])
def test_every_number_leads_to_as_many_rows(role, client, acme, operator, mail):
    told = numbers(signed_in(client, acme, operator, role).get("/admin/"))
    for name in ("Accepted", "Sent", "Delivered", "Failed", "Waiting", "On hold", "Dead letters"):
        value, link = told[name]
        if not link:
            assert role == "viewer", name
            continue
        page = client.get(link)
        assert page.status_code == 200, link
        assert page.context["cl"].queryset.count() == int(value), name


def test_a_viewer_is_led_to_nothing_but_logs_and_events(client, acme, operator, mail):
    page = signed_in(client, acme, operator, "viewer").get("/admin/")
    assert (
        re.findall(r'href="/admin/(?:providers/provider|delivery/(?:message|deadletter)|accounts/account)/', page.text)
        == []
    )
    assert "relay of" not in page.text
    assert numbers(page)["Accepted"][0] == "9"


@pytest.mark.parametrize(
    "query", ["range=1h", "range=7d", "range=30d", "range=custom&from=2026-01-01&until=2026-01-03"]
)
def test_there_are_spans_to_choose_from(query, client, acme, operator, mail):
    told = numbers(signed_in(client, acme, operator, "user").get(f"/admin/?{query}"))
    assert told["Accepted"][0] == ("0" if "custom" in query else "9")


@pytest.mark.parametrize(
    "query", ["range=custom&from=x&until=%00", "range=custom", "range=custom&from=2026-01-03&until=2026-01-01"]
)
def test_a_span_that_is_none_is_told_and_the_usual_one_shown(query, client, acme, operator, mail):
    page = signed_in(client, acme, operator, "user").get(f"/admin/?{query}")
    assert 'role="alert"' in page.text
    assert numbers(page)["Accepted"][0] == "9"


def test_a_new_tenant_is_led_through_its_first_steps_until_there_is_mail(client, acme, operator, acme_account):
    client = signed_in(client, acme, operator, "owner")
    page = client.get("/admin/").text
    assert f'href="{reverse("admin:providers_provider_add")}"' in page
    assert page.count('badge-good">done') == 1  # the account
    provider = ProviderFactory(tenant=acme, config={})
    page = client.get("/admin/").text
    assert page.count('badge-good">done') == 2
    assert reverse("admin:providers_provider_trial", args=[provider.pk]) in page
    MessageFactory(account=acme_account)
    assert "First steps" not in client.get("/admin/").text


def test_a_viewer_has_no_first_steps(client, acme, operator):
    assert "First steps" not in signed_in(client, acme, operator, "viewer").get("/admin/").text


def test_the_dashboard_asks_the_database_no_more_often_when_there_is_more_mail(
    client, acme, operator, acme_account, mail, django_assert_max_num_queries
):
    client = signed_in(client, acme, operator, "owner")
    client.get("/admin/")
    message = MessageFactory(account=acme_account)
    DeliveryLogFactory.create_batch(20, message=message, provider=DeliveryLog.objects.first().provider)
    cache.clear()
    with django_assert_max_num_queries(60):
        client.get("/admin/")
