"""What of a tenant's is over: its days have passed, and nobody needs it any more (STO-5).

Each query begins with an index of the tenant's own rows, the oldest first; what must wait is passed over.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from django.db.models import Exists, OuterRef, Q, QuerySet

from accounts.ids import first_at, time_of
from accounts.models import Tenant
from delivery import hours
from delivery.models import (
    DEAD_LETTERS,
    ENDED_STATUSES,
    ArchiveCopy,
    Event,
    Message,
    Notice,
    OutboxEntry,
    WebhookDelivery,
)

CLOCKS = timedelta(minutes=10)
"""How far an event may be older than its entry in the outbox: a transaction that is tried again, and our clocks."""


def bodies(tenant: Tenant, now: datetime) -> QuerySet[Message]:
    """Messages whose body is kept and need not be any longer."""
    dead = now - timedelta(days=tenant.dead_letter_days)
    ended = [status for status in ENDED_STATUSES if status not in DEAD_LETTERS]
    over = Q(status__in=ended, finished_at__lt=now - timedelta(days=tenant.body_days))
    over |= Q(status__in=DEAD_LETTERS, finished_at__lt=dead)
    of_message = {"message": OuterRef("pk")}
    # A copy that could not be made may be tried again by a person for as long as a dead letter.
    wanted = Q(status=ArchiveCopy.Status.PENDING) | Q(status=ArchiveCopy.Status.FAILED, created_at__gte=dead)
    return Message.objects.filter(
        over,
        ~Exists(Notice.objects.filter(status=Notice.Status.PENDING, **of_message)),
        ~Exists(ArchiveCopy.objects.filter(wanted, **of_message)),
        tenant=tenant,
        body_deleted_at=None,
        finished_at__lt=now - timedelta(days=min(tenant.body_days, tenant.dead_letter_days)),
    )


def messages(tenant: Tenant, now: datetime) -> QuerySet[Message]:
    """Messages that may go with all their rows: ended, their body gone, all that happened to them added up for good,
    and everybody told who is to be (EVT-4, DEL-10). A webhook that is disabled is told no more: what waits for it keeps
    nothing."""
    settled = hours.settled_until()
    if settled is None:
        return Message.objects.none()
    wanted: list[QuerySet[Any]] = [
        WebhookDelivery.objects.filter(
            status=WebhookDelivery.Status.PENDING, webhook__enabled=True, event__message_id=OuterRef("pk")
        ),
        Notice.objects.filter(status=Notice.Status.PENDING, message=OuterRef("pk")),
    ]
    # What providers tell may come long after the end of a message.
    since = min(settled, hours.made_again_from(now))
    oldest = OutboxEntry.objects.order_by("pk").values_list("pk", flat=True).first()
    if oldest is not None:
        # An entry is written with its event: no older event waits, however many entries there are.
        since = min(since, time_of(oldest) - CLOCKS)
    wanted.append(Event.objects.filter(message_id=OuterRef("pk"), pk__gte=first_at(since)))
    return Message.objects.filter(
        *(~Exists(found) for found in wanted),
        tenant=tenant,
        status__in=ENDED_STATUSES,
        finished_at__lt=min(now - timedelta(days=tenant.row_days), settled),
        body_deleted_at__isnull=False,
    )


def copies(tenant: Tenant, now: datetime) -> QuerySet[ArchiveCopy]:
    """Archive copies the tenant does not want any longer; none where it wants them for ever."""
    if tenant.archive_days is None:
        return ArchiveCopy.objects.none()
    cutoff = now - timedelta(days=tenant.archive_days)
    old = ArchiveCopy.objects.filter(tenant=tenant, created_at__lt=cutoff)
    return old.exclude(status=ArchiveCopy.Status.PENDING)
