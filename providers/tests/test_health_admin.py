"""The health of providers in the admin (PRV-10, SEC-5)."""

import re
from datetime import timedelta

import pytest
from django.urls import reverse
from django.utils import timezone

from accounts.models import AuditEntry
from accounts.tests.factories import UserFactory
from providers import health
from providers.models import HealthEvent, Provider
from providers.tests.factories import HealthEventFactory, ProviderFactory

pytestmark = pytest.mark.django_db
LIST = "/admin/providers/provider/"
FORM = {
    "name": "smarthost",
    "enabled": "on",
    "default_rank": "0",
    "retry_schedule": "",
    "config_host": "mx.example",
    "config_port": "587",
    "config_security": "starttls",
    "config_verify_certificate": "on",
    "config_idle_seconds": "30",
    "config_data_timeout": "120",
}


@pytest.fixture
def sign_in(client, acme):
    return lambda role: client.force_login(UserFactory(tenant=acme, role=role)) or client


@pytest.fixture
def smarthost(acme):
    config = {"host": "mx.example", "port": 587, "security": "starttls"}
    return ProviderFactory(tenant=acme, name="smarthost", type="smtp", config=config)


def page_of(provider):
    return reverse("admin:providers_provider_change", args=[provider.pk])


def button(provider):
    return reverse("admin:providers_provider_do", args=[provider.pk, "probe_now"])


def down(provider):
    for number in range(3):
        health.note_silence(provider, "connection <refused>", message_id=str(number))


def test_the_list_and_the_page_say_healthy_unhealthy_or_probing(sign_in, smarthost):
    client = sign_in("admin")
    assert ">healthy<" in client.get(LIST).content.decode()
    down(smarthost)
    for page in (LIST, page_of(smarthost)):
        shown = client.get(page).content.decode()
        assert re.search(r"unhealthy until 20[-0-9]+ [:0-9]+ UTC: ", shown)
        assert "connection &lt;refused&gt;" in shown
    Provider.objects.update(unhealthy_until=timezone.now() - timedelta(seconds=1))
    assert "probing (the next message" in client.get(LIST).content.decode()


@pytest.mark.parametrize("role", ["admin", "user"])
def test_the_page_shows_the_last_changes(sign_in, smarthost, role):
    for number in range(12):
        HealthEventFactory(provider=smarthost, reason=f"change {number:02}")
    shown = sign_in(role).get(page_of(smarthost)).content.decode()
    assert re.search(r" UTC unhealthy change 11", shown)
    assert "change 02" in shown
    assert "change 01" not in shown


def test_probe_now_lets_the_next_message_through_and_is_audited(sign_in, smarthost):
    down(smarthost)
    client = sign_in("admin")
    assert button(smarthost) in client.get(page_of(smarthost)).content.decode()
    client.post(button(smarthost))
    health.forget_all()
    assert health.admit(Provider.objects.get()).probe
    [entry] = AuditEntry.objects.all()
    assert (entry.action, entry.changes) == ("provider.probed", {"unhealthy_reason": ["connection <refused>", None]})


def test_probe_now_where_there_is_no_pause_does_and_records_nothing(sign_in, smarthost):
    client = sign_in("admin")
    assert button(smarthost) not in client.get(page_of(smarthost)).content.decode()
    answer = client.post(LIST, {"action": "probe_now", "_selected_action": str(smarthost.pk)}, follow=True)
    assert "There is no pause of smarthost to end." in answer.content.decode()
    assert not AuditEntry.objects.exists()


@pytest.mark.parametrize("role", ["user", "viewer"])
def test_probe_now_is_for_those_who_may_change_providers(sign_in, smarthost, role):
    down(smarthost)
    client = sign_in(role)
    assert client.post(button(smarthost)).status_code in (403, 404)
    assert button(smarthost) not in client.get(page_of(smarthost)).content.decode()
    client.post(LIST, {"action": "probe_now", "_selected_action": str(smarthost.pk)})
    assert Provider.objects.get().unhealthy_until > timezone.now()


def test_another_tenants_provider_is_not_probed(client, globex, smarthost):
    down(smarthost)
    client.force_login(UserFactory(tenant=globex, role="owner"))
    assert client.post(button(smarthost)).status_code == 404
    client.post(LIST, {"action": "probe_now", "_selected_action": str(smarthost.pk)})
    assert Provider.objects.get().unhealthy_until > timezone.now()


def test_saving_the_row_closes_it_at_once_and_writes_the_event(sign_in, smarthost):
    down(smarthost)
    answer = sign_in("admin").post(page_of(smarthost), FORM)
    assert answer.status_code == 302
    row = Provider.objects.get()
    assert (row.unhealthy_until, row.unhealthy_reason) == (None, "")
    assert list(HealthEvent.objects.order_by("pk").values_list("state", flat=True)) == ["unhealthy", "healthy"]
    health.forget_all()
    assert health.admit(row) == health.Admission(allowed=True)


def test_a_viewer_reads_the_events_without_a_link_to_the_provider(sign_in, smarthost):
    down(smarthost)
    event, client = HealthEvent.objects.get(), sign_in("viewer")
    listed = client.get("/admin/providers/healthevent/").content.decode()
    page = client.get(reverse("admin:providers_healthevent_change", args=[event.pk])).content.decode()
    for shown in (listed, page):
        assert "smarthost" in shown
        assert page_of(smarthost) not in shown
