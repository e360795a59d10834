"""Who may do what in the admin: the table of SEC-1, for every model, in the own tenant and in another (SEC-2)."""

import pytest
from django.contrib import admin
from django.urls import reverse

from accounts.models import Tenant, User
from accounts.tests.factories import (
    AccountFactory,
    ApiKeyFactory,
    AuditEntryFactory,
    QuotaWarningFactory,
    UserFactory,
)
from delivery.models import BulkAction, DeadLetter, Recipient
from delivery.tests.factories import (
    ArchiveCopyFactory,
    DeliveryLogFactory,
    EventFactory,
    MessageFactory,
    NoticeFactory,
    RefusedSessionFactory,
    SuppressionFactory,
    WebhookDeliveryFactory,
    WebhookFactory,
)
from providers.tests.factories import HealthEventFactory, ProviderFactory, RoutingRuleFactory

pytestmark = pytest.mark.django_db

# V view, A add, C change, D delete
TABLE = {
    "accounts.tenant": {"owner": "VC", "admin": "VC", "user": "V", "viewer": "V", "operator": "VACD"},
    "accounts.user": {"owner": "VACD", "admin": "VACD", "user": "V", "viewer": "", "operator": "VACD"},
    "accounts.account": {"owner": "VACD", "admin": "V", "user": "V", "viewer": "", "operator": "VACD"},
    "accounts.apikey": {"owner": "VAD", "admin": "V", "user": "V", "viewer": "", "operator": "VAD"},
    "accounts.quotawarning": {"owner": "V", "admin": "V", "user": "V", "viewer": "", "operator": "V"},
    "accounts.auditentry": {"owner": "V", "admin": "V", "user": "", "viewer": "", "operator": "V"},
    "providers.provider": {"owner": "VACD", "admin": "VACD", "user": "V", "viewer": "", "operator": "VACD"},
    "providers.healthevent": {"owner": "V", "admin": "V", "user": "V", "viewer": "V", "operator": "V"},
    "providers.routingrule": {"owner": "VACD", "admin": "VACD", "user": "V", "viewer": "", "operator": "VACD"},
    "delivery.message": {"owner": "V", "admin": "V", "user": "V", "viewer": "", "operator": "V"},
    "delivery.deadletter": {"owner": "V", "admin": "V", "user": "V", "viewer": "", "operator": "V"},
    "delivery.bulkaction": {"owner": "V", "admin": "V", "user": "V", "viewer": "", "operator": "V"},
    "delivery.archivecopy": {"owner": "V", "admin": "V", "user": "V", "viewer": "", "operator": "V"},
    "delivery.recipient": {"owner": "V", "admin": "V", "user": "V", "viewer": "", "operator": "V"},
    "delivery.deliverylog": {"owner": "V", "admin": "V", "user": "V", "viewer": "V", "operator": "V"},
    "delivery.event": {"owner": "V", "admin": "V", "user": "V", "viewer": "V", "operator": "V"},
    "delivery.refusedsession": {"owner": "V", "admin": "V", "user": "V", "viewer": "V", "operator": "V"},
    "delivery.notice": {"owner": "V", "admin": "V", "user": "V", "viewer": "", "operator": "V"},
    "delivery.webhook": {"owner": "VACD", "admin": "VACD", "user": "V", "viewer": "", "operator": "VACD"},
    "delivery.webhookdelivery": {"owner": "V", "admin": "V", "user": "V", "viewer": "", "operator": "V"},
    "delivery.suppression": {"owner": "VAD", "admin": "VAD", "user": "V", "viewer": "", "operator": "VAD"},
}
PLATFORM = {"delivery.queuesetting"}
"""Models with rows of no tenant; who may see them is tested with each."""
ROLES = ("owner", "admin", "user", "viewer", "operator")


