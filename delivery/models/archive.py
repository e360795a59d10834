"""What outlives the messages: archive copies (ARC-1) and totals (STO-5)."""

from __future__ import annotations

from django.db import models
from django.db.models import Q

from accounts.ids import uuid7
from accounts.models import Account, Tenant
from delivery.models.message import DeliveryLog, Message
from providers.models import Provider


class ArchiveCopy(models.Model):
    """A compressed, encrypted copy of what was sent in one attempt. The octets are in the message store under
    `store_key`; `size` and `checksum` (SHA-256, hexadecimal) are of the MIME before compression."""

    class Status(models.TextChoices):
        PENDING = "pending"
        KEPT = "kept"
        FAILED = "failed"

    class Origin(models.TextChoices):
        SENT = "sent", "As we sent it"
        FETCHED = "fetched", "As the provider keeps it"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    tenant = models.ForeignKey(Tenant, on_delete=models.PROTECT, related_name="+", db_index=False)
    account = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="+", db_index=False)
    # Copies outlive messages and attempts: without constraints those can be deleted with no look at this table.
    message = models.ForeignKey(
        Message, on_delete=models.DO_NOTHING, related_name="archive_copies", db_constraint=False
    )
    delivery_log = models.OneToOneField(DeliveryLog, on_delete=models.DO_NOTHING, related_name="+", db_constraint=False)
    provider = models.ForeignKey(
        Provider, on_delete=models.SET_NULL, null=True, blank=True, related_name="+", db_index=False
    )
    provider_name = models.CharField(max_length=100, blank=True)
    provider_message_id = models.CharField(max_length=255, blank=True)
    status = models.CharField(max_length=8, choices=Status, default=Status.PENDING)
    origin = models.CharField(max_length=8, choices=Origin, default=Origin.SENT)
    store_key = models.CharField(max_length=255, blank=True)
    size = models.PositiveBigIntegerField(null=True, blank=True, help_text="Octets before compression.")
    stored_size = models.PositiveBigIntegerField(null=True, blank=True, help_text="Octets as stored.")
    compression = models.CharField(max_length=8, default="gzip")
    checksum = models.CharField("SHA-256", max_length=64, blank=True)
    mail_from = models.CharField("envelope sender", max_length=320, blank=True)
    header_from = models.CharField(max_length=320, blank=True)
    recipients = models.JSONField(default=list)
    subject = models.CharField(max_length=500, blank=True)
    message_id_header = models.CharField("Message-ID", max_length=500, blank=True)
    tries = models.PositiveSmallIntegerField(default=0)
    next_attempt_at = models.DateTimeField(null=True, blank=True)
    error_text = models.CharField(max_length=500, blank=True)
    created_at = models.DateTimeField()
    kept_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        verbose_name_plural = "archive copies"
        ordering = ("-id",)
        constraints = [
            models.UniqueConstraint(
                fields=["provider", "provider_message_id"],
                condition=~Q(provider_message_id=""),
                name="archive_copy_once",
            ),
            models.CheckConstraint(
                condition=Q(status__in=["pending", "kept", "failed"]), name="archive_copy_status_known"
            ),
        ]
        indexes = [
            models.Index(
                fields=["next_attempt_at"], condition=Q(next_attempt_at__isnull=False), name="archive_copy_due"
            ),
            models.Index(fields=["tenant", "-id"], name="archive_copy_tenant"),
            models.Index(fields=["tenant", "created_at"], name="archive_copy_age"),
            models.Index(fields=["mail_from"], name="archive_copy_sender"),
            models.Index(fields=["message_id_header"], name="archive_copy_message_id"),
        ]

    def __str__(self) -> str:
        return str(self.id)


class ArchiveRecipient(models.Model):
    """An address a copy was sent to, so that copies are found by it."""

    tenant_path = "copy__tenant"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    copy = models.ForeignKey(ArchiveCopy, on_delete=models.CASCADE, related_name="+")
    address = models.CharField(max_length=320, db_index=True)

    class Meta:
        ordering = ("id",)

    def __str__(self) -> str:
        return self.address


class Total(models.Model):
    """What happened in one hour (UTC), added up, so that it is known when the rows are gone.

    One row for each account, provider and `what`, the words of which are in `delivery.hours`, as is how to read
    `durations`, which counts attempts by duration. An account that is deleted leaves them with the tenant.
    """

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    hour = models.DateTimeField()
    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="+", db_index=False)
    account = models.ForeignKey(
        Account, on_delete=models.SET_NULL, null=True, blank=True, related_name="+", db_index=False
    )
    provider = models.ForeignKey(
        Provider, on_delete=models.SET_NULL, null=True, blank=True, related_name="+", db_index=False
    )
    provider_name = models.CharField(max_length=100, blank=True)
    what = models.CharField(max_length=24)
    count = models.PositiveIntegerField()
    recipients = models.PositiveIntegerField(default=0)
    octets = models.PositiveBigIntegerField(default=0)
    duration_ms = models.PositiveBigIntegerField(default=0, help_text="Of all attempts together.")
    durations = models.JSONField(default=list, blank=True)

    class Meta:
        ordering = ("-hour", "id")
        indexes = [
            models.Index(fields=["tenant", "-hour"], name="total_tenant"),
            models.Index(fields=["-hour"], name="total_hour"),
        ]

    def __str__(self) -> str:
        return f"{self.hour:%Y-%m-%d %H} {self.what}"
