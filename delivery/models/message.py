"""A message from acceptance to outcome: what we took, for whom, and what became of it.

Statuses are changed by `intake`, `sender` and `control` (and by provider callbacks) only, always beside an Event in
the same transaction.
"""

from __future__ import annotations

from typing import Any, ClassVar

from django.db import models
from django.db.models import Q

from accounts.crypto import EncryptedJSONField
from accounts.ids import uuid7
from accounts.models import Account, Tenant
from delivery import queues
from providers.fidelity import Fidelity
from providers.models import Provider


class MessageStatus(models.TextChoices):
    QUEUED = "queued"
    PROCESSING = "processing"
    RETRYING = "retrying"
    SCHEDULED = "scheduled"
    HELD = "held"
    DELIVERED = "delivered"
    PARTIAL = "partial"
    FAILED = "failed"
    REJECTED = "rejected"
    DISCARDED = "discarded"
    CANCELLED = "cancelled"
    DLQ = "dlq", "Dead letter"
    STORAGE_ERROR = "storage_error"
    ENQUEUE_FAILED = "enqueue_failed"


DUE_STATUSES = (MessageStatus.QUEUED, MessageStatus.PROCESSING, MessageStatus.RETRYING, MessageStatus.SCHEDULED)
"""What the sweeper looks at: each of these has a `next_attempt_at`."""
DEAD_LETTERS = (MessageStatus.DLQ, MessageStatus.STORAGE_ERROR, MessageStatus.ENQUEUE_FAILED)
ENDED_STATUSES = (
    MessageStatus.DELIVERED,
    MessageStatus.PARTIAL,
    MessageStatus.FAILED,
    MessageStatus.REJECTED,
    MessageStatus.DISCARDED,
    MessageStatus.CANCELLED,
    *DEAD_LETTERS,
)


class Message(models.Model):
    """What we took responsibility for. The raw bytes are in the message store under `store_key` (STO-7).

    `next_attempt_at` is when the message is to be looked at again, and None when it never is: a retry, a scheduled
    send and the lease of a worker are the same thing, a later `next_attempt_at` (DEL-2). `lease` names the claim that
    may record an outcome. `claims` counts claims since the last outcome (QUE-6), `tries` those that used up a retry.
    `rung_at` is when the sweeper last rang for it, so that a busy worker is not rung at again and again.
    """

    class Source(models.TextChoices):
        SMTP = "smtp"
        HTTP = "http"
        AMQP = "amqp"
        NOTICE = "notice", "Notice of ours"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    tenant = models.ForeignKey(Tenant, on_delete=models.PROTECT, related_name="messages", db_index=False)
    account = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="messages", db_index=False)
    status = models.CharField(max_length=16, choices=MessageStatus, default=MessageStatus.QUEUED)
    status_reason = models.CharField(max_length=500, blank=True)
    source = models.CharField(max_length=8, choices=Source, default=Source.SMTP)
    mail_from = models.CharField("envelope sender", max_length=320, blank=True)
    header_from = models.CharField(max_length=320, blank=True)
    subject = models.CharField(max_length=500, blank=True)
    message_id_header = models.CharField("Message-ID", max_length=500, blank=True)
    size = models.PositiveBigIntegerField(help_text="Octets as stored.")
    recipient_count = models.PositiveIntegerField()
    has_attachments = models.BooleanField(default=False, help_text="Guessed from Content-Type at acceptance.")
    smtputf8 = models.BooleanField("SMTPUTF8", default=False)
    queue = models.CharField(max_length=32, default=queues.FRESH, help_text="Decided at acceptance.")
    store_key = models.CharField(max_length=255)
    client_ip = models.GenericIPAddressField(null=True, blank=True)
    session_id = models.CharField(max_length=64, blank=True, help_text="Names the session in the log.")
    accepted_at = models.DateTimeField()
    scheduled_at = models.DateTimeField(null=True, blank=True)
    next_attempt_at = models.DateTimeField(null=True, blank=True)
    lease = models.UUIDField(null=True, blank=True)
    rung_at = models.DateTimeField(null=True, blank=True)
    claims = models.PositiveSmallIntegerField(default=0)
    tries = models.PositiveSmallIntegerField(default=0)
    attempts = models.PositiveIntegerField(default=0, help_text="Delivery logs so far.")
    released = models.BooleanField(default=False, help_text="A person released it: rules no longer hold it.")
    routed_to = models.ForeignKey(
        Provider,
        on_delete=models.SET_NULL,
        null=True,
        blank=True,
        related_name="+",
        db_index=False,
        help_text="A person chose this provider; rules are not asked.",
    )
    body_deleted_at = models.DateTimeField(null=True, blank=True, help_text="Its days were over; the row stays.")
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ("-id",)
        constraints = [
            models.CheckConstraint(condition=Q(status__in=MessageStatus.values), name="message_status_known"),
            models.CheckConstraint(
                condition=Q(status__in=DUE_STATUSES, next_attempt_at__isnull=False)
                | Q(~Q(status__in=DUE_STATUSES), next_attempt_at__isnull=True),
                name="message_due_has_a_time",
            ),
        ]
        indexes = [
            models.Index(fields=["next_attempt_at"], condition=Q(next_attempt_at__isnull=False), name="message_due"),
            # Few have one; a provider that is deleted asks who.
            models.Index(fields=["routed_to"], condition=Q(routed_to__isnull=False), name="message_routed_to"),
            models.Index(fields=["queue", "id"], condition=Q(status="queued"), name="message_fresh"),
            models.Index(fields=["tenant", "-id"], name="message_tenant_list"),
            models.Index(fields=["account", "-id"], name="message_account_list"),
            models.Index(fields=["tenant", "status", "-id"], name="message_tenant_status"),
            models.Index(fields=["status", "-id"], name="message_status_list"),
            # What people search by.
            models.Index(fields=["message_id_header"], name="message_message_id"),
            models.Index(fields=["mail_from", "-id"], name="message_sender"),
            # Of what has ended, and whose body is still kept: the oldest first is what retention looks for.
            models.Index(
                fields=["tenant", "finished_at"],
                condition=Q(finished_at__isnull=False, body_deleted_at__isnull=True),
                name="message_body_kept",
            ),
            # And of those whose body is gone. The order of keys would have it look at other tenants' rows as well.
            models.Index(
                fields=["tenant", "finished_at"],
                condition=Q(finished_at__isnull=False, body_deleted_at__isnull=False),
                name="message_row_kept",
            ),
        ]

    def __str__(self) -> str:
        return str(self.id)


