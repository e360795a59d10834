"""Facts in the life of a message, ours and told by providers."""

from __future__ import annotations

from django.db import models
from django.db.models import Q

from accounts.ids import uuid7
from accounts.models import Tenant
from delivery.models.message import DeliveryLog, Message, Recipient
from providers.models import Provider


class EventType(models.TextChoices):
    RECEIVED = "received"
    SCHEDULED = "scheduled"
    HELD = "held"
    RELEASED = "released"
    RETRYING = "retrying"
    DELIVERED = "delivered"
    PARTIAL = "partial"
    FAILED = "failed"
    REJECTED = "rejected"
    DISCARDED = "discarded"
    CANCELLED = "cancelled"
    DEAD_LETTER = "dead_letter"
    SUPPRESSED = "suppressed"
    CONFIRMED = "confirmed"
    DEFERRED = "deferred"
    BOUNCED = "bounced"
    COMPLAINED = "complained"
    OPENED = "opened"
    CLICKED = "clicked"
    UNSUBSCRIBED = "unsubscribed"


RARE = [type_ for type_ in EventType.values if type_ not in ("received", "delivered", "confirmed", "opened", "clicked")]
"""What few messages go through."""


class Event(models.Model):
    """One fact in the life of a message, ours or told by a provider. Rows are only appended.

    `provider_event_id` makes a repeated callback recognisable.
    """

    account_path = "message__account"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="+", db_index=False)
    message = models.ForeignKey(Message, on_delete=models.CASCADE, related_name="events", db_index=False)
    # Events are found by message. Without constraints on these two, deleting old messages needs no index on them.
    recipient = models.ForeignKey(
        Recipient,
        on_delete=models.DO_NOTHING,
        null=True,
        blank=True,
        related_name="+",
        db_index=False,
        db_constraint=False,
    )
    delivery_log = models.ForeignKey(
        DeliveryLog,
        on_delete=models.DO_NOTHING,
        null=True,
        blank=True,
        related_name="+",
        db_index=False,
        db_constraint=False,
    )
    provider = models.ForeignKey(
        Provider, on_delete=models.SET_NULL, null=True, blank=True, related_name="+", db_index=False
    )
    type = models.CharField(max_length=16, choices=EventType)
    data = models.JSONField(default=dict, blank=True)
    provider_event_id = models.CharField(max_length=255, blank=True)
    occurred_at = models.DateTimeField()

    class Meta:
        ordering = ("id",)
        constraints = [
            models.CheckConstraint(condition=Q(type__in=EventType.values), name="event_type_known"),
            models.UniqueConstraint(
                fields=["provider", "provider_event_id"],
                condition=~Q(provider_event_id=""),
                name="event_told_once_by_provider",
            ),
        ]
        indexes = [
            models.Index(fields=["message", "id"], name="event_message"),
            models.Index(fields=["tenant", "-id"], name="event_tenant"),
            # Those that are few, so that a list of them does not go through all the others.
            models.Index(fields=["tenant", "type", "-id"], condition=Q(type__in=RARE), name="event_tenant_rare"),
            models.Index(fields=["type", "-id"], condition=Q(type__in=RARE), name="event_rare"),
        ]

    def __str__(self) -> str:
        return str(self.type)


class EarlyEvent(models.Model):
    """What a provider told of a message while a call to it was still under way: its id is not known here yet (EVT-1).

    It is matched once the outcome of that call is recorded, and forgotten after a while when none has that id. `told`
    is a `providers.webhooks.ProviderEvent` as JSON.
    """

    tenant_path = "provider__tenant"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    provider = models.ForeignKey(Provider, on_delete=models.CASCADE, related_name="+", db_index=False)
    provider_event_id = models.CharField(max_length=255)
    told = models.JSONField()
    received_at = models.DateTimeField()

    class Meta:
        ordering = ("id",)
        constraints = [
            models.UniqueConstraint(fields=["provider", "provider_event_id"], name="early_event_kept_once"),
        ]

    def __str__(self) -> str:
        return self.provider_event_id
