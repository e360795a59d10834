"""An operator looks as a tenant: SEC-1, SEC-2, SEC-5."""

import pytest
from django.urls import reverse

from accounts.models import Account, AuditEntry, Tenant, User
from accounts.tests.factories import AccountFactory, UserFactory

pytestmark = pytest.mark.django_db
PAGE = "/admin/look-as/"
BANNER = 'id="looking-as"'


@pytest.fixture
def desk(client, operator):
    client.force_login(operator)
    return client


def test_an_operator_sees_what_an_owner_sees_until_going_back(desk, acme_account, globex_account):
    accounts = reverse("admin:accounts_account_changelist")
    assert BANNER not in desk.get(accounts).content.decode()
    assert "globex" in desk.get(PAGE + "?q=glob").content.decode()
    desk.post(PAGE, {"tenant": "acme"})
    seen = desk.get(accounts).content.decode()
    assert BANNER in seen
    assert "crm@acme" in seen
    assert "erp@globex" not in seen
    assert desk.get(reverse("admin:accounts_account_change", args=[globex_account.pk])).status_code == 404
    assert desk.get(reverse("admin:accounts_tenant_add")).status_code == 403
    assert BANNER in desk.get("/admin/account/").content.decode()
    desk.post(PAGE, {"tenant": "globex"})
    assert "erp@globex" in desk.get(accounts).content.decode()
    desk.post(PAGE)
    assert "crm@acme" in desk.get(accounts).content.decode()
    assert list(AuditEntry.objects.order_by("id").values_list("action", "target_label")) == [
        ("tenant.looked_as", "Acme"),
        ("tenant.looked_as_ended", "Acme"),
        ("tenant.looked_as", "Globex"),
        ("tenant.looked_as_ended", "Globex"),
    ]


def test_what_is_changed_meanwhile_is_the_operators_doing(desk, acme_account, operator):
    desk.post(PAGE, {"tenant": "acme"})
    desk.post(reverse("admin:accounts_account_do", args=[acme_account.pk, "suspend"]), {"confirmed": "yes"})
    entry = AuditEntry.objects.get(action="account.suspended")
    assert (entry.actor, entry.actor_label, entry.by_operator) == (operator, operator.email, True)
    assert Account.objects.get(pk=acme_account.pk).status == "suspended"


@pytest.mark.parametrize("role", ["owner", "admin", "user", "viewer"])
def test_nobody_but_an_operator_looks_as_anybody(client, acme, globex, role):
    client.force_login(UserFactory(tenant=acme, role=role))
    assert client.get(PAGE).status_code == 403
    assert client.post(PAGE, {"tenant": "globex"}).status_code == 403
    session = client.session
    session["look_as"] = str(globex.pk)
    session.save()
    assert BANNER not in client.get("/admin/account/").content.decode()


def test_a_tenant_that_is_gone_is_looked_at_no_more(desk, globex):
    desk.post(PAGE, {"tenant": "globex"})
    Tenant.objects.filter(pk=globex.pk).delete()
    assert BANNER not in desk.get("/admin/account/").content.decode()
    assert desk.post(PAGE, {"tenant": "nobody"}).status_code == 404


def test_ones_own_account_stays_ones_own(desk, acme, operator):
    desk.post(PAGE, {"tenant": "acme"})
    desk.post("/admin/account/", {"name": "Op"})
    person = User.objects.get(pk=operator.pk)
    assert (person.name, person.is_superuser, person.tenant, person.role) == ("Op", True, None, "")
    with pytest.raises(TypeError):
        person.as_owner_of(acme).save()


def test_an_account_made_meanwhile_belongs_to_the_tenant(desk, acme, globex):
    AccountFactory(tenant=globex)
    desk.post(PAGE, {"tenant": "acme"})
    form = {"name": "new", "username": "new@acme", "status": "active", "failure_notice": "dsn", "tenant": globex.pk}
    assert desk.post(reverse("admin:accounts_account_add"), form).status_code == 200
    assert Account.objects.get(username="new@acme").tenant == acme
