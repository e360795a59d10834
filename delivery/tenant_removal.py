"""What belonged to a tenant goes when its grace is over: bodies, messages, copies, everything else, the tenant (SEC-6).

In small transactions, as retention deletes (STO-5): a crash leaves a tenant with less, and the next turn goes on. The
audit stays, with the name the tenant had.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import structlog
from django.db import transaction
from django.db.models import Q, QuerySet
from django.utils import timezone

from accounts import audit, tenant_deletion
from accounts.models import Account, ApiKey, QuotaWarning, Tenant, User
from delivery import chores, deletion, queues, retention
from delivery.exceptions import StoreUnavailable
from delivery.models import (
    ArchiveCopy,
    BulkAction,
    EarlyEvent,
    Message,
    MessageStatus,
    OutboxEntry,
    Receipt,
    RefusedSession,
    Suppression,
    Total,
    Webhook,
    WebhookDelivery,
)
from providers.models import HealthEvent, Provider, RoutingRule

log = structlog.get_logger(__name__)

NAME = "tenant-removal"
EVERY = 60.0
ACTOR = "deletion of a tenant"

_Page = Callable[[QuerySet[Any], int], int]


def run(turn: chores.Turn) -> None:
    """Remove tenants that are due; see `delivery.chores`."""
    for tenant in tenant_deletion.due().order_by("deletes_at"):
        try:
            if not remove(tenant, turn):
                chores.again(NAME)
        except StoreUnavailable as error:
            log.error("removal of a tenant stopped by the message store", tenant_id=str(tenant.pk), error=str(error))
        if turn.out_of_time():
            return


def remove(tenant: Tenant, turn: chores.Turn) -> bool:
    """Delete a tenant with all it has, but for its audit; whether it is gone. Raises StoreUnavailable.

    What a worker has in hand is left for the next time: it ends, or its lease does.
    """
    pace = retention.Pace()
    for delete in (_messages, _copies):
        while count := delete(tenant):
            if turn.out_of_time():
                return False
            pace.wait(count)
    for rows, page in _others(tenant):
        while page(rows.all(), retention.BATCH):
            if turn.out_of_time():
                return False
    return not Message.objects.filter(tenant=tenant).exists() and _end(tenant)


def _messages(tenant: Tenant) -> int:
    in_hand = Q(status=MessageStatus.PROCESSING, next_attempt_at__gt=timezone.now())
    wanted = Message.objects.filter(tenant=tenant).exclude(in_hand)
    with transaction.atomic():
        kept = wanted.filter(body_deleted_at=None)
        keys = dict(deletion.locked(kept, retention.BATCH).values_list("pk", "store_key"))
        Message.objects.filter(pk__in=keys).update(body_deleted_at=timezone.now())
    retention.delete_from_store([key for key in keys.values() if key])
    return len(deletion.messages(wanted.filter(body_deleted_at__isnull=False), retention.BATCH))


def _copies(tenant: Tenant) -> int:
    keys = deletion.copies(ArchiveCopy.objects.filter(tenant=tenant), retention.BATCH)
    retention.delete_from_store([key for key in keys if key])
    return len(keys)


def _others(tenant: Tenant) -> list[tuple[QuerySet[Any], _Page]]:
    """What there may be much of, what belongs to a row before the row itself."""
    return [
        (WebhookDelivery.objects.filter(tenant=tenant), deletion.deliveries),
        (OutboxEntry.objects.filter(tenant=tenant), deletion.page),
        (Suppression.objects.filter(tenant=tenant), deletion.page),
        (Receipt.objects.filter(account__tenant=tenant), deletion.page),
        (BulkAction.objects.filter(tenant=tenant), deletion.page),
        (RefusedSession.objects.filter(tenant=tenant), deletion.page),
        (Total.objects.filter(tenant=tenant), deletion.page),
        (EarlyEvent.objects.filter(provider__tenant=tenant), deletion.page),
        (HealthEvent.objects.filter(provider__tenant=tenant), deletion.page),
        (QuotaWarning.objects.filter(tenant=tenant), deletion.page),
    ]


def _end(tenant: Tenant) -> bool:
    """The few rows that are left, and the tenant itself; False when somebody has taken it back."""
    with transaction.atomic():
        locked = tenant_deletion.due().select_for_update().filter(pk=tenant.pk).first()
        if locked is None:
            return False
        audit.record(ACTOR, "tenant.deleted", locked, {"name": [locked.name, None], "slug": [locked.slug, None]})
        for rows in (
            Webhook.objects.filter(tenant=tenant),
            RoutingRule.objects.filter(tenant=tenant),
            Provider.objects.filter(tenant=tenant),
            ApiKey.objects.filter(account__tenant=tenant),
            Account.objects.filter(tenant=tenant),
            User.objects.filter(tenant=tenant),
        ):
            rows.delete()
        locked.delete()
    log.info("tenant deleted", tenant_id=str(tenant.pk))
    return True


_every = chores.every(EVERY, NAME)


def _due() -> bool:
    return _every() and tenant_deletion.due().exists()


CHORE = chores.Chore(name=NAME, queue=queues.MAINTENANCE, due=_due, run=run)
