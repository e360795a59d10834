"""Who may ask which endpoint of tenants, people and accounts: the floor's part of the table (SEC-1)."""

from accounts import sessions
from accounts.models import ApiKey
from accounts.tests.api_table import ALL, Line
from accounts.tests.factories import AccountFactory, ApiKeyFactory, AuditEntryFactory, UserFactory

OWNERS = "owner operator"
ADMINS = "owner admin operator"
USERS = "owner admin user operator"

LINES = {
    "GET tenants": Line(ALL),
    "POST tenants": Line("operator", body={"name": "New", "slug": "new"}, expect=201),
    "GET tenants/{id}": Line(ALL, row="tenant"),
    "PUT tenants/{id}": Line(ADMINS, row="tenant", body={"name": "Other"}, expect=400),
    "PATCH tenants/{id}": Line(ADMINS, row="tenant", body={"name": "Other"}),
    "POST tenants/{id}/deletion": Line(OWNERS, row="tenant", body=lambda rows: {"slug": "acme"}, expect=202),
    "DELETE tenants/{id}/deletion": Line(OWNERS, row="tenant", expect=409),
    "POST auth/login": Line(public=True),
    "POST auth/refresh": Line(public=True),
    "POST auth/logout": Line(ALL, expect=204),
    "POST auth/password": Line(ALL, expect=400),
    "GET auth/me": Line(ALL, scopes=" ".join(ApiKey.Scope.values)),
    "GET auth/sessions": Line(ALL),
    "DELETE auth/sessions/{id}": Line(ALL, row="session", expect=404),
    "GET users": Line(USERS),
    "POST users": Line(ADMINS, body={"email": "new@acme.example", "role": "viewer"}, expect={201, 400}),
    "GET users/{id}": Line(USERS, row="user"),
    "PUT users/{id}": Line(ADMINS, row="user", body={"email": "other@acme.example"}),
    "PATCH users/{id}": Line(ADMINS, row="user", body={"name": "Other"}),
    "DELETE users/{id}": Line(ADMINS, row="user", expect=204),
    "GET accounts": Line(USERS),
    "POST accounts": Line(OWNERS, body={"name": "new", "username": "new@acme"}, expect={201, 400}),
    "GET accounts/{id}": Line(USERS, row="account"),
    "PUT accounts/{id}": Line(OWNERS, row="account", body={"name": "o", "username": "o@acme"}),
    "PATCH accounts/{id}": Line(OWNERS, row="account", body={"name": "other"}),
    "DELETE accounts/{id}": Line(OWNERS, row="unused_account", expect=204),
    "POST accounts/{id}/rotate-key": Line(OWNERS, row="account"),
    "POST accounts/{id}/suspend": Line(OWNERS, row="account"),
    "POST accounts/{id}/activate": Line(OWNERS, row="account"),
    "GET api-keys": Line(USERS),
    "POST api-keys": Line(OWNERS, body={"scopes": ["send"]}, expect=400),
    "GET api-keys/{id}": Line(USERS, row="api_key"),
    "DELETE api-keys/{id}": Line(OWNERS, row="api_key", expect=204),
    "POST api-keys/{id}/rotate": Line(OWNERS, row="api_key", expect=201),
    "POST api-keys/{id}/revoke": Line(OWNERS, row="api_key"),
    "GET audit": Line(ADMINS),
    "GET audit/{id}": Line(ADMINS, row="audit_entry"),
}


def rows_of(tenant, account):
    """One row of each kind; `account` is the one whose key asks."""
    user = UserFactory(tenant=tenant, role="viewer", email=f"marker@{tenant.slug}.example")
    return {
        "user": user,
        "session": sessions.begin(user, "api", client_ip=None),
        "tenant": tenant,
        "account": account,
        "unused_account": AccountFactory(tenant=tenant, username=f"unused@{tenant.slug}"),
        "audit_entry": AuditEntryFactory(tenant=tenant),
        "api_key": ApiKeyFactory(account=account, name=f"key of {tenant.slug}"),
    }
