"""What goes out to subscribers: the outbox, tenants' webhooks and each delivery to them (EVT-3, EVT-4)."""

from __future__ import annotations

from typing import Any

from django.db import models
from django.db.models import Q

from accounts.crypto import EncryptedJSONField
from accounts.ids import uuid7
from accounts.models import Account, Row, Tenant
from delivery.models.event import Event
from delivery.models.message import DeliveryLog


class OutboxEntry(models.Model):
    """An event, or the outcome of an attempt, still to be handed to subscribers: written in the transaction of what it
    tells of, and deleted once the broker has confirmed it, or a delivery is on record for each webhook that wants it.

    One for each channel, so that neither waits for the other. What it points at may be deleted before it is handed on:
    no constraint stands in the way of that, and there is nothing left to tell.
    """

    class Channel(models.TextChoices):
        BROKER = "broker"
        WEBHOOKS = "webhooks"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="+", db_index=False)
    channel = models.CharField(max_length=8, choices=Channel)
    event = models.ForeignKey(
        Event,
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
    lease_until = models.DateTimeField(null=True, blank=True)

    class Meta:
        verbose_name_plural = "outbox entries"
        ordering = ("id",)
        constraints = [
            models.CheckConstraint(condition=Q(channel__in=["broker", "webhooks"]), name="outbox_channel_known"),
        ]
        indexes = [models.Index(fields=["channel", "id"], name="outbox_channel")]

    def __str__(self) -> str:
        return str(self.event_id or self.delivery_log_id)


class Webhook(Row):
    """Where a tenant wants its events posted, signed with a secret that can be rotated.

    `secrets` holds {"current": …} and, during a rotation, {"previous": …, "previous_until": ISO time}. `failing_since`
    is the first failure after the last success, `failures` how many there were since then, and `next_attempt_at` when
    one that fails is asked again; a webhook that fails for too long is disabled, and says why.
    """

    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="webhooks")
    account = models.ForeignKey(
        Account,
        on_delete=models.CASCADE,
        null=True,
        blank=True,
        related_name="webhooks",
        help_text="Only events of this account's messages; empty: of all.",
    )
    name = models.CharField(max_length=100)
    url = models.URLField("URL", max_length=500)
    event_types = models.JSONField(default=list, blank=True, help_text="Empty: every type.")
    secrets: models.Field[dict[str, Any], dict[str, Any]] = EncryptedJSONField(default=dict, editable=False)
    enabled = models.BooleanField(default=True)
    failing_since = models.DateTimeField(null=True, blank=True, editable=False)
    failures = models.PositiveIntegerField(default=0, editable=False)
    next_attempt_at = models.DateTimeField(null=True, blank=True, editable=False)
    disabled_reason = models.CharField(max_length=300, blank=True, editable=False)

    class Meta:
        ordering = ("name",)
        constraints = [
            models.UniqueConstraint(
                fields=["tenant", "name"],
                name="webhook_name_unique_in_tenant",
                violation_error_code="field:name",
                violation_error_message="There is a webhook of this name.",
            ),
        ]

    def __str__(self) -> str:
        return self.name


class WebhookDelivery(models.Model):
    """One event on its way to one webhook. `next_attempt_at` is when it is due, None when it never is."""

    account_path = "webhook__account"

    class Status(models.TextChoices):
        PENDING = "pending"
        DELIVERED = "delivered"
        FAILED = "failed"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="+", db_index=False)
    webhook = models.ForeignKey(Webhook, on_delete=models.CASCADE, related_name="deliveries", db_index=False)
    event = models.ForeignKey(Event, on_delete=models.CASCADE, related_name="webhook_deliveries")
    status = models.CharField(max_length=16, choices=Status, default=Status.PENDING)
    tries = models.PositiveSmallIntegerField(default=0)
    next_attempt_at = models.DateTimeField(null=True, blank=True)
    lease = models.UUIDField(null=True, blank=True)
    created_at = models.DateTimeField()
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        verbose_name_plural = "webhook deliveries"
        ordering = ("-id",)
        constraints = [
            models.UniqueConstraint(fields=["webhook", "event"], name="webhook_delivery_once"),
            models.CheckConstraint(
                condition=Q(status__in=["pending", "delivered", "failed"]), name="webhook_delivery_status_known"
            ),
            models.CheckConstraint(
                condition=Q(status="pending", next_attempt_at__isnull=False)
                | Q(~Q(status="pending"), next_attempt_at__isnull=True),
                name="webhook_delivery_due_has_a_time",
            ),
        ]
        indexes = [
            models.Index(
                fields=["next_attempt_at"], condition=Q(next_attempt_at__isnull=False), name="webhook_delivery_due"
            ),
            models.Index(
                fields=["webhook", "next_attempt_at"],
                condition=Q(next_attempt_at__isnull=False),
                name="webhook_delivery_next",
            ),
            models.Index(fields=["webhook", "-id"], name="webhook_delivery_list"),
            models.Index(fields=["tenant", "-id"], name="webhook_delivery_tenant"),
        ]

    def __str__(self) -> str:
        return str(self.id)


class WebhookAttempt(models.Model):
    """One request to a webhook, and what it answered."""

    tenant_path = "delivery__tenant"
    account_path = "delivery__webhook__account"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    delivery = models.ForeignKey(WebhookDelivery, on_delete=models.CASCADE, related_name="attempts")
    response_code = models.PositiveIntegerField(null=True, blank=True)
    error_text = models.CharField(max_length=500, blank=True)
    duration_ms = models.PositiveIntegerField(null=True, blank=True)
    created_at = models.DateTimeField()

    class Meta:
        ordering = ("id",)

    def __str__(self) -> str:
        return str(self.response_code or self.error_text)
