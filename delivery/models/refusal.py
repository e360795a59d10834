"""What a door did not take: a row for people who ask why mail does not arrive (SMTP-18)."""

from __future__ import annotations

from django.db import models

from accounts.ids import uuid7
from accounts.models import Account, Tenant
from delivery.models.message import Message


class RefusedSession(models.Model):
    """A login, a command or a message that was refused, `count` times within a minute from the same client.

    Without a tenant nobody knows whose it was, and operators alone see it. `reason` is a code, as the counter
    `smtp_messages_refused_total` has it where a message was refused; `username` is what the client gave, never a
    password; `recipient` is the first, or the one that was refused.
    """

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    tenant = models.ForeignKey(
        Tenant, on_delete=models.CASCADE, null=True, blank=True, related_name="+", db_index=False
    )
    account = models.ForeignKey(
        Account, on_delete=models.SET_NULL, null=True, blank=True, related_name="+", db_index=False
    )
    source = models.CharField("door", max_length=8, choices=Message.Source, default=Message.Source.SMTP)
    reason = models.CharField(max_length=64)
    reply = models.CharField(max_length=500, blank=True, help_text="What the client was told.")
    username = models.CharField(max_length=255, blank=True)
    client_ip = models.GenericIPAddressField("client address", null=True, blank=True)
    helo = models.CharField("client name", max_length=255, blank=True, help_text="As the client gave it.")
    session_id = models.CharField(max_length=64, blank=True, help_text="Names the session in the log.")
    tls = models.CharField("TLS", max_length=100, blank=True)
    mail_from = models.CharField("envelope sender", max_length=320, blank=True)
    recipient = models.CharField(max_length=320, blank=True)
    recipient_count = models.PositiveIntegerField("recipients", default=0)
    size = models.PositiveBigIntegerField(null=True, blank=True, help_text="Octets, as far as they were known.")
    count = models.PositiveIntegerField("times", default=1)
    created_at = models.DateTimeField("first")
    last_at = models.DateTimeField("last")

    class Meta:
        ordering = ("-id",)
        indexes = [
            models.Index(fields=["tenant", "-id"], name="refused_tenant"),
            models.Index(fields=["account", "-id"], name="refused_account"),
            models.Index(fields=["reason", "-id"], name="refused_reason"),
            models.Index(fields=["username"], name="refused_username"),
            models.Index(fields=["client_ip"], name="refused_client"),
            models.Index(fields=["session_id"], name="refused_session"),
            models.Index(fields=["mail_from"], name="refused_sender"),
            models.Index(fields=["recipient"], name="refused_recipient"),
        ]

    def __str__(self) -> str:
        return f"{self.reason} {self.client_ip or ''}".strip()
