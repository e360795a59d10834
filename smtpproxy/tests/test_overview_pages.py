"""Analytics, live tail and search: what is there of the own tenant, for those who may see it (ADM-1, ADM-3, ADM-6)."""

import csv
import io
import re
import time
from html import unescape

import pytest
from django.core.cache import cache
from django.urls import reverse

from accounts.tests.factories import UserFactory
from delivery.models import Recipient
from delivery.tests.factories import DeliveryLogFactory, EventFactory, MessageFactory, SuppressionFactory
from providers.tests.factories import ProviderFactory
from smtpproxy.dashboard import tail

pytestmark = pytest.mark.django_db
ANALYTICS, TAIL, FEED, FIND, PALETTE = (
    "/admin/analytics/",
    "/admin/live/",
    "/admin/live/feed/",
    "/admin/find/",
    "/admin/search/",
)


@pytest.fixture(autouse=True)
def _at_once(monkeypatch):
    cache.clear()
    monkeypatch.setattr(tail, "SETTLED", -1.0)


@pytest.fixture
def mail(acme_account, globex_account):
    """One delivered and one failed message of each tenant."""
    found = {}
    for account in (acme_account, globex_account):
        slug = account.tenant.slug
        provider = ProviderFactory(tenant=account.tenant, name=f"relay {slug}", config={})
        for status in ("delivered", "failed"):
            message = MessageFactory(
                account=account, status=status, subject=f"Invoice {slug} {status}", recipients=[f"ann@{slug}.net"]
            )
            Recipient.objects.filter(message=message).update(
                provider=provider, provider_message_id=f"pm-{slug}-{status}"
            )
            EventFactory(message=message)
            code = "" if status == "delivered" else "550 5.1.1"
            DeliveryLogFactory(message=message, provider=provider, status=status, error_code=code, duration_ms=100)
            found[f"{slug} {status}"] = message
    return found


@pytest.fixture
def as_role(client, acme, operator):
    def signed_in(role):
        client.force_login(operator if role == "operator" else UserFactory(tenant=acme, role=role))
        return client

    return signed_in


@pytest.mark.parametrize("role", ["owner", "viewer", "operator"])
def test_every_figure_of_analytics_leads_to_as_many_rows(role, as_role, mail):
    client = as_role(role)
    cells = re.findall(r'<td class="number"><a href="([^"]+)">(\d+)</a>', client.get(ANALYTICS).text)
    assert len(cells) >= 8
    for link, value in cells:
        assert client.get(unescape(link)).context["cl"].queryset.count() == int(value), link


def test_analytics_break_errors_and_senders_down(as_role, mail):
    page = as_role("owner").get(ANALYTICS).text
    assert "550 5.1.1" in page
    assert "relay acme" in page
    assert "crm@acme" in page
    assert "globex" not in page.lower()
    assert "crm@acme" not in as_role("viewer").get(ANALYTICS).text


def test_each_table_is_had_as_csv(as_role, mail):
    answer = as_role("user").get(f"{ANALYTICS}?range=24h&csv=errors")
    assert answer["Content-Type"].startswith("text/csv")
    rows = list(csv.reader(io.StringIO(answer.text)))
    assert rows[1] == ["550 5.1.1", "relay acme", "1", "50.0 %"]
    assert as_role("user").get(f"{ANALYTICS}?csv=nothing").status_code == 404


def test_the_feed_tells_of_the_own_tenant_and_then_of_what_is_newer(as_role, mail, acme_account):
    client = as_role("user")
    first = client.get(FEED).json()
    assert {row["subject"] for row in first["rows"]} == {"Invoice acme delivered", "Invoice acme failed"}
    assert client.get(FEED, {"after": first["after"]}).json()["rows"] == []
    time.sleep(0.002)  # keys are times in milliseconds
    event = EventFactory(message=MessageFactory(account=acme_account, subject="Later"), type="delivered")
    told = client.get(FEED, {"after": first["after"]}).json()
    assert [(row["subject"], row["type"]) for row in told["rows"]] == [("Later", "Delivered")]
    assert told["after"] == str(event.pk)


