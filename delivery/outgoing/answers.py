"""What becomes of deliveries to webhooks, and of the webhooks, when requests have been made (EVT-3).

A delivery that fails is tried again after 10 seconds, 1, 5, 15 and 30 minutes and then every hour, for about a day. A
webhook that does nothing but fail is asked less often, one request at a time, and its other deliveries wait without
using up tries; after a day of that it is disabled, and they stay pending until somebody enables it again.
"""

from __future__ import annotations

import random
import uuid
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog
from django.db import transaction
from django.db.models import Count, F, Q
from django.db.models.functions import Coalesce
from django.utils import timezone

from accounts import audit, changes
from delivery.models import Webhook, WebhookAttempt, WebhookDelivery
from delivery.outgoing.post import Answer

log = structlog.get_logger(__name__)

WAITS = (10, 60, 300, 900, 1800, *[3600] * 23)
"""Seconds before each further try: a day in all. Each is made longer or shorter by a fifth at random."""
LONGEST_WAIT = 3600.0
"""Seconds that a receiver's Retry-After may put a delivery off."""
FAILING = 5
"""Failures one after the other after which a webhook is asked one request at a time."""
LONGEST_PAUSE = timedelta(minutes=5)
GIVEN_UP_AFTER = timedelta(hours=24)
FEWEST_FAILURES = 10
"""A webhook that was rarely called is not given up for less."""
MOST_ATTEMPTS = 50
"""Attempts kept of one delivery, the newest."""
ACTOR = "smtpproxy"
GONE = "It answered 410 Gone."


@dataclass(slots=True)
class Answered:
    """A delivery as it was claimed, and what came of its request."""

    delivery: WebhookDelivery
    answer: Answer


def record(answered: Sequence[Answered]) -> None:
    """Write down what was answered, in one transaction. Whoever holds a delivery now: that it arrived is certain, that
    it did not counts only while the lease is ours."""
    now = timezone.now()
    by_webhook: dict[uuid.UUID, list[Answered]] = defaultdict(list)
    for one in answered:
        by_webhook[one.delivery.webhook_id].append(one)
    with transaction.atomic():
        # In the order of keys, so that two workers never wait for each other in a circle.
        here = set(Webhook.objects.filter(pk__in=by_webhook).values_list("pk", flat=True))
        for webhook_id in sorted(here & by_webhook.keys()):
            _of_webhook(webhook_id, sorted(by_webhook[webhook_id], key=lambda one: one.delivery.pk), now)


def _of_webhook(webhook_id: uuid.UUID, answered: Sequence[Answered], now: datetime) -> None:
    good = [one.delivery.pk for one in answered if one.answer.good]
    # Locked, so that nobody deletes them before their attempts are written.
    ours = WebhookDelivery.objects.filter(pk__in=[one.delivery.pk for one in answered]).order_by("pk")
    known = set(ours.select_for_update(no_key=True).values_list("pk", flat=True))
    WebhookAttempt.objects.bulk_create(
        WebhookAttempt(
            delivery_id=one.delivery.pk,
            response_code=one.answer.status,
            error_text="" if one.answer.good else one.answer.text[:500],
            duration_ms=one.answer.duration_ms,
            created_at=now,
        )
        for one in answered
        if one.delivery.pk in known
    )
    _forget_old_attempts(known)
    WebhookDelivery.objects.filter(pk__in=good).exclude(status=WebhookDelivery.Status.DELIVERED).update(
        status=WebhookDelivery.Status.DELIVERED, tries=F("tries") + 1, next_attempt_at=None, lease=None, finished_at=now
    )
    for one in answered:
        if not one.answer.good:
            _failed(one, now)
    if good:
        _works(webhook_id, now)
    else:
        _fails(webhook_id, answered, now)


