"""Quotas in the admin: LIM-1."""

import re
from datetime import date

import pytest
from django.urls import reverse

from accounts import quotas
from accounts.models import AuditEntry, QuotaWarning
from accounts.tests.factories import UserFactory

pytestmark = [pytest.mark.django_db, pytest.mark.redis]


def page(row):
    return reverse(f"admin:accounts_{row._meta.model_name}_change", args=[row.pk])


def values(client, row, **changed):
    """What the browser would send of a row's page, with some fields changed."""
    form = client.get(page(row)).context["adminform"].form
    shown = {name: form[name].value() for name in form.fields}
    shown = {name: form[name].field.prepare_value(value) for name, value in shown.items()}
    return {name: value for name, value in {**shown, **changed}.items() if value not in (None, False)}


@pytest.fixture
def sign_in(client):
    def signed_in_as(user):
        client.force_login(user)
        return client

    return signed_in_as


def test_an_owner_sees_the_tenants_quotas_and_cannot_raise_them(acme, sign_in):
    acme.messages_per_month = 1000
    acme.save()
    client = sign_in(UserFactory(tenant=acme))
    assert "0 of 1,000 this month (0 %)" in client.get(page(acme)).content.decode()
    sent = values(client, acme, messages_per_month="5000", name="Acme Ltd")
    assert client.post(page(acme), sent).status_code == 302
    acme.refresh_from_db()
    assert (acme.name, acme.messages_per_month) == ("Acme Ltd", 1000)


def test_an_operator_sets_a_tenants_quotas_with_an_audit_entry(acme, operator, sign_in):
    client = sign_in(operator)
    assert client.post(page(acme), values(client, acme, messages_per_month="5000")).status_code == 302
    acme.refresh_from_db()
    assert acme.messages_per_month == 5000
    assert AuditEntry.objects.get(action="tenant.changed").changes == {"messages_per_month": [None, 5000]}


def test_an_owner_sets_an_accounts_quotas(acme, acme_account, sign_in):
    client = sign_in(UserFactory(tenant=acme))
    sent = values(client, acme_account, messages_per_minute="10", messages_per_hour="100")
    assert client.post(page(acme_account), sent).status_code == 302
    acme_account.refresh_from_db()
    assert (acme_account.messages_per_minute, acme_account.messages_per_hour) == (10, 100)


def test_a_quota_of_none_at_all_is_refused_in_favour_of_suspending(acme, acme_account, sign_in):
    client = sign_in(UserFactory(tenant=acme))
    response = client.post(page(acme_account), values(client, acme_account, messages_per_minute="0"))
    assert "greater than or equal to 1" in response.content.decode()


def test_what_is_used_is_shown_on_the_page_and_in_the_list(acme, acme_account, sign_in):
    acme_account.messages_per_minute, acme_account.messages_per_month = 10, 8
    acme_account.save()
    quotas.charge([acme_account] * 4)
    client = sign_in(UserFactory(tenant=acme, role="user"))
    shown = client.get(page(acme_account)).content.decode()
    assert "4 of 10 in the last minute (40 %)" in shown
    assert "4 of 8 this month (50 %)" in shown
    assert "50 %" in client.get(reverse("admin:accounts_account_changelist")).content.decode()


def test_a_store_that_is_away_leaves_the_pages_usable(acme, acme_account, sign_in, settings):
    acme_account.messages_per_month = 8
    acme_account.save()
    client = sign_in(UserFactory(tenant=acme))
    settings.SHARED_STATE_URL = "redis://127.0.0.1:9/0"
    assert "cannot be looked up now" in client.get(page(acme_account)).content.decode()
    assert client.get(reverse("admin:accounts_account_changelist")).status_code == 200
    assert client.post(page(acme_account), values(client, acme_account, messages_per_month="9")).status_code == 302


def test_a_quota_that_is_set_again_counts_the_month_anew(acme, acme_account, sign_in):
    acme_account.messages_per_month = 8
    acme_account.save()
    quotas.charge([acme_account] * 4)  # no rows came of them
    client = sign_in(UserFactory(tenant=acme))
    client.post(page(acme_account), values(client, acme_account, messages_per_month="9"))
    acme_account.refresh_from_db()
    assert [usage.used for usage in quotas.usages(acme_account)] == [0]


def test_another_tenants_usage_is_not_found(acme, globex_account, sign_in):
    client = sign_in(UserFactory(tenant=acme))
    assert client.get(page(globex_account)).status_code == 404
    assert client.get(page(globex_account.tenant)).status_code == 404


def test_the_month_of_a_warning_is_a_month(acme, sign_in):
    QuotaWarning.objects.create(tenant=acme, month=date(2026, 11, 1), percent=80, used=8, most=10)
    listed = sign_in(UserFactory(tenant=acme)).get(reverse("admin:accounts_quotawarning_changelist"))
    assert re.search(r"<td[^>]*field-month_told[^>]*>\s*2026-11\s*</td>", listed.content.decode())
