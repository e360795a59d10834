"""Tenants, people, accounts and API keys over the API: API-1, SEC-1, SEC-3, SEC-5."""

from datetime import timedelta

import pytest
from django.utils import timezone

from accounts import credentials
from accounts.models import Account, ApiKey, AuditEntry, Tenant, User
from accounts.tests.api_client import bearer, signed_in
from accounts.tests.factories import AccountFactory, ApiKeyFactory, UserFactory

pytestmark = pytest.mark.django_db


@pytest.fixture
def owner(acme):
    return signed_in(UserFactory(tenant=acme, role="owner", email="owner@acme.example"))


def post(client, path, **given):
    return client.post(f"/api/v1/{path}", given, format="json")


def patch(client, path, **given):
    return client.patch(f"/api/v1/{path}", given, format="json")


def test_a_new_account_has_its_password_in_the_answer_and_nowhere_else(owner, acme):
    answer = post(owner, "accounts", name="crm", username="crm@acme", allowed_senders=["acme.example"])
    assert answer.status_code == 201
    told = answer.json()
    assert told["tenant"] == str(acme.pk)
    assert credentials.verify("crm@acme", told["password"], None).account_id == Account.objects.get().pk
    assert "password" not in owner.get(f"/api/v1/accounts/{told['id']}").json()
    entry = AuditEntry.objects.get(action="account.created")
    assert entry.actor_label == "owner@acme.example"
    assert told["password"] not in str(entry.changes)


def test_rotating_ends_the_old_password_at_once(owner, acme_account):
    answer = post(owner, f"accounts/{acme_account.pk}/rotate-key")
    assert credentials.verify("crm@acme", answer.json()["password"], None)
    with pytest.raises(credentials.AuthenticationFailed):
        credentials.verify("crm@acme", "correct horse", None)
    assert AuditEntry.objects.filter(action="account.password_issued").exists()


def test_suspending_twice_is_told_once_in_the_audit(owner, acme_account):
    assert post(owner, f"accounts/{acme_account.pk}/suspend").json()["status"] == "suspended"
    post(owner, f"accounts/{acme_account.pk}/suspend")
    assert AuditEntry.objects.get(action="account.suspended").changes == {"status": ["active", "suspended"]}
    assert post(owner, f"accounts/{acme_account.pk}/activate").json()["status"] == "active"


def test_the_detail_tells_what_is_used_of_quotas(owner, acme_account):
    patch(owner, f"accounts/{acme_account.pk}", messages_per_hour=10)
    told = owner.get(f"/api/v1/accounts/{acme_account.pk}").json()
    assert told["usage"] == {"hour": {"most": 10, "used": 0, "percent": 0}}


def test_what_is_the_operators_to_grant_is_refused_to_owners(owner, acme, acme_account, operator):
    for path, field, value in (
        (f"tenants/{acme.pk}", "messages_per_month", 5),
        (f"tenants/{acme.pk}", "may_use_shared_providers", True),
        (f"accounts/{acme_account.pk}", "transactional", True),
    ):
        answer = patch(owner, path, **{field: value})
        assert (answer.status_code, list(answer.json()["details"])) == (400, [field])
        assert patch(signed_in(operator), path, **{field: value}).status_code == 200


def test_an_account_is_not_made_in_another_tenant(owner, acme, globex):
    answer = post(owner, "accounts", tenant=str(globex.pk), name="x", username="x")
    unknown = post(owner, "accounts", tenant=str(acme.pk).replace(str(acme.pk)[-3:], "000"), name="x", username="x")
    assert answer.status_code == unknown.status_code == 400
    assert "does not exist" in str(answer.json()["details"]["tenant"])
    assert not Account.objects.exists()


def test_an_operator_names_the_tenant(operator, globex):
    client = signed_in(operator)
    assert "tenant" in post(client, "accounts", name="x", username="x").json()["details"]
    assert post(client, "accounts", tenant=str(globex.pk), name="x", username="x").status_code == 201
    assert Account.objects.get().tenant == globex


