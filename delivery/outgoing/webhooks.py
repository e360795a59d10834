"""What people do with a tenant's webhooks: enable, rotate the secret, try out, replay, remove (EVT-3)."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import datetime

from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone

from accounts import changes
from accounts.crypto import DecryptionError
from accounts.ids import first_at, uuid7
from delivery import deletion
from delivery.exceptions import ControlRefused
from delivery.models import Event, Webhook, WebhookAttempt, WebhookDelivery
from delivery.outgoing import answers, payloads, post, relay, signatures
from delivery.outgoing.post import Answer

MOST = 50
"""Webhooks a tenant has: each makes a row, and a request, of each event."""
PAGE = 1000
MOST_REPLAYED = 50_000
"""Events one replay takes; more would keep new ones waiting."""


def rotate(webhook: Webhook) -> str:
    """A new secret, shown to whoever asked and never again; the earlier one signs beside it for 24 hours."""
    with transaction.atomic():
        # Locked: of two at once, the second keeps the first one's secret as the previous.
        row = Webhook.objects.select_for_update().defer("secrets").get(pk=webhook.pk)
        try:
            before = row.secrets
        except DecryptionError:
            before = {}  # lost with its key; that is what new ones are for
        fresh = signatures.renewed(before)
        Webhook.objects.filter(pk=webhook.pk).update(secrets=fresh, updated_at=timezone.now())
    return str(fresh["current"])


def enable(webhook: Webhook) -> int:
    """Tell it of events again; what was pending is sent now, with all its tries. Returns how much that is.

    What has happened while it was disabled is not on record for it: see `replay`.
    """
    now = timezone.now()
    with transaction.atomic():
        Webhook.objects.filter(pk=webhook.pk).update(
            enabled=True, disabled_reason="", failing_since=None, failures=0, next_attempt_at=None, updated_at=now
        )
        waiting = _pending(webhook).filter(lease=None).update(next_attempt_at=now, tries=0)
        changes.announce("webhook", webhook.tenant_id, webhook.pk)
    return waiting


def disable(webhook: Webhook, reason: str) -> None:
    """Tell it of nothing more; what is pending stays so until it is enabled again."""
    Webhook.objects.filter(pk=webhook.pk).update(enabled=False, disabled_reason=reason[:300], updated_at=timezone.now())
    changes.announce("webhook", webhook.tenant_id, webhook.pk)


def moved(webhook: Webhook) -> None:
    """Its address has changed: what was said of the old one says nothing of the new one."""
    Webhook.objects.filter(pk=webhook.pk).update(failures=0, failing_since=None, next_attempt_at=None)
    answers.send_now(webhook.pk, timezone.now())


def test(webhook: Webhook) -> Answer:
    """Send a test event now and wait for the answer, up to 20 seconds; nothing is recorded. Raises DecryptionError."""
    id_ = uuid7()
    body = payloads.as_json(payloads.of_test(id_, webhook.tenant, timezone.now()))
    return post.make_alone(post.request(webhook.url, webhook.secrets, body, str(id_), id_))


def replay(deliveries: QuerySet[WebhookDelivery]) -> int:
    """Send these again, with all their tries; those that are pending are sent now. Returns how many."""
    now, done = timezone.now(), 0
    keys = list(deliveries.filter(lease=None).order_by("pk").values_list("pk", flat=True)[: MOST_REPLAYED + 1])
    _refuse_too_many(len(keys))
    for page in _pages(keys):
        done += WebhookDelivery.objects.filter(pk__in=page, lease=None).update(
            status=WebhookDelivery.Status.PENDING, tries=0, next_attempt_at=now, finished_at=None
        )
    return done


def replay_failed(webhook: Webhook) -> int:
    """Send again what was given up."""
    return replay(WebhookDelivery.objects.filter(webhook=webhook, status=WebhookDelivery.Status.FAILED))


def recorded(webhook: Webhook, since: datetime, until: datetime) -> list[uuid.UUID]:
    """What this webhook wants of the events that were recorded from `since` (inclusive) to `until`. Raises
    ControlRefused for too many."""
    found = Event.objects.filter(tenant_id=webhook.tenant_id, pk__gte=first_at(since), pk__lt=first_at(until))
    wanted = []
    for id_, type_, account_id in found.order_by("pk").values_list("pk", "type", "message__account_id").iterator():
        if relay.wants(webhook, type_, account_id):
            wanted.append(id_)
            _refuse_too_many(len(wanted))
    return wanted


def replay_range(webhook: Webhook, since: datetime, until: datetime) -> int:
    """Send again everything that was recorded from `since` (inclusive) to `until`, also what the webhook was never told
    of because it was disabled, or not there yet. Returns how many events that is. Raises ControlRefused for too many.
    """
    wanted = recorded(webhook, since, until)
    for page in _pages(wanted):
        with transaction.atomic():
            replay(WebhookDelivery.objects.filter(webhook=webhook, event_id__in=page))
            relay.record_deliveries(page, timezone.now(), [webhook])
    return len(wanted)


def remove(webhook: Webhook) -> None:
    """Delete a webhook and everything it was sent, which may be a lot."""
    with transaction.atomic():
        deletion.rows(WebhookAttempt.objects.filter(delivery__webhook=webhook))
        deletion.rows(WebhookDelivery.objects.filter(webhook=webhook))
        webhook.delete()


def _pending(webhook: Webhook) -> QuerySet[WebhookDelivery]:
    return WebhookDelivery.objects.filter(webhook=webhook, next_attempt_at__isnull=False)


def _pages(keys: list[uuid.UUID]) -> Iterator[list[uuid.UUID]]:
    return (keys[start : start + PAGE] for start in range(0, len(keys), PAGE))


def _refuse_too_many(count: int) -> None:
    if count > MOST_REPLAYED:
        raise ControlRefused(f"More than {MOST_REPLAYED:,} events; choose a shorter time.")