def rows_of(tenant):
    """One row of every model, all of one tenant."""
    account = AccountFactory(tenant=tenant, username=f"marker@{tenant.slug}")
    message = MessageFactory(account=account, subject=f"Subject of {tenant.slug}", recipients=[])
    provider = ProviderFactory(tenant=tenant, name=f"provider of {tenant.slug}", type="smtp", config={"host": "mx"})
    return {
        "accounts.tenant": tenant,
        "accounts.user": UserFactory(tenant=tenant, role="viewer", email=f"marker@{tenant.slug}.example"),
        "accounts.account": account,
        "accounts.apikey": ApiKeyFactory(account=account),
        "accounts.quotawarning": QuotaWarningFactory(account=account),
        "accounts.auditentry": AuditEntryFactory(tenant=tenant, actor_label=f"auditor of {tenant.slug}"),
        "providers.provider": provider,
        "providers.healthevent": HealthEventFactory(provider=provider),
        "providers.routingrule": RoutingRuleFactory(tenant=tenant, providers=[provider]),
        "delivery.message": message,
        "delivery.deadletter": DeadLetter.objects.get(
            pk=MessageFactory(account=account, status="dlq", subject=f"Dead of {tenant.slug}", recipients=[]).pk
        ),
        "delivery.bulkaction": BulkAction.objects.create(
            tenant=tenant, actor_label=f"{tenant.slug} operator", action="hold", filters={"account": str(account.pk)}
        ),
        "delivery.recipient": Recipient.objects.create(
            message=message, address=f"someone@{tenant.slug}.example", updated_at=message.accepted_at
        ),
        "delivery.deliverylog": DeliveryLogFactory(message=message, provider=provider),
        "delivery.event": EventFactory(message=message),
        "delivery.archivecopy": ArchiveCopyFactory(message=message, subject=f"Copy of {tenant.slug}"),
        "delivery.refusedsession": RefusedSessionFactory(tenant=tenant, username=f"refused@{tenant.slug}"),
        "delivery.notice": NoticeFactory(message=message, text=f"told {tenant.slug}"),
        "delivery.webhook": WebhookFactory(tenant=tenant, name=f"webhook of {tenant.slug}"),
        "delivery.webhookdelivery": WebhookDeliveryFactory(
            webhook__tenant=tenant, webhook__name=f"other of {tenant.slug}", event=EventFactory(message=message)
        ),
        "delivery.suppression": SuppressionFactory(tenant=tenant, address=f"gone@{tenant.slug}.example"),
    }


@pytest.fixture
def sign_in(client, acme, operator):
    def signed_in_as(role):
        client.force_login(operator if role == "operator" else UserFactory(tenant=acme, role=role))
        return client

    return signed_in_as


def url(model, view, row=None):
    return reverse(f"admin:{model.replace('.', '_')}_{view}", args=[row.pk] if row else [])


def button(model, row, action):
    return reverse(f"admin:{model.replace('.', '_')}_do", args=[row.pk, action])


def test_every_model_of_the_admin_is_in_the_table():
    assert {model._meta.label_lower for model in admin.site._registry} == set(TABLE) | PLATFORM


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("model", TABLE)
def test_a_role_does_in_its_own_tenant_what_the_table_says_and_nothing_else(model, role, acme, sign_in):
    row, letters, client = rows_of(acme)[model], TABLE[model][role], sign_in(role)
    add = url(model, "add") + ("?type=smtp" if model == "providers.provider" else "")
    found = {
        "V": (client.get(url(model, "changelist")).status_code, client.get(url(model, "change", row)).status_code),
        "A": (client.get(add).status_code, client.post(add, {}).status_code),
        "C": (client.post(url(model, "change", row), {}).status_code,),
        "D": (client.get(url(model, "delete", row)).status_code,),
    }
    for letter, codes in found.items():
        assert set(codes) == ({200} if letter in letters else {403}), letter
    index = client.get(reverse("admin:index")).content.decode()
    assert (f'href="{url(model, "changelist")}"' in index) == ("V" in letters)