def test_a_key_is_shown_once_and_works_until_it_is_revoked(owner, acme_account):
    answer = post(owner, "api-keys", account=str(acme_account.pk), name="CI", scopes=["send", "logs:read"])
    assert answer.status_code == 201
    told = answer.json()
    key = bearer(told["key"])
    assert key.get("/api/v1/auth/me").json()["scopes"] == ["logs:read", "send"]
    assert "key" not in owner.get(f"/api/v1/api-keys/{told['id']}").json()
    assert post(owner, f"api-keys/{told['id']}/revoke").json()["revoked_at"] is not None
    answer = key.get("/api/v1/auth/me")
    assert (answer.status_code, answer.json()["code"]) == (401, "key_not_valid")
    listed = owner.get("/api/v1/api-keys?revoked=true").json()["results"]
    assert [row["id"] for row in listed] == [told["id"]]
    assert owner.get("/api/v1/api-keys?revoked=false").json()["results"] == []


def test_both_keys_work_while_they_overlap(owner, acme_account):
    told = post(owner, "api-keys", account=str(acme_account.pk), scopes=["send"]).json()
    new = post(owner, f"api-keys/{told['id']}/rotate", overlap=3600)
    assert new.status_code == 201
    assert [bearer(text).get("/api/v1/auth/me").status_code for text in (told["key"], new.json()["key"])] == [200, 200]
    ApiKey.objects.filter(pk=told["id"]).update(expires_at=timezone.now() - timedelta(seconds=1))
    assert bearer(told["key"]).get("/api/v1/auth/me").status_code == 401
    post(owner, f"api-keys/{told['id']}/revoke")
    assert post(owner, f"api-keys/{told['id']}/rotate").status_code == 409


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"scopes": ["all"]}, "scopes"),
        ({"scopes": []}, "scopes"),
        ({"scopes": ["send"], "expires_at": "2020-01-01T00:00:00Z"}, "expires_at"),
        ({"scopes": ["send"], "prefixx": "x"}, "prefixx"),
    ],
)
def test_a_key_that_cannot_be_is_not_made(owner, acme_account, given, field):
    answer = post(owner, "api-keys", account=str(acme_account.pk), **given)
    assert (answer.status_code, list(answer.json()["details"])) == (400, [field])
    assert not ApiKey.objects.exists()


def test_a_key_outside_of_the_networks_is_told_so(acme_account, acme):
    _, text = credentials.issue_api_key(acme_account, ["send"])
    acme.client_networks = ["192.0.2.0/24"]
    acme.save()
    answer = bearer(text).get("/api/v1/auth/me")
    assert (answer.status_code, answer.json()["code"]) == (403, "network_not_allowed")


def test_an_admin_has_no_power_over_owners_and_makes_none(acme):
    client = signed_in(UserFactory(tenant=acme, role="admin"))
    boss = UserFactory(tenant=acme, role="owner")
    assert post(client, "users", email="new@acme.example", role="owner").status_code == 403
    assert patch(client, f"users/{boss.pk}", name="x").status_code == 403
    assert client.delete(f"/api/v1/users/{boss.pk}").status_code == 403
    other = UserFactory(tenant=acme, role="viewer")
    assert patch(client, f"users/{other.pk}", role="owner").status_code == 403
    assert patch(client, f"users/{other.pk}", reads_bodies=True).status_code == 400
    assert patch(client, f"users/{other.pk}", role="user").status_code == 200


def test_nobody_makes_an_operator_but_an_operator(owner, operator):
    given = {"email": "new@platform.example", "is_superuser": True, "role": ""}
    assert post(owner, "users", **given).status_code == 400
    assert post(signed_in(operator), "users", **given).status_code == 201
    assert User.objects.get(email="new@platform.example").tenant is None


