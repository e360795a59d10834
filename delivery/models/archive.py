"""What outlives the messages: archive copies (ARC-1), by what they are found (ARC-2), and totals (STO-5)."""

from __future__ import annotations

from typing import Any

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
    thread = models.UUIDField(null=True, blank=True, help_text="The same for copies of one conversation.")
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
            models.Index(fields=["mail_from", "-id"], name="archive_copy_sender"),
            models.Index(fields=["message_id_header"], name="archive_copy_message_id"),
            models.Index(fields=["thread", "id"], condition=Q(thread__isnull=False), name="archive_copy_thread"),
            # On PostgreSQL there is another, of the words of the subject: see the migrations.
        ]

    def __str__(self) -> str:
        return str(self.id)


class ArchiveRecipient(models.Model):
    """An address a copy was sent to, so that copies are found by it."""

    tenant_path = "copy__tenant"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    copy = models.ForeignKey(ArchiveCopy, on_delete=models.CASCADE, related_name="+")
    address = models.CharField(max_length=320)

    class Meta:
        ordering = ("id",)
        indexes = [models.Index(fields=["address", "-copy"], name="archive_recipient_address")]

    def __str__(self) -> str:
        return self.address


class WordsField(models.TextField):
    """Words to search for: given as a text, kept as a `tsvector` on PostgreSQL and as the text in lower case elsewhere.
    It is written and searched, and never read."""

    def db_type(self, connection: Any) -> str | None:
        return "tsvector" if connection.vendor == "postgresql" else super().db_type(connection)

    def get_prep_value(self, value: Any) -> Any:
        return str(value).lower()

    def get_placeholder(self, value: Any, compiler: Any, connection: Any) -> str:  # noqa: ARG002 -- Django's hook
        return "to_tsvector('simple', %s)" if connection.vendor == "postgresql" else "%s"


class ArchiveText(models.Model):
    """The words of a copy, where its tenant wants copies to be found by them. It goes with the copy."""

    copy = models.OneToOneField(ArchiveCopy, on_delete=models.CASCADE, primary_key=True, related_name="text")
    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="+")
    words = WordsField()

    def __str__(self) -> str:
        return str(self.copy_id)


class ArchiveReference(models.Model):
    """A Message-ID that copies of a thread have or refer to, whether there is a copy of that message or not (RFC 5322
    §3.6.4): by it the next copy finds its thread. It goes with the last copy of the thread."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="+", db_index=False)
    message_id = models.CharField(max_length=500)
    thread = models.UUIDField(db_index=True)

    class Meta:
        ordering = ("id",)
        constraints = [
            models.UniqueConstraint(fields=["tenant", "message_id"], name="archive_reference_once"),
        ]

    def __str__(self) -> str:
        return self.message_id


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
