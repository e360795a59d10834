"""Who may ask which endpoint of this floor: its part of the table; see accounts/tests/api_table.py (SEC-1)."""

from accounts.tests.api_table import Line
from providers.tests.factories import ProviderFactory, RoutingRuleFactory

ADMINS = "owner admin operator"
USERS = "owner admin user operator"
NEW = {"name": "new", "type": "sendgrid", "config": {"api_key": "SG.of-a-test"}}


def rule(rows):
    return {"name": "new", "priority": 1, "targets": [{"provider": str(rows["provider"].pk)}]}


LINES = {
    "GET providers": Line(USERS),
    "POST providers": Line(ADMINS, body=NEW, expect=201),
    "GET providers/{id}": Line(USERS, row="provider"),
    "PUT providers/{id}": Line(ADMINS, row="provider", body={"name": "other"}),
    "PATCH providers/{id}": Line(ADMINS, row="provider", body={"enabled": False}),
    "DELETE providers/{id}": Line(ADMINS, row="unused_provider", expect=204),
    "POST providers/{id}/probe": Line(ADMINS, row="provider"),
    "POST providers/{id}/test": Line(ADMINS, row="provider", body={"sender": "nobody", "recipient": ""}, expect=400),
    "GET providers/types": Line(USERS),
    "GET providers/shared": Line(USERS),
    "GET routing-rules": Line(USERS),
    "POST routing-rules": Line(ADMINS, body=rule, expect={201, 400}),
    "GET routing-rules/{id}": Line(USERS, row="rule"),
    "PUT routing-rules/{id}": Line(ADMINS, row="rule", body=rule),
    "PATCH routing-rules/{id}": Line(ADMINS, row="rule", body={"name": "other"}),
    "DELETE routing-rules/{id}": Line(ADMINS, row="rule", expect=204),
    "POST routing-rules/reorder": Line(ADMINS, body=lambda rows: {"rules": [str(rows["rule"].pk)]}),
}


def rows_of(tenant, account):
    """One row of each kind, of this tenant."""
    provider = ProviderFactory(
        tenant=tenant, name=f"provider of {tenant.slug}", type="smtp", config={"host": "a.example"}
    )
    return {
        "provider": provider,
        "unused_provider": ProviderFactory(tenant=tenant, name=f"unused of {tenant.slug}"),
        "rule": RoutingRuleFactory(tenant=tenant, name=f"rule of {tenant.slug}", providers=[provider]),
    }
