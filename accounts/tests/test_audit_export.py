"""The audit as a file: SEC-5."""

import csv
import json
from datetime import timedelta

import pytest
from django.utils import timezone

from accounts.models import AuditEntry
from accounts.tests.api_client import signed_in
from accounts.tests.factories import AuditEntryFactory, UserFactory

pytestmark = pytest.mark.django_db
EXPORT = "/admin/accounts/auditentry/export/"


def body(answer):
    return b"".join(answer.streaming_content).decode()


def test_the_filtered_entries_of_the_own_tenant_are_exported_and_no_operator_is_named(client, acme, globex, operator):
    client.force_login(UserFactory(tenant=acme))
    changes = {"status": ["active", "suspended"], "name": [None, "=cmd()"]}
    AuditEntryFactory(tenant=acme, target_label="=1+1", target_id="7", target_type="x.y", changes=changes)
    AuditEntryFactory(tenant=acme, actor_label=operator.email, by_operator=True, client_ip="192.0.2.1")
    AuditEntryFactory(tenant=globex)
    assert "Export as CSV" in client.get("/admin/accounts/auditentry/").content.decode()
    rows = json.loads(body(client.get(EXPORT + "json/")))
    assert [row["actor"] for row in rows] == ["the platform operator", "somebody@people.example"]
    assert rows[0]["address"] is None
    assert rows[1]["changes"] == changes
    answer = client.get(EXPORT + "csv/?target_id=7&target_type=x.y")
    assert "audit.csv" in answer.headers["Content-Disposition"]
    [row] = csv.DictReader(body(answer).splitlines(keepends=True))
    assert row["target"] == "'=1+1"
    assert row["changes"].splitlines() == ["name: – → =cmd()", "status: active → suspended"]
    assert json.loads(body(client.get(EXPORT + "json/?target_id=8"))) == []
    assert client.get(EXPORT + "xls/").status_code == 404


@pytest.mark.parametrize("role", ["user", "viewer"])
def test_who_may_not_read_the_audit_exports_none(client, acme, role):
    client.force_login(UserFactory(tenant=acme, role=role))
    assert client.get(EXPORT + "csv/").status_code == 403


# --- Filters and the API ------------------------------------------------------------------------------------------
def an_hour_ago():
    return timezone.now() - timedelta(hours=1)


def test_the_list_is_filtered_by_actor_action_kind_of_target_and_time(client, acme, operator):
    client.force_login(UserFactory(tenant=acme))
    wanted = AuditEntryFactory(tenant=acme, action="account.suspended", target_type="accounts.account")
    hidden = AuditEntryFactory(tenant=acme, action="user.created", by_operator=True, actor_label=operator.email)
    old = AuditEntryFactory(tenant=acme, action="x.old")
    AuditEntry.objects.filter(pk=old.pk).update(created_at=timezone.now() - timedelta(days=9))
    moment = an_hour_ago()
    page = client.get("/admin/accounts/auditentry/").content.decode()
    assert operator.email not in page
    for query, found in (
        ("action=account.suspended", [wanted]),
        ("target_type=accounts.account", [wanted]),
        ("by=the+platform+operator", [hidden]),
        (f"by={operator.email}", []),
        (f"created_at_from_0={moment:%Y-%m-%d}&created_at_from_1={moment:%H:%M:%S}", [hidden, wanted]),
        (f"created_at_to_0={moment:%Y-%m-%d}&created_at_to_1={moment:%H:%M:%S}", [old]),
    ):
        exported = json.loads(body(client.get(f"{EXPORT}json/?{query}")))
        assert sorted(row["action"] for row in exported) == sorted(entry.action for entry in found), query
        assert client.get(f"/admin/accounts/auditentry/?{query}").status_code == 200


def test_the_api_lists_and_filters_the_own_tenants_entries_and_names_no_operator(acme, globex, operator):
    owner = signed_in(UserFactory(tenant=acme))
    AuditEntry.objects.all().delete()
    first = AuditEntryFactory(tenant=acme, action="a.first", target_type="x.y", target_id="7", client_ip="192.0.2.1")
    AuditEntryFactory(
        tenant=acme, action="a.second", by_operator=True, actor_label=operator.email, client_ip="192.0.2.2"
    )
    AuditEntryFactory(tenant=globex, action="a.other")

    def listed(client, **query):
        return [row["action"] for row in client.get("/api/v1/audit", query).json()["results"]]

    [second, told] = owner.get("/api/v1/audit").json()["results"]
    assert (second["actor"], second["client_ip"]) == ("the platform operator", None)
    assert (told["id"], told["client_ip"], told["target_id"]) == (str(first.pk), "192.0.2.1", "7")
    for query, found in (
        ({"actor": "Somebody@people.example"}, ["a.first"]),
        ({"actor": operator.email}, []),
        ({"action": "a.second"}, ["a.second"]),
        ({"target_type": "x.y", "target_id": "7"}, ["a.first"]),
        ({"created_after": an_hour_ago().isoformat()}, ["a.second", "a.first"]),
        ({"created_before": an_hour_ago().isoformat()}, []),
    ):
        assert listed(owner, **query) == found, query
    assert owner.get("/api/v1/audit", {"client_ip": "192.0.2.2"}).status_code == 400
    everything = listed(signed_in(operator), actor=operator.email)
    assert "a.second" in everything
    assert "a.other" not in everything