@pytest.mark.parametrize("role", ["owner", "admin", "user", "viewer"])
@pytest.mark.parametrize("model", TABLE)
def test_a_row_of_another_tenant_is_not_found_and_not_listed(model, role, acme, globex, sign_in):
    row, client = rows_of(globex)[model], sign_in(role)
    for view in ("change", "delete", "history"):
        assert client.get(url(model, view, row)).status_code == 404
        assert client.post(url(model, view, row), {"post": "yes"}).status_code == 404
    assert client.post(button(model, row, "suspend")).status_code == 404
    assert type(row).objects.filter(pk=row.pk).exists()
    if "V" in TABLE[model][role]:
        listed = client.get(url(model, "changelist"))
        assert list(listed.context["cl"].queryset.filter(pk=row.pk)) == []


@pytest.mark.parametrize("role", ["owner", "admin", "user", "viewer"])
def test_nothing_on_any_page_names_another_tenant(role, acme, globex, sign_in):
    mine, client = rows_of(acme), sign_in(role)
    rows_of(globex)
    for model, letters in TABLE.items():
        pages = [
            url(model, "changelist"),
            url(model, "changelist") + "?_facets=True",
            url(model, "change", mine[model]),
        ]
        if "A" in letters[role]:
            pages += [url(model, "add"), url(model, "add") + "?type=smtp"]
        for page in pages if "V" in letters[role] else ():
            assert "globex" not in client.get(page).content.decode().lower(), page


@pytest.mark.parametrize("role", ["owner", "admin", "user", "viewer"])
def test_an_action_on_chosen_rows_leaves_those_of_another_tenant_alone(role, acme, globex, sign_in):
    theirs, client = rows_of(globex), sign_in(role)
    for model, action in (
        ("accounts.account", "suspend"),
        ("accounts.user", "delete_selected"),
        ("delivery.message", "hold"),
    ):
        row = theirs[model]
        client.post(url(model, "changelist"), {"action": action, "_selected_action": str(row.pk), "post": "yes"})
        before = dict(vars(row))
        row.refresh_from_db()
        assert vars(row)["id"] == before["id"]
        assert getattr(row, "status", None) == before.get("status")


def test_operators_see_all_tenants_and_can_tell_them_apart(acme, globex, sign_in):
    rows_of(acme), rows_of(globex)
    client = sign_in("operator")
    for model in TABLE:
        page = client.get(url(model, "changelist"))
        assert page.context["cl"].result_count >= 2, model
    assert "Globex" in client.get(url("accounts.account", "changelist")).content.decode()


def test_nobody_sees_anything_without_signing_in(client, acme):
    for model, row in rows_of(acme).items():
        for page in (url(model, "changelist"), url(model, "change", row)):
            assert client.get(page).headers["Location"].startswith("/admin/login/")


def test_a_deactivated_person_is_shown_the_door(acme, client):
    user = UserFactory(tenant=acme)
    client.force_login(user)
    User.objects.filter(pk=user.pk).update(is_active=False)
    assert client.get(reverse("admin:index")).status_code == 302


def test_people_sign_in_with_their_address_in_any_case(acme, client):
    UserFactory(tenant=acme, email="ann@acme.example")
    page = reverse("admin:login")
    assert client.post(page, {"username": "Ann@Acme.example", "password": "wrong"}).status_code == 200
    answer = client.post(page, {"username": "Ann@Acme.example", "password": "correct horse", "next": "/admin/"})
    assert answer.status_code == 302
    assert b"smtpproxy" in client.get("/admin/").content


def test_only_operators_make_tenants_and_suspend_them(acme, sign_in):
    client = sign_in("owner")
    assert client.post(button("accounts.tenant", acme, "suspend")).status_code == 403
    form = {"name": "Acme Inc", "slug": "stolen", "status": "suspended", "may_use_shared_providers": "on"}
    form |= {"body_days": 7, "dead_letter_days": 30, "row_days": 90}
    client.post(url("accounts.tenant", "change", acme), {**form, "unknown_outcome": "hold", "lossless": "special"})
    acme.refresh_from_db()
    assert (acme.name, acme.slug, acme.status, acme.may_use_shared_providers) == ("Acme Inc", "acme", "active", False)
    client = sign_in("operator")
    client.post(button("accounts.tenant", acme, "suspend"), {"confirmed": "yes"})
    assert Tenant.objects.get(pk=acme.pk).status == "suspended"
