"""Who may ask which endpoint of this floor: its part of the table; see accounts/tests/api_table.py (SEC-1)."""

from datetime import timedelta

from django.utils import timezone

from accounts.tests.api_table import ALL, Line
from accounts.tests.factories import UserFactory
from delivery.models import BulkAction
from delivery.tests.factories import (
    ArchiveCopyFactory,
    DeliveryLogFactory,
    EventFactory,
    MessageFactory,
    RefusedSessionFactory,
    SuppressionFactory,
    WebhookDeliveryFactory,
    WebhookFactory,
)

ADMINS = "owner admin operator"
USERS = "owner admin user operator"
LOGS, MESSAGES, SUPPRESSIONS, WEBHOOKS = "logs:read", "messages:read", "suppressions", "webhooks"
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
    "GET delivery-logs": Line(ALL, LOGS),
    "GET delivery-logs/{id}": Line(ALL, LOGS, row="log"),
    "GET delivery-logs/stats": Line(ALL, LOGS, query="?group_by=account"),
    "GET events": Line(ALL, LOGS),
    "GET events/{id}": Line(ALL, LOGS, row="event"),
    "GET archive": Line(USERS, MESSAGES),
    "GET archive/{id}": Line(USERS, MESSAGES, row="copy"),
    "GET archive/{id}/thread": Line(USERS, MESSAGES, row="copy"),
    "GET archive/{id}/download": Line(ADMINS, row="copy", expect=409),
    "POST routing-rules/explain": Line(USERS, body=lambda rows: {"message": str(rows["message"].pk)}),
    "GET suppressions": Line(USERS, SUPPRESSIONS),
    "POST suppressions": Line(ADMINS, SUPPRESSIONS, body={"address": "new@x.example"}, expect={201, 400}),
    "GET suppressions/{id}": Line(USERS, SUPPRESSIONS, row="suppression"),
    "DELETE suppressions/{id}": Line(ADMINS, SUPPRESSIONS, row="suppression", expect=204),
    "POST suppressions/import": Line(
        ADMINS, SUPPRESSIONS, body={"rows": [{"address": "new@x.example"}]}, expect={200, 400}
    ),
    "GET suppressions/export": Line(USERS, SUPPRESSIONS),
    "GET webhooks": Line(USERS, WEBHOOKS),
    "POST webhooks": Line(ADMINS, WEBHOOKS, body={"name": "new", "url": "https://x.example/"}, expect={201, 400}),
    "GET webhooks/{id}": Line(USERS, WEBHOOKS, row="webhook"),
    "PUT webhooks/{id}": Line(ADMINS, WEBHOOKS, row="webhook", body={"name": "o", "url": "https://x.example/"}),
    "PATCH webhooks/{id}": Line(ADMINS, WEBHOOKS, row="webhook", body={"enabled": False}),
    "DELETE webhooks/{id}": Line(ADMINS, WEBHOOKS, row="webhook", expect=204),
    "POST webhooks/{id}/rotate-secret": Line(ADMINS, WEBHOOKS, row="webhook"),
    "POST webhooks/{id}/test": Line(ADMINS, WEBHOOKS, row="webhook"),
    "POST webhooks/{id}/replay": Line(ADMINS, WEBHOOKS, row="webhook"),
    "GET webhook-deliveries": Line(USERS, WEBHOOKS),
    "GET webhook-deliveries/{id}": Line(USERS, WEBHOOKS, row="webhook_delivery"),
    "POST webhook-deliveries/{id}/replay": Line(ADMINS, WEBHOOKS, row="webhook_delivery"),
    "POST routing-rules/dry-run": Line(ADMINS, body={"change": {}}, expect=400),
}


def rows_of(tenant, account):
    """One row of each kind, of this tenant."""
    message = MessageFactory(account=account)
    event = EventFactory(message=message)
    # Nothing listens there, and nothing is let out of this machine.
    webhook = WebhookFactory(tenant=tenant, account=account, url=f"https://127.0.0.1/{tenant.slug}")
    soon = timezone.now() + timedelta(hours=1)
    return {
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
        "message": message,
        "log": DeliveryLogFactory(message=message),
        "event": event,
        "copy": ArchiveCopyFactory(message=message),
        "suppression": SuppressionFactory(tenant=tenant, address=f"gone@{tenant.slug}.example"),
        "webhook": webhook,
        "webhook_delivery": WebhookDeliveryFactory(webhook=webhook, event=event),
    }