def test_the_feed_is_narrowed_by_what_account_and_text(as_role, mail, acme_account, globex_account):
    client = as_role("operator")

    def subjects(**where):
        return {row["subject"] for row in client.get(FEED, where).json()["rows"]}

    assert subjects(account=acme_account.pk) == {"Invoice acme delivered", "Invoice acme failed"}
    assert subjects(text="GLOBEX fail") == {"Invoice globex failed"}
    assert subjects(type="bounced") == set()
    assert client.get(FEED, {"after": "x", "account": "\x00"}).status_code == 200


def test_a_viewer_learns_no_subject_from_the_feed_not_even_by_asking_for_it(as_role, mail):
    client = as_role("viewer")
    rows = client.get(FEED).json()["rows"]
    assert len(rows) == 2
    assert {(row["subject"], row["from"], row["account"], row["link"]) for row in rows} == {("", "", "", "")}
    assert client.get(FEED, {"text": "no such subject"}).json()["rows"] == rows


@pytest.mark.parametrize("term", ["ann@acme.net", "ANN@acme.net", "invoice acme", "pm-acme-delivered", "<id>", "id"])
def test_messages_are_found_by_what_people_have_in_hand(term, as_role, mail):
    message = mail["acme delivered"]
    term = {"<id>": message.message_id_header, "id": str(message.pk)}.get(term, term)
    for page in (as_role("user").get(FIND, {"q": term}), as_role("user").get(PALETTE, {"s": term, "extended": 1})):
        assert reverse("admin:delivery_message_change", args=[message.pk]) in page.text


def test_the_search_finds_accounts_and_suppressed_addresses(as_role, mail, acme, acme_account):
    row = SuppressionFactory(tenant=acme, address="Gone@outside.example")
    assert (
        reverse("admin:delivery_suppression_change", args=[row.pk])
        in as_role("user").get(FIND, {"q": "gone@outside.example"}).text
    )
    assert (
        reverse("admin:accounts_account_change", args=[acme_account.pk])
        in as_role("user").get(FIND, {"q": "crm@"}).text
    )


@pytest.mark.parametrize("role", ["owner", "viewer"])
def test_nothing_of_another_tenant_is_found(role, as_role, mail):
    message, client = mail["globex delivered"], as_role(role)
    terms = [
        "ann@globex.net",
        "invoice globex",
        "pm-globex-delivered",
        message.message_id_header,
        str(message.pk),
        "erp@",
    ]
    for term in terms:
        assert "<th scope=" not in client.get(FIND, {"q": term}).text, term
        link = reverse("admin:delivery_message_change", args=[message.pk])
        assert link not in client.get(PALETTE, {"s": term}).text, term


def test_a_viewer_finds_no_message_of_the_own_tenant_either(as_role, mail):
    client = as_role("viewer")
    assert "<th scope=" not in client.get(FIND, {"q": "invoice acme"}).text
    assert "Messages" not in client.get(PALETTE, {"s": "messages"}).text
    assert reverse("admin:delivery_event_changelist") in client.get(PALETTE, {"s": "event"}).text


@pytest.mark.parametrize("page", [ANALYTICS, TAIL, FEED, FIND])
def test_nobody_gets_there_without_signing_in(page, client):
    assert client.get(page)["Location"].startswith("/admin/login/")


@pytest.mark.parametrize("page", ["/admin/", ANALYTICS, TAIL, FIND])
def test_pages_bring_no_script_within_them(page, as_role, mail):
    text = as_role("owner").get(page).text
    assert not re.findall(r"<script(?![^>]*\bsrc=)(?![^>]*application/json)[^>]*>", text)
    assert not re.findall(r"\son\w+=", text)
