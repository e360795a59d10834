"""What signing in leaves behind: sessions, and second factors (SEC-4). Exported by `accounts.models`."""

from __future__ import annotations

from django.db import models
from django.db.models import Q

from accounts.crypto import EncryptedJSONField
from accounts.ids import uuid7


class UserSession(models.Model):
    """A person signed in at one place: a browser in the admin, or a client of the API with its refresh tokens.

    A session is good while it has not ended and its time is not up; `accounts.sessions` says whether.
    """

    tenant_path = "user__tenant"

    class Kind(models.TextChoices):
        ADMIN = "admin"
        API = "api", "API"

    class End(models.TextChoices):
        SIGNED_OUT = "signed_out"
        REVOKED = "revoked"
        DISPLACED = "displaced", "Displaced by newer sessions"
        RIGHTS_CHANGED = "rights_changed", "Role changed, or deactivated"
        PASSWORD_CHANGED = "password_changed"  # noqa: S105
        TOKEN_REUSED = "token_reused", "A used refresh token came again"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    user = models.ForeignKey("accounts.User", on_delete=models.CASCADE, related_name="sessions", db_index=False)
    kind = models.CharField(max_length=8, choices=Kind)
    token_hash = models.CharField(max_length=64, blank=True, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)
    last_used_at = models.DateTimeField()
    expires_at = models.DateTimeField()
    client_ip = models.GenericIPAddressField("address", null=True, blank=True)
    user_agent = models.CharField("device", max_length=255, blank=True)
    ended_at = models.DateTimeField(null=True, blank=True)
    end_reason = models.CharField(max_length=16, choices=End, blank=True)

    class Meta:
        ordering = ("-id",)
        indexes = [
            models.Index(fields=["user", "-created_at"], name="session_user_created"),
            models.Index(fields=["expires_at"], name="session_expires"),
        ]
        constraints = [
            models.CheckConstraint(
                condition=Q(ended_at__isnull=True, end_reason="") | (Q(ended_at__isnull=False) & ~Q(end_reason="")),
                name="session_end_has_reason",
            )
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.id}"


class SecondFactor(models.Model):
    """A person's authenticator app (RFC 6238) and recovery codes. It counts once a code has confirmed it."""

    tenant_path = "user__tenant"

    user = models.OneToOneField(
        "accounts.User", on_delete=models.CASCADE, primary_key=True, related_name="second_factor"
    )
    secret: models.Field[dict[str, str], dict[str, str]] = EncryptedJSONField()
    recovery_hashes = models.JSONField(default=list, editable=False)
    last_step = models.BigIntegerField(null=True, editable=False, help_text="Of the code used last: none counts twice.")
    confirmed_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return f"Second factor of {self.user_id}"