def _failed(one: Answered, now: datetime) -> None:
    delivery, tries = one.delivery, one.delivery.tries + 1
    held = WebhookDelivery.objects.filter(pk=delivery.pk, lease=delivery.lease, status=WebhookDelivery.Status.PENDING)
    if tries > len(WAITS):
        held.update(
            status=WebhookDelivery.Status.FAILED, tries=tries, next_attempt_at=None, lease=None, finished_at=now
        )
        log.error("webhook delivery failed", delivery_id=str(delivery.pk), webhook_id=str(delivery.webhook_id))
        return
    seconds = WAITS[tries - 1] * random.uniform(0.8, 1.2)
    if one.answer.retry_after is not None:
        seconds = max(seconds, min(one.answer.retry_after, LONGEST_WAIT))
    held.update(tries=tries, next_attempt_at=now + timedelta(seconds=seconds), lease=None)


def _works(webhook_id: uuid.UUID, now: datetime) -> None:
    """It has answered. When it had failed before, what waits for it is sent now."""
    troubled = Q(failures__gt=0) | Q(failing_since__isnull=False) | Q(next_attempt_at__isnull=False)
    before = Webhook.objects.filter(troubled, pk=webhook_id).values_list("failures", flat=True).first()
    if before is None:
        return
    Webhook.objects.filter(pk=webhook_id).update(failures=0, failing_since=None, next_attempt_at=None)
    if before >= FAILING:
        log.info("webhook works again", webhook_id=str(webhook_id))
        send_now(webhook_id, now)


def send_now(webhook_id: uuid.UUID, now: datetime) -> int:
    """Everything that waits for a later try is due now; returns how many."""
    waiting = WebhookDelivery.objects.filter(webhook_id=webhook_id, next_attempt_at__gt=now, lease=None)
    return waiting.update(next_attempt_at=now)


def _fails(webhook_id: uuid.UUID, answered: Sequence[Answered], now: datetime) -> None:
    Webhook.objects.filter(pk=webhook_id).update(
        failures=F("failures") + len(answered), failing_since=Coalesce("failing_since", now)
    )
    webhook = Webhook.objects.defer("secrets").get(pk=webhook_id)
    first = next((one.answer for one in answered if one.answer.status == 410), answered[-1].answer)
    since = webhook.failing_since or now
    log.warning(
        "webhook failed",
        webhook_id=str(webhook_id),
        tenant_id=str(webhook.tenant_id),
        status_code=first.status,
        error=first.text,
        failures=webhook.failures,
    )
    if first.status == 410:
        _disable(webhook, GONE)
    elif now - since >= GIVEN_UP_AFTER and webhook.failures >= FEWEST_FAILURES:
        _disable(webhook, f"It has failed since {since:%Y-%m-%d %H:%M} UTC. The last time: {_told(first)}")
    elif webhook.failures >= FAILING:
        pause = min(timedelta(seconds=10 * 2 ** min(webhook.failures - FAILING, 10)), LONGEST_PAUSE)
        Webhook.objects.filter(pk=webhook_id).update(next_attempt_at=now + pause)


def _told(answer: Answer) -> str:
    return f"{answer.status} {answer.text}".strip() if answer.status else answer.text


def _disable(webhook: Webhook, reason: str) -> None:
    changed = Webhook.objects.filter(pk=webhook.pk, enabled=True).update(enabled=False, disabled_reason=reason[:300])
    if not changed:
        return
    audit.record(ACTOR, "webhook.disabled", webhook, {"enabled": [True, False], "reason": reason[:300]})
    changes.announce("webhook", webhook.tenant_id, webhook.pk)
    log.error("webhook disabled", webhook_id=str(webhook.pk), tenant_id=str(webhook.tenant_id), reason=reason[:300])


def _forget_old_attempts(delivery_ids: Iterable[uuid.UUID]) -> None:
    attempts = WebhookAttempt.objects.filter(delivery_id__in=delivery_ids).order_by()
    counted = attempts.values("delivery_id").annotate(attempts=Count("pk")).filter(attempts__gt=MOST_ATTEMPTS)
    for delivery_id in [row["delivery_id"] for row in counted]:
        newest = WebhookAttempt.objects.filter(delivery_id=delivery_id).order_by("-pk")[:MOST_ATTEMPTS]
        kept = list(newest.values_list("pk", flat=True))
        WebhookAttempt.objects.filter(delivery_id=delivery_id).exclude(pk__in=kept).delete()
