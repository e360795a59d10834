"""Who may ask which endpoint of this floor: its part of the table; see accounts/tests/api_table.py (SEC-1)."""

from datetime import timedelta

from django.utils import timezone

from accounts.tests.api_table import ALL, Line
from accounts.tests.factories import UserFactory
from delivery.models import BulkAction
from delivery.tests.factories import MessageFactory, RefusedSessionFactory

ADMINS = "owner admin operator"
USERS = "owner admin user operator"
LETTER = {"from": "crm@acme.example", "to": ["a@outside.example"], "text": "Hello."}


def _ids_of_the_dead(rows):
    return {"ids": [str(rows["dead_letter"].pk)]}


LINES = {
    "GET messages": Line(USERS, scopes="messages:read"),
    "POST messages": Line(scopes="send", body=LETTER, expect=202),
    "GET messages/{id}": Line(USERS, scopes="messages:read", row="message"),
    "GET messages/{id}/recipients": Line(USERS, scopes="messages:read", row="message"),
    "GET messages/{id}/delivery-logs": Line(ALL, scopes="logs:read", row="message"),
    "GET messages/{id}/events": Line(ALL, scopes="logs:read", row="message"),
    "GET messages/{id}/raw": Line(ADMINS, row="message", expect=410),
    "GET messages/{id}/explain": Line(USERS, row="message"),
    "POST messages/{id}/hold": Line(ADMINS, row="message"),
    "POST messages/{id}/release": Line(ADMINS, row="held"),
    "POST messages/{id}/retry": Line(ADMINS, row="scheduled"),
    "POST messages/{id}/cancel": Line(ADMINS, scopes="send", row="scheduled"),
    "POST messages/{id}/reprocess": Line(ADMINS, row="dead_letter"),
    "POST messages/{id}/reroute": Line(ADMINS, row="held", body={"provider": None}, expect=409),
    "GET dlq": Line(USERS, scopes="messages:read"),
    "GET dlq/{id}": Line(USERS, scopes="messages:read", row="dead_letter"),
    "POST dlq/reprocess": Line(ADMINS, body=_ids_of_the_dead),
    "GET refused-sessions": Line(ALL, scopes="logs:read"),
    "GET refused-sessions/{id}": Line(ALL, scopes="logs:read", row="refused_session"),
    "GET bulk-actions": Line(USERS),
    "POST bulk-actions": Line(ADMINS, body={"action": "hold", "filter": {}}, expect=202),
    "GET bulk-actions/{id}": Line(USERS, row="bulk_action"),
    "POST bulk-actions/{id}/pause": Line(ADMINS, row="bulk_action"),
    "POST bulk-actions/{id}/resume": Line(ADMINS, row="bulk_action", expect=409),
    "POST bulk-actions/{id}/stop": Line(ADMINS, row="bulk_action"),
}


def rows_of(tenant, account):
    """One row of each kind, of this tenant."""
    soon = timezone.now() + timedelta(hours=1)
    return {
        "message": MessageFactory(account=account),
        "held": MessageFactory(account=account, status="held"),
        "scheduled": MessageFactory(account=account, status="scheduled", scheduled_at=soon, next_attempt_at=soon),
        "refused_session": RefusedSessionFactory(tenant=tenant, account=account),
        "dead_letter": MessageFactory(account=account, status="dlq"),
        "bulk_action": BulkAction.objects.create(
            tenant=tenant,
            actor=UserFactory(tenant=tenant, email=f"actor@{tenant.slug}.example"),
            actor_label=f"actor@{tenant.slug}.example",
            action="hold",
            next_page_at=soon,
        ),
    }
