"""What is done with messages beside sending them: bulk actions, caps of queues, receipts, notices."""

from __future__ import annotations

from django.core.exceptions import ValidationError
from django.core.validators import MinValueValidator
from django.db import models
from django.db.models import Q

from accounts.ids import uuid7
from accounts.models import Account, Row, Tenant, User
from delivery import queues
from delivery.models.message import Message


class BulkAction(Row):
    """An action on every message a filter finds, a page at a time, so that it can be watched, paused and stopped
    (DEL-9). `until` is the newest message it may touch and `cursor` the last it has looked at."""

    class Action(models.TextChoices):
        HOLD = "hold"
        RELEASE = "release"
        RETRY = "retry"
        CANCEL = "cancel"
        REROUTE = "reroute", "Re-route"
        REPROCESS = "reprocess"

    class Status(models.TextChoices):
        RUNNING = "running"
        PAUSED = "paused"
        DONE = "done"
        STOPPED = "stopped"

    tenant = models.ForeignKey(
        Tenant, on_delete=models.CASCADE, null=True, blank=True, related_name="+", help_text="Empty: every tenant."
    )
    actor = models.ForeignKey(User, on_delete=models.SET_NULL, null=True, blank=True, related_name="+")
    actor_label = models.CharField(max_length=255, help_text="The actor's address or the command, kept when they go.")
    by_command = models.BooleanField(default=False, help_text="Begun at the command line: nobody's role is asked for.")
    action = models.CharField(max_length=16, choices=Action)
    filters = models.JSONField(default=dict)
    parameters = models.JSONField(default=dict, blank=True)
    status = models.CharField(max_length=16, choices=Status, default=Status.RUNNING)
    note = models.CharField(max_length=500, blank=True, help_text="Why it was stopped.")
    pace = models.PositiveIntegerField(
        "messages per minute", null=True, blank=True, validators=[MinValueValidator(1)], help_text="Empty: at once."
    )
    counted = models.PositiveIntegerField("found", default=0, help_text="Messages when it was begun.")
    changed = models.PositiveIntegerField(default=0)
    refused = models.PositiveIntegerField(default=0)
    reasons = models.JSONField(default=dict, blank=True, help_text="Why messages were left as they are, and how many.")
    cursor = models.UUIDField(null=True, blank=True)
    until = models.UUIDField(null=True, blank=True)
    next_page_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ("-id",)
        constraints = [
            models.CheckConstraint(
                condition=Q(status__in=["running", "paused", "done", "stopped"]), name="bulk_action_status_known"
            ),
        ]
        indexes = [
            models.Index(fields=["next_page_at"], condition=Q(next_page_at__isnull=False), name="bulk_action_due"),
        ]

    def __str__(self) -> str:
        return f"{self.action} of {self.counted:,}"


class QueueSetting(Row):
    """What an operator has set for a queue while everything runs (QUE-5)."""

    tenant_path = ""
    platform_rows = "read"

    name = models.CharField(max_length=32, unique=True)
    paused = models.BooleanField(default=False, help_text="What waits in it goes on waiting.")
    most_at_once = models.PositiveIntegerField(
        null=True,
        blank=True,
        help_text="Messages under way at once, over all workers; empty: as QUEUE_MOST_AT_ONCE says; 0: no limit.",
    )

    class Meta:
        ordering = ("name",)

    def __str__(self) -> str:
        return self.name

    def clean(self) -> None:
        super().clean()
        if self.most_at_once is not None and self.name not in queues.MAIL:
            raise ValidationError({"most_at_once": "Only queues of mail have a number of messages."})


class Receipt(models.Model):
    """That an account has handed something over under a key of its own, so that handing it over again makes no second
    message (AMQP-1). `fingerprint` is of what was handed over; `id` names the acknowledgement too, and `told_at` is
    when that had got through, None where it has not or where none is sent."""

    tenant_path = "account__tenant"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    account = models.ForeignKey(Account, on_delete=models.CASCADE, related_name="+", db_index=False)
    source = models.CharField(max_length=8, choices=Message.Source)
    key = models.CharField(max_length=255)
    fingerprint = models.CharField(max_length=64)
    # The message may be deleted before its receipt: without a constraint that needs no index here.
    message = models.ForeignKey(
        Message,
        on_delete=models.DO_NOTHING,
        null=True,
        blank=True,
        related_name="+",
        db_index=False,
        db_constraint=False,
    )
    created_at = models.DateTimeField(db_index=True)
    told_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ("-id",)
        constraints = [models.UniqueConstraint(fields=["account", "source", "key"], name="receipt_once")]

    def __str__(self) -> str:
        return self.key


class Notice(models.Model):
    """Somebody is to be told of recipients a message did not reach (DEL-10): written beside the outcome, done later.

    `recipients` are {"address", "code", "text", "status"} of each, and "provider", the type of the one that said so;
    empty where it tells that mail is held (DEL-8). `sent` is the message that told it, where it was
    told by mail.
    """

    class Kind(models.TextChoices):
        DSN = "dsn", "Delivery status notification to the sender"
        EMAIL = "email", "E-mail to the tenant's admins"
        WEBHOOK = "webhook", "Webhook"

    class Status(models.TextChoices):
        PENDING = "pending"
        DONE = "done"
        FAILED = "failed"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="+", db_index=False)
    message = models.ForeignKey(Message, on_delete=models.CASCADE, related_name="notices")
    kind = models.CharField(max_length=8, choices=Kind)
    status = models.CharField(max_length=8, choices=Status, default=Status.PENDING)
    recipients = models.JSONField(default=list)
    text = models.CharField(max_length=500, blank=True, help_text="What became of the notice.")
    sent = models.ForeignKey(
        Message,
        on_delete=models.DO_NOTHING,
        null=True,
        blank=True,
        related_name="+",
        db_index=False,
        db_constraint=False,
    )
    tries = models.PositiveSmallIntegerField(default=0)
    next_attempt_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField()
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ("-id",)
        constraints = [
            models.CheckConstraint(condition=Q(status__in=["pending", "done", "failed"]), name="notice_status_known"),
        ]
        indexes = [
            models.Index(fields=["next_attempt_at"], condition=Q(next_attempt_at__isnull=False), name="notice_due"),
            models.Index(fields=["tenant", "-id"], name="notice_tenant"),
            # What a message of ours has told of, and when a tenant's admins were last told.
            models.Index(fields=["sent"], condition=Q(sent__isnull=False), name="notice_sent"),
            models.Index(
                fields=["tenant", "-finished_at"],
                condition=Q(kind="email", sent__isnull=False, finished_at__isnull=False),
                name="notice_last_digest",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.kind} about {self.message_id}"
