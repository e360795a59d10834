"""Audit entries: SEC-5."""

import json

import pytest

from accounts import audit
from accounts.models import Account, AuditEntry, Tenant, User
from accounts.tests.factories import AccountFactory, UserFactory

pytestmark = pytest.mark.django_db


def test_an_entry_tells_who_did_what_to_which_row_and_from_where(acme_account):
    ann = UserFactory(tenant=acme_account.tenant, email="ann@acme.example")
    entry = audit.record(ann, "account.suspended", acme_account, {"status": ["active", "suspended"]}, "192.0.2.9")
    entry.refresh_from_db()
    assert entry.tenant == acme_account.tenant
    assert (entry.actor, entry.actor_label, entry.client_ip) == (ann, "ann@acme.example", "192.0.2.9")
    assert (entry.target_type, entry.target_id) == ("accounts.account", str(acme_account.pk))
    assert entry.changes == {"status": ["active", "suspended"]}


def test_a_command_can_be_the_actor(acme_account):
    entry = audit.record("manage.py serve", "account.created", acme_account)
    assert (entry.actor, entry.actor_label, entry.client_ip) == (None, "manage.py serve", None)


def test_an_entry_outlives_the_person_and_the_tenant(acme, operator):
    ann = UserFactory(tenant=acme, email="ann@acme.example")
    entry = audit.record(ann, "user.created", ann)
    ann.delete()
    audit.record(operator, "tenant.deleted", acme)
    acme.delete()
    entry.refresh_from_db()
    assert (entry.tenant, entry.actor, entry.actor_label) == (None, None, "ann@acme.example")
    assert AuditEntry.objects.filter(action="tenant.deleted", target_type="accounts.tenant").exists()


def test_one_action_on_many_rows_leaves_an_entry_for_each(acme, operator):
    accounts = [AccountFactory(tenant=acme) for _ in range(3)]
    audit.record_each(operator, "account.suspended", accounts, "192.0.2.9")
    assert set(AuditEntry.objects.values_list("target_id", flat=True)) == {str(account.pk) for account in accounts}


def test_differences_hold_before_and_after_of_what_changed_only(acme_account):
    before = audit.values(acme_account)
    acme_account.allowed_senders = ["acme.example", "acme.test"]
    acme_account.last_used_at = acme_account.created_at
    assert audit.differences(Account, before, audit.values(acme_account)) == {
        "allowed_senders": [["acme.example"], ["acme.example", "acme.test"]]
    }


def test_secrets_are_masked_on_both_sides(acme_account):
    before = audit.values(acme_account)
    acme_account.password_hash = "keyed$new"
    assert audit.differences(Account, before, audit.values(acme_account)) == {"password_hash": ["***", "***"]}
    gone = json.dumps(audit.differences(Account, before, {}))
    assert "keyed$" not in gone
    ann = UserFactory()
    assert ann.password not in json.dumps(audit.differences(User, {}, audit.values(ann)))
    assert ann.password not in json.dumps(audit.told(ann))


def test_what_is_told_of_a_row_is_json(acme):
    told = audit.told(acme)
    assert json.loads(json.dumps(told)) == told
    assert told["slug"] == "acme"
    assert "updated_at" not in told
    assert audit.differences(Tenant, {}, audit.values(acme))["created_at"][1] == acme.created_at.isoformat()