class DeadLetters(models.Manager["DeadLetter"]):
    def get_queryset(self) -> models.QuerySet[DeadLetter]:
        return super().get_queryset().filter(status__in=DEAD_LETTERS)


class DeadLetter(Message):
    """A message that was given up: it used up its retries, or could not be sent at all (RET-5)."""

    objects: ClassVar[DeadLetters] = DeadLetters()

    class Meta:
        proxy = True
        ordering = ("-id",)


class RecipientStatus(models.TextChoices):
    PENDING = "pending"
    DELIVERED = "delivered"
    CONFIRMED = "confirmed"
    DEFERRED = "deferred"
    BOUNCED = "bounced"
    COMPLAINED = "complained"
    SUPPRESSED = "suppressed"
    FAILED = "failed"
    UNKNOWN = "unknown"


PENDING_STATUSES = (RecipientStatus.PENDING, RecipientStatus.DEFERRED, RecipientStatus.UNKNOWN)
"""Recipients an attempt still has to serve."""


class Recipient(models.Model):
    """One envelope address of a message and what became of it.

    `deferred` is ours (a temporary failure before any provider took the mail); `unknown` is an attempt whose answer was
    lost. What a provider tells later makes a recipient `confirmed`, `failed`, `bounced` or `complained`, and never
    pending again: see `delivery.precedence`.
    """

    tenant_path = "message__tenant"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    message = models.ForeignKey(Message, on_delete=models.CASCADE, related_name="recipients", db_index=False)
    address = models.CharField(max_length=320)
    status = models.CharField(max_length=16, choices=RecipientStatus, default=RecipientStatus.PENDING)
    provider = models.ForeignKey(
        Provider, on_delete=models.SET_NULL, null=True, blank=True, related_name="+", db_index=False
    )
    provider_message_id = models.CharField(max_length=255, blank=True)
    error_code = models.CharField(max_length=64, blank=True)
    error_text = models.CharField(max_length=1000, blank=True)
    delivered_at = models.DateTimeField(null=True, blank=True)
    updated_at = models.DateTimeField()

    class Meta:
        ordering = ("id",)
        constraints = [
            models.UniqueConstraint(fields=["message", "address"], name="recipient_once_in_message"),
            models.CheckConstraint(condition=Q(status__in=RecipientStatus.values), name="recipient_status_known"),
        ]
        indexes = [
            models.Index(
                fields=["provider", "provider_message_id"],
                condition=~Q(provider_message_id=""),
                name="recipient_provider_message",
            ),
            models.Index(fields=["address", "-id"], name="recipient_address"),
        ]

    def __str__(self) -> str:
        return self.address


