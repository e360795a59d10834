"""The audit as a file: SEC-5."""

import csv
import json

import pytest

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
