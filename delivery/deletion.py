"""Deleting rows in bulk, what belongs to a row before the row itself (STO-5).

Django's own deletion loads every row and all that belongs to it. Here each table is one statement for a whole page.
"""

from __future__ import annotations

import uuid
from typing import Any

from django.db import transaction
from django.db.models import QuerySet

from delivery.models import (
    ArchiveCopy,
    ArchiveRecipient,
    ArchiveReference,
    ArchiveText,
    DeliveryLog,
    Event,
    Message,
    Notice,
    Recipient,
    Suppression,
    WebhookAttempt,
    WebhookDelivery,
)


def messages(wanted: QuerySet[Message], limit: int) -> list[uuid.UUID]:
    """Delete up to `limit` of these messages with all that belongs to them, those that ended first, in one transaction;
    returns their ids. What somebody holds locked is left."""
    with transaction.atomic():
        ids = list(locked(wanted, limit).values_list("pk", flat=True))
        if not ids:
            return []
        if WebhookDelivery.objects.filter(event__message_id__in=ids).exists():
            rows(WebhookAttempt.objects.filter(delivery__event__message_id__in=ids))
            rows(WebhookDelivery.objects.filter(event__message_id__in=ids))
        Suppression.objects.filter(message_id__in=ids).update(message=None)
        for model in (Event, Notice, DeliveryLog, Recipient):
            rows(model._default_manager.filter(message_id__in=ids))
        rows(Message.objects.filter(pk__in=ids))
    return ids


def locked(wanted: QuerySet[Message], limit: int) -> QuerySet[Message]:
    """Up to `limit` of these messages, those that ended first, locked until the transaction ends.

    They are looked at once more when they are locked: who waits for a message may have said so, in another table, since
    the statement that locked it began. From then on that table's reference to the message waits for us.
    """
    first = wanted.select_for_update(skip_locked=True, of=("self",)).order_by("finished_at")
    return wanted.filter(pk__in=list(first.values_list("pk", flat=True)[:limit]))


def copies(wanted: QuerySet[ArchiveCopy], limit: int) -> list[str]:
    """Delete the rows of up to `limit` of these archive copies, in one transaction; returns the keys of their
    octets, which are to be deleted afterwards, "" where there are none."""
    with transaction.atomic():
        first = wanted.select_for_update(skip_locked=True).order_by("created_at")
        found = {pk: (key, thread) for pk, key, thread in first.values_list("pk", "store_key", "thread")[:limit]}
        rows(ArchiveText.objects.filter(copy_id__in=found))
        rows(ArchiveRecipient.objects.filter(copy_id__in=found))
        rows(ArchiveCopy.objects.filter(pk__in=found))
        threads = {thread for _, thread in found.values() if thread is not None}
        others = ArchiveCopy.objects.filter(thread__in=threads).order_by().values_list("thread", flat=True)
        rows(ArchiveReference.objects.filter(thread__in=threads.difference(others.distinct())))
    return [key for key, _ in found.values()]


def texts(tenant_id: uuid.UUID, limit: int) -> int:
    """Delete up to `limit` of the texts of a tenant's copies; returns how many."""
    return page(ArchiveText.objects.filter(tenant=tenant_id), limit)


def deliveries(wanted: QuerySet[WebhookDelivery], limit: int) -> int:
    """Delete up to `limit` of these deliveries to webhooks with their attempts, in one transaction."""
    with transaction.atomic():
        ids = _oldest(wanted, limit)
        rows(WebhookAttempt.objects.filter(delivery_id__in=ids))
        return rows(WebhookDelivery.objects.filter(pk__in=ids))


def page(wanted: QuerySet[Any], limit: int) -> int:
    """Delete up to `limit` of these rows, to which nothing belongs, the oldest first; returns how many."""
    with transaction.atomic():
        ids = _oldest(wanted, limit)
        return rows(wanted.model._default_manager.filter(pk__in=ids)) if ids else 0


def _oldest(wanted: QuerySet[Any], limit: int) -> list[Any]:
    """Locked, so that nobody makes something of them again that is still to be done."""
    oldest = wanted.select_for_update(skip_locked=True).order_by("pk")
    return list(oldest.values_list("pk", flat=True)[:limit])


def rows(found: QuerySet[Any]) -> int:
    """Delete these rows by one statement, whatever belongs to them: that has to be gone already."""
    return found._raw_delete(found.db)