def test_nobody_changes_their_own_rights(owner):
    me = User.objects.get(email="owner@acme.example")
    for given in ({"role": "viewer"}, {"is_active": False}, {"password": "correct horse battery"}):
        assert patch(owner, f"users/{me.pk}", **given).status_code == 400
    assert owner.delete(f"/api/v1/users/{me.pk}").status_code == 409
    assert patch(owner, f"users/{me.pk}", name="Ann", role="owner").status_code == 200


def test_a_password_somebody_is_given_follows_the_rules_and_is_not_in_the_audit(owner):
    assert "password" in post(owner, "users", email="a@acme.example", role="user", password="x").json()["details"]
    answer = post(owner, "users", email="a@acme.example", role="user", password="correct horse battery")
    assert answer.status_code == 201
    assert "password" not in answer.json()
    assert User.objects.get(email="a@acme.example").check_password("correct horse battery")
    assert "argon2" not in str(AuditEntry.objects.get(action="user.created").changes)


def test_addresses_and_usernames_that_are_taken_are_refused_at_their_field(owner, acme, acme_account, globex_account):
    given = {"email": "OWNER@acme.example", "role": "user"}
    assert list(post(owner, "users", **given).json()["details"]) == ["email"]
    assert list(post(owner, "accounts", name="y", username="ERP@globex").json()["details"]) == ["username"]
    assert list(post(owner, "accounts", name="crm", username="new").json()["details"]) == ["name"]


def test_a_tenant_is_made_by_an_operator_and_changed_by_its_owner(operator, owner, acme):
    assert post(signed_in(operator), "tenants", name="New", slug="new").status_code == 201
    assert Tenant.objects.filter(slug="new").exists()
    assert patch(owner, f"tenants/{acme.pk}", name="Acme Inc", client_networks=["nonsense"]).status_code == 400
    assert patch(owner, f"tenants/{acme.pk}", name="Acme Inc", row_days=3).status_code == 400
    assert patch(owner, f"tenants/{acme.pk}", name="Acme Inc").json()["name"] == "Acme Inc"
    assert AuditEntry.objects.get(action="tenant.changed").changes == {"name": ["Acme", "Acme Inc"]}


def test_lists_are_filtered_searched_ordered_and_paged(owner, acme):
    for name in ("c", "a", "b"):
        AccountFactory(tenant=acme, name=name, username=f"{name}@acme", status="suspended" if name == "c" else "active")
    names = lambda query: [row["name"] for row in owner.get(f"/api/v1/accounts?{query}").json()["results"]]  # noqa: E731
    assert names("") == ["b", "a", "c"]
    assert names("ordering=name") == ["a", "b", "c"]
    assert names("ordering=-name") == ["c", "b", "a"]
    assert names("status=suspended") == ["c"]
    assert names("search=a@ac") == ["a"]
    assert names("username=B@ACME") == ["b"]
    page = owner.get("/api/v1/accounts?ordering=name&limit=2").json()
    assert [row["name"] for row in page["results"]] == ["a", "b"]
    assert [row["name"] for row in owner.get(page["next"]).json()["results"]] == ["c"]


def test_a_deleted_key_is_gone(owner, acme_account):
    key = ApiKeyFactory(account=acme_account)
    assert owner.delete(f"/api/v1/api-keys/{key.pk}").status_code == 204
    assert owner.get(f"/api/v1/api-keys/{key.pk}").status_code == 404
    assert AuditEntry.objects.filter(action="apikey.deleted").exists()


@pytest.mark.parametrize(
    ("listed", "kept"), [(["192.0.2.0/24"], False), (["192.0.2.0/24", "127.0.0.0/8"], True), ([], True)]
)
def test_nobody_of_a_tenant_locks_themselves_out_by_networks(owner, acme, operator, listed, kept):
    answer = patch(owner, f"tenants/{acme.pk}", client_networks=listed)
    assert answer.status_code == (200 if kept else 400)
    assert kept or "you would lock yourself out" in str(answer.json()["details"]["client_networks"])
    assert patch(signed_in(operator), f"tenants/{acme.pk}", client_networks=listed).status_code == 200
