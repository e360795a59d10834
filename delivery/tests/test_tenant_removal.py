"""A tenant ends a day after its owner asked for it, and everything of it with it: SEC-6."""

from datetime import timedelta

import pytest
from django.urls import reverse
from django.utils import timezone

from accounts import credentials, protected, tenant_deletion
from accounts.models import AuditEntry, Tenant
from accounts.tests.api_client import signed_in
from accounts.tests.factories import AccountFactory, UserFactory
from delivery import chores, store, tenant_removal
from delivery.exceptions import BodyNotFound
from delivery.models import Message
from delivery.tests.mail import accepted
from delivery.tests.test_admin_permissions import rows_of

pytestmark = pytest.mark.django_db


@pytest.fixture
def owner(acme):
    return UserFactory(tenant=acme, role="owner")


def address(tenant):
    return f"/api/v1/tenants/{tenant.pk}/deletion"


def pass_a_day(tenant):
    Tenant.objects.filter(pk=tenant.pk).update(deletes_at=timezone.now() - timedelta(seconds=1))


def test_it_is_asked_for_with_the_short_name_and_suspends_at_once(owner, acme, acme_account):
    client = signed_in(owner)
    assert client.post(address(acme), {"slug": "globex"}, format="json").status_code == 400
    assert client.post(address(acme), {}, format="json").status_code == 400
    answer = client.post(address(acme), {"slug": "acme"}, format="json")
    assert (answer.status_code, answer.json()["status"]) == (202, "suspended")
    acme.refresh_from_db()
    assert timedelta(hours=23) < acme.deletes_at - timezone.now() <= timedelta(hours=24)
    with pytest.raises(credentials.AuthenticationFailed):
        credentials.verify("crm@acme", "correct horse", None)
    assert client.post(address(acme), {"slug": "acme"}, format="json").status_code == 409
    assert AuditEntry.objects.get(action="tenant.deletion_asked").actor == owner


def test_it_is_taken_back_within_the_day_and_leaves_all_as_it_was(owner, acme, operator):
    client = signed_in(owner)
    tenant_deletion.ask(acme, "acme", owner, None)
    assert client.delete(address(acme)).json()["status"] == "active"
    assert client.delete(address(acme)).status_code == 409
    assert not tenant_deletion.due().exists()
    Tenant.objects.filter(pk=acme.pk).update(status="suspended")
    tenant_deletion.ask(acme, "acme", owner, None)
    assert client.delete(address(acme)).json()["status"] == "suspended"  # an owner lifts no suspension this way
    tenant_deletion.ask(acme, "acme", owner, None)
    pass_a_day(acme)
    assert client.delete(address(acme)).status_code == 409


def test_nobody_lifts_the_suspension_of_a_tenant_that_is_to_be_deleted(owner, acme, operator, client):
    tenant_deletion.ask(acme, "acme", owner, None)
    api = signed_in(operator)
    assert api.patch(f"/api/v1/tenants/{acme.pk}", {"status": "active"}, format="json").status_code == 400
    client.force_login(operator)
    chosen = {"action": "activate", "_selected_action": str(acme.pk)}
    client.post(reverse("admin:accounts_tenant_changelist"), chosen)
    acme.refresh_from_db()
    assert acme.status == "suspended"


def test_in_the_admin_it_is_confirmed_and_taken_back_by_the_owner_alone(acme, owner, client, globex):
    page = reverse("admin:accounts_tenant_deletion", args=[acme.pk])
    client.force_login(UserFactory(tenant=acme, role="admin"))
    assert client.get(page).status_code == 403
    assert page not in client.get(reverse("admin:accounts_tenant_change", args=[acme.pk])).content.decode()
    client.force_login(owner)
    assert page in client.get(reverse("admin:accounts_tenant_change", args=[acme.pk])).content.decode()
    assert client.get(reverse("admin:accounts_tenant_deletion", args=[globex.pk])).status_code == 404
    assert b"not the short name" in client.post(page, {"slug": "acm"}).content
    assert client.post(page, {"slug": "acme"}).status_code == 302
    acme.refresh_from_db()
    assert acme.deletes_at is not None
    assert b"Keep Acme" in client.get(page).content
    client.post(page)
    acme.refresh_from_db()
    assert (acme.deletes_at, acme.status) == (None, "active")


def test_after_the_day_everything_is_gone_but_the_audit_and_the_other_tenant_is_whole(owner, acme, globex):
    mine, theirs = rows_of(acme), rows_of(globex)
    sent = accepted(mine["accounts.account"])
    key = Message.objects.get(pk=sent.pk).store_key
    tenant_deletion.ask(acme, "acme", owner, None)
    tenant_removal.run(chores.Turn())
    assert Tenant.objects.filter(pk=acme.pk).exists()
    pass_a_day(acme)
    tenant_removal.run(chores.Turn())
    assert not Tenant.objects.filter(pk=acme.pk).exists()
    with pytest.raises(BodyNotFound):
        store.read(key)
    for name, row in mine.items():
        assert type(row)._base_manager.filter(pk=row.pk).exists() == (name == "accounts.auditentry"), name
    for name, row in theirs.items():
        assert type(row)._base_manager.filter(pk=row.pk).exists(), name
    entry = AuditEntry.objects.get(action="tenant.deleted")
    assert (entry.target_label, entry.changes["slug"]) == ("Acme", ["acme", None])


def test_what_a_worker_has_in_hand_is_waited_for(owner, acme):
    account = AccountFactory(tenant=acme)
    message = accepted(account)
    later = timezone.now() + timedelta(minutes=5)
    Message.objects.filter(pk=message.pk).update(status="processing", next_attempt_at=later)
    tenant_deletion.ask(acme, "acme", owner, None)
    pass_a_day(acme)
    tenant_removal.run(chores.Turn())
    assert Message.objects.filter(pk=message.pk).exists()
    Message.objects.filter(pk=message.pk).update(next_attempt_at=timezone.now())
    tenant_removal.run(chores.Turn())
    assert not Tenant.objects.filter(pk=acme.pk).exists()


def test_every_table_with_rows_of_a_tenant_is_known_to_go_with_it():
    """A new one that stands in the way of the tenant's end, as messages do, has to be removed before it."""
    protecting = {
        relation.related_model.__name__
        for relation in protected.relations(Tenant)
        if relation.on_delete.__name__ in ("PROTECT", "RESTRICT", "DO_NOTHING")
    }
    assert protecting == {"Message", "DeliveryLog", "ArchiveCopy"}