class DeliveryLog(models.Model):
    """One attempt: one call to one provider for some recipients of one message (DEL-7).

    Written as `sending` before the call (DEL-5). `idempotency_key` is what the provider was told: this row's id, or the
    key of an earlier attempt whose answer was lost. `results` holds the outcome per recipient, `fidelity` and `lost`
    what the provider would do to the message (PRV-4), `removed` the headers it was not given (SMTP-8), `progress` what
    a send of several requests has done so far.
    """

    class Status(models.TextChoices):
        SENDING = "sending"
        DELIVERED = "delivered"
        PARTIAL = "partial"
        FAILED = "failed"
        RETRYING = "retrying"
        DLQ = "dlq", "Dead letter"
        UNKNOWN = "unknown"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    message = models.ForeignKey(Message, on_delete=models.CASCADE, related_name="delivery_logs", db_index=False)
    tenant = models.ForeignKey(Tenant, on_delete=models.PROTECT, related_name="+", db_index=False)
    account = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="+", db_index=False)
    provider = models.ForeignKey(
        Provider, on_delete=models.SET_NULL, null=True, blank=True, related_name="+", db_index=False
    )
    provider_name = models.CharField(max_length=100, blank=True)
    provider_type = models.CharField(max_length=32, blank=True)
    status = models.CharField(max_length=16, choices=Status, default=Status.SENDING)
    attempt_number = models.PositiveIntegerField()
    idempotency_key = models.UUIDField()
    recipients = models.JSONField(default=list)
    results = models.JSONField(default=dict, blank=True)
    fidelity = models.CharField(max_length=8, choices=[(f.value, f.value) for f in Fidelity], blank=True)
    lost = models.JSONField(default=list, blank=True)
    removed = models.JSONField("headers left out", default=list, blank=True)
    progress: models.Field[dict[str, Any] | None, dict[str, Any] | None] = EncryptedJSONField(
        null=True, blank=True, editable=False
    )
    provider_message_id = models.CharField(max_length=255, blank=True)
    response_code = models.PositiveIntegerField(null=True, blank=True)
    error_code = models.CharField(max_length=64, blank=True)
    error_text = models.CharField(max_length=1000, blank=True)
    duration_ms = models.PositiveIntegerField(null=True, blank=True)
    created_at = models.DateTimeField()
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ("-id",)
        constraints = [
            models.CheckConstraint(
                condition=Q(status__in=["sending", "delivered", "partial", "failed", "retrying", "dlq", "unknown"]),
                name="delivery_log_status_known",
            ),
        ]
        indexes = [
            models.Index(fields=["message", "id"], name="delivery_log_message"),
            models.Index(fields=["account", "-id"], name="delivery_log_account_list"),
            models.Index(fields=["tenant", "-id"], name="delivery_log_tenant_list"),
            # Those that are few, so that a list of them does not go through all the others.
            models.Index(
                fields=["tenant", "status", "-id"],
                condition=Q(status__in=["sending", "partial", "failed", "retrying", "dlq", "unknown"]),
                name="delivery_log_tenant_rare",
            ),
            models.Index(
                fields=["status", "-id"],
                condition=Q(status__in=["sending", "partial", "failed", "retrying", "dlq", "unknown"]),
                name="delivery_log_rare",
            ),
            models.Index(fields=["provider", "status"], name="delivery_log_provider"),
        ]

    def __str__(self) -> str:
        return f"{self.provider_name} #{self.attempt_number}"
