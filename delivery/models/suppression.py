"""Addresses a tenant must not be mailed again (EVT-2)."""

from __future__ import annotations

from collections.abc import Collection

from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import Q
from django.db.models.functions import Lower

from accounts.ids import uuid7
from accounts.models import Tenant
from delivery.models.message import Message
from providers.envelope import same
from providers.models import Provider


def check_address(value: str) -> None:
    """`local@domain`, as it may stand in an envelope (RFC 5321 §4.1.2); what it means is for others to know."""
    local, at, domain = value.rpartition("@")
    if not (local and at and domain) or any(c.isspace() or c in "<>," for c in domain) or not value.isprintable():
        raise ValidationError("Give an e-mail address.", code="bad_address")


class Suppression(models.Model):
    """An address a tenant must not be mailed again, in any case of its letters (EVT-2)."""

    account_path = "*"

    class Reason(models.TextChoices):
        BOUNCED = "bounced", "Hard bounce"
        SOFT_BOUNCES = "soft_bounces", "Soft bounces, again and again"
        COMPLAINED = "complained", "Complaint"
        UNSUBSCRIBED = "unsubscribed", "Unsubscribed"
        MANUAL = "manual", "Entered by a person"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="suppressions", db_index=False)
    address = models.CharField(max_length=320, validators=[check_address])
    reason = models.CharField(max_length=16, choices=Reason, default=Reason.MANUAL)
    text = models.CharField(max_length=1000, blank=True, help_text="What the provider said, or a note.")
    provider = models.ForeignKey(
        Provider, on_delete=models.SET_NULL, null=True, blank=True, related_name="+", editable=False, db_index=False
    )
    message = models.ForeignKey(
        Message, on_delete=models.SET_NULL, null=True, blank=True, related_name="+", editable=False
    )
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ("-id",)
        constraints = [
            models.UniqueConstraint(
                "tenant",
                Lower("address"),
                name="suppression_once_in_tenant",
                violation_error_message="This address is suppressed already.",
            ),
            models.CheckConstraint(
                condition=Q(reason__in=["bounced", "soft_bounces", "complained", "unsubscribed", "manual"]),
                name="suppression_reason_known",
            ),
        ]
        indexes = [models.Index(fields=["tenant", "-id"], name="suppression_list")]

    def __str__(self) -> str:
        return self.address

    def clean_fields(self, exclude: Collection[str] | None = None) -> None:
        """Every spelling a service takes for the same address is one address."""
        self.address = same(self.address)
        super().clean_fields(exclude)
