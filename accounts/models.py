"""Who is asking: tenants, the people who sign in, and the accounts applications send with."""

from __future__ import annotations

import copy
import uuid
from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Any, ClassVar, Self

from django.contrib.auth.models import AbstractBaseUser, BaseUserManager, PermissionsMixin
from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models, transaction
from django.db.models import Q
from django.db.models.functions import Lower
from django.utils import timezone

from accounts import networks, validators, wall
from accounts.ids import uuid7
from accounts.sign_in_models import SecondFactor, UserSession

__all__ = (
    "Account",
    "ApiKey",
    "AuditEntry",
    "QuotaWarning",
    "Quotas",
    "Row",
    "SecondFactor",
    "Tenant",
    "User",
    "UserManager",
    "UserSession",
)


class Row(models.Model):
    """A UUIDv7 key and the times every row has."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    created_at = models.DateTimeField(auto_now_add=True, editable=False)
    updated_at = models.DateTimeField(auto_now=True, editable=False)

    class Meta:
        abstract = True

    def validate_unique(self, exclude: Collection[str] | None = None) -> None:
        """Some names are unique on the whole platform, of which a tenant's request sees its own part only."""
        with wall.lifted():
            super().validate_unique(exclude)

    def validate_constraints(self, exclude: Collection[str] | None = None) -> None:
        """As `validate_unique`."""
        with wall.lifted():
            super().validate_constraints(exclude)


class Quotas(models.Model):
    """How many messages may come in (LIM-1); empty: no limit."""

    messages_per_minute = models.PositiveIntegerField(null=True, blank=True, validators=[MinValueValidator(1)])
    messages_per_hour = models.PositiveIntegerField(null=True, blank=True, validators=[MinValueValidator(1)])
    messages_per_month = models.PositiveIntegerField(
        null=True, blank=True, validators=[MinValueValidator(1)], help_text="A calendar month in UTC."
    )

    class Meta:
        abstract = True


class Tenant(Quotas, Row):
    """An organisation. Nothing of one tenant is ever visible to another."""

    account_path = "*"

    class Status(models.TextChoices):
        ACTIVE = "active"
        SUSPENDED = "suspended"

    class UnknownOutcome(models.TextChoices):
        RESEND = "resend", "Send again (a duplicate is possible)"
        HOLD = "hold", "Hold for a person to decide"

    class Lossless(models.TextChoices):
        SPECIAL = "special", "Preferred for signed, encrypted, calendar and report messages"
        PREFERRED = "preferred", "Preferred for every message"
        REQUIRED = "required", "Required: nothing goes through a provider that would change it"

    name = models.CharField(max_length=200)
    slug = models.SlugField(max_length=63, unique=True)
    status = models.CharField(max_length=16, choices=Status, default=Status.ACTIVE)
    may_use_shared_providers = models.BooleanField(
        default=False, help_text="Whether the platform's own providers serve this tenant when it has none."
    )
    unknown_outcome = models.CharField(
        "when a provider's answer was lost",
        max_length=8,
        choices=UnknownOutcome,
        default=UnknownOutcome.RESEND,
        help_text="A worker died, or the connection broke, between sending and the provider's answer.",
    )
    lossless = models.CharField(
        "byte for byte",
        max_length=9,
        choices=Lossless,
        default=Lossless.SPECIAL,
        help_text="When providers of a route that send the very bytes received go before those that do not.",
    )
    client_networks = models.JSONField(
        default=list,
        blank=True,
        validators=[validators.networks],
        help_text='Networks (CIDR) clients may connect from, for example ["192.0.2.0/24"]; empty: any.',
    )
    second_factor_required = models.BooleanField(
        default=False, help_text="Everybody of this tenant signs in with a code of an authenticator app as well."
    )

    body_days = models.PositiveSmallIntegerField(
        "days bodies are kept",
        default=7,
        validators=[MinValueValidator(1), MaxValueValidator(3650)],
        help_text="Of messages that have ended, but for dead letters.",
    )
    dead_letter_days = models.PositiveSmallIntegerField(
        "days dead letters are kept",
        default=30,
        validators=[MinValueValidator(1), MaxValueValidator(3650)],
        help_text="Their bodies; nothing can be sent again afterwards.",
    )
    row_days = models.PositiveSmallIntegerField(
        "days rows are kept",
        default=90,
        validators=[MinValueValidator(1), MaxValueValidator(3650)],
        help_text="Messages, recipients, delivery logs and events; totals stay.",
    )
    archived = models.BooleanField(
        "archive what is sent", default=False, help_text="Keep an encrypted copy of every message as it was sent."
    )
    archive_days = models.PositiveSmallIntegerField(
        "days copies are kept",
        null=True,
        blank=True,
        default=365,
        validators=[MinValueValidator(1), MaxValueValidator(36500)],
        help_text="Empty: for ever.",
    )
    full_text = models.BooleanField(
        "find copies by their text",
        default=False,
        help_text="The text of copies made from now on is indexed, not encrypted, for those who may read bodies.",
    )

    deletes_at = models.DateTimeField(
        null=True, blank=True, editable=False, help_text="When everything of it is removed; suspended until then."
    )
    status_before_deletion = models.CharField(max_length=16, choices=Status, blank=True, editable=False)

    class Meta:
        ordering = ("name",)
        constraints = [
            models.CheckConstraint(condition=Q(status__in=["active", "suspended"]), name="tenant_status_known"),
            models.CheckConstraint(
                condition=Q(unknown_outcome__in=["resend", "hold"]), name="tenant_unknown_outcome_known"
            ),
            models.CheckConstraint(
                condition=Q(lossless__in=["special", "preferred", "required"]), name="tenant_lossless_known"
            ),
        ]

    def __str__(self) -> str:
        return self.name

    def clean(self) -> None:
        super().clean()
        given = (self.row_days, self.body_days, self.dead_letter_days)
        if self.deletes_at is not None and self.status != self.Status.SUSPENDED:
            raise ValidationError({"status": "It is to be deleted: cancel that first."})
        if all(isinstance(days, int) for days in given) and self.row_days < max(given):
            raise ValidationError({"row_days": "Rows are kept at least as long as the bodies they belong to."})


class UserManager(BaseUserManager["User"]):
    def get_by_natural_key(self, username: str | None) -> User:
        return self.get(email__iexact=username)

    def create_user(self, email: str, password: str | None = None, **fields: Any) -> User:
        """A person of one tenant; the e-mail address is kept in lower case."""
        user = self.model(email=email.strip().lower(), **fields)
        user.set_password(password)
        user.reads_bodies = fields.get("reads_bodies", user.is_first_owner())
        user.full_clean(exclude=["password"])
        user.save(using=self._db)
        return user

    def create_superuser(self, email: str, password: str | None = None, **fields: Any) -> User:
        """A platform operator: belongs to no tenant and sees all."""
        return self.create_user(email, password, is_superuser=True, tenant=None, role="", **fields)


OPERATOR_OR_OF_A_TENANT = "A platform operator has no tenant and no role; everybody else has both."
NEITHER = "Choose a tenant and a role, or tick Superuser status for a platform operator."


class User(Row, AbstractBaseUser, PermissionsMixin):
    """A person who signs in with an e-mail address; what they may do follows from their role (SEC-1)."""

    class Role(models.TextChoices):
        OWNER = "owner"
        ADMIN = "admin"
        USER = "user"
        VIEWER = "viewer"

    email = models.EmailField(unique=True)
    name = models.CharField(max_length=200, blank=True)
    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, null=True, blank=True, related_name="users")
    role = models.CharField(max_length=8, choices=Role, blank=True)
    is_active = models.BooleanField(default=True)
    reads_bodies = models.BooleanField(
        "may read bodies",
        default=False,
        help_text="What messages say, where the role allows it; each view is in the audit log.",
    )

    objects = UserManager()

    looking_from: User | None = None
    """The operator who looks as an owner of a tenant; see `look_as`."""
    _signed_in_with: Mapping[str, Any] = MappingProxyType({})

    USERNAME_FIELD = "email"
    REQUIRED_FIELDS: ClassVar[list[str]] = []

    class Meta:
        ordering = ("email",)
        constraints = [
            models.UniqueConstraint(
                Lower("email"),
                name="user_email_unique",
                violation_error_code="field:email",
                violation_error_message="There is a person with this e-mail address.",
            ),
            models.CheckConstraint(
                condition=Q(is_superuser=True, tenant__isnull=True, role="")
                | Q(is_superuser=False, tenant__isnull=False, role__in=["owner", "admin", "user", "viewer"]),
                name="user_operator_or_of_a_tenant",
                violation_error_message=OPERATOR_OR_OF_A_TENANT,
            ),
        ]

    def __str__(self) -> str:
        return self.email

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Whose password, role or right to sign in changes is signed out everywhere, whoever changes it (SEC-4)."""
        if self.looking_from is not None:
            raise TypeError("An operator who looks as a tenant is nobody to be saved.")
        before, now = dict(self._signed_in_with), self._rights()
        saved = kwargs.get("update_fields")
        if saved is not None:
            now = {name: value for name, value in now.items() if name in saved}
        changed = {name for name, value in before.items() if now.get(name, value) != value}
        with transaction.atomic(using=kwargs.get("using")):
            super().save(*args, **kwargs)
            if changed:
                reason = UserSession.End.PASSWORD_CHANGED if changed == {"password"} else UserSession.End.RIGHTS_CHANGED
                UserSession.objects.filter(user=self, ended_at=None).update(ended_at=timezone.now(), end_reason=reason)
        self._signed_in_with = before | now

    @property
    def is_staff(self) -> bool:
        """Everybody who may sign in may open the admin; permissions decide what is in it."""
        return self.is_active

    def as_owner_of(self, tenant: Tenant) -> User:
        """This operator as an owner of one tenant, for looking at what owners see; it cannot be saved."""
        seen = copy.copy(self)
        seen._state = copy.copy(self._state)
        seen._state.fields_cache = {}
        seen.is_superuser, seen.tenant, seen.role, seen.reads_bodies = False, tenant, self.Role.OWNER, True
        seen.looking_from = self
        return seen

    def is_first_owner(self) -> bool:
        """Whether this is to be the first owner of a tenant, who then may read bodies: somebody has to grant it."""
        if self.role != self.Role.OWNER or self.tenant_id is None:
            return False
        return not User.objects.filter(tenant_id=self.tenant_id, role=self.Role.OWNER).exclude(pk=self.pk).exists()

    @classmethod
    def from_db(cls, *args: Any, **kwargs: Any) -> Self:
        user = super().from_db(*args, **kwargs)
        user._signed_in_with = user._rights()
        return user

    def _rights(self) -> dict[str, Any]:
        """What a session was begun with; what is deferred is not there."""
        names = ("password", "role", "is_active", "is_superuser", "tenant_id")
        return {name: self.__dict__[name] for name in names if name in self.__dict__}

    def clean(self) -> None:
        super().clean()
        self.email = self.email.strip().lower()
        # Forms skip a constraint when one of its fields was left empty, so that it is asked for here as well.
        # An error at a field takes the constraint's place, so that it is told once.
        nothing = self.tenant_id is None and not self.role
        both = self.tenant_id is not None and bool(self.role)
        if not (nothing if self.is_superuser else both):
            text = NEITHER if nothing else OPERATOR_OR_OF_A_TENANT
            raise ValidationError({"role": ValidationError(text, code="operator_or_of_a_tenant")})


NEEDS_NETWORKS = "An account authenticated by network needs client networks."


class Account(Quotas, Row):
    """What an application signs in with."""

    account_path = "pk"

    class Status(models.TextChoices):
        ACTIVE = "active"
        SUSPENDED = "suspended"

    class FailureNotice(models.TextChoices):
        DSN = "dsn", "Delivery status notification to the sender"
        EMAIL = "email", "E-mail to the tenant's admins"
        WEBHOOK = "webhook", "Webhook"

    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="accounts")
    name = models.CharField(max_length=200)
    username = models.CharField(max_length=255, help_text="What the client gives to SMTP AUTH; unique on the platform.")
    password_hash = models.CharField(max_length=255, editable=False, default="!")
    status = models.CharField(max_length=16, choices=Status, default=Status.ACTIVE)
    allowed_senders = models.JSONField(
        "allowed sender domains",
        default=list,
        blank=True,
        validators=[validators.sender_patterns],
        help_text='Domains this account may send from: "example.com", or "*.example.com" for every domain below it.',
    )
    may_send_bounces = models.BooleanField(
        default=False, help_text="Whether the empty envelope sender (MAIL FROM:<>) is taken."
    )
    client_networks = models.JSONField(
        default=list,
        blank=True,
        validators=[validators.networks],
        help_text="Networks (CIDR) clients may connect from; empty: any the tenant allows.",
    )
    network_authenticated = models.BooleanField(
        "authenticated by network alone",
        default=False,
        help_text="Clients in the networks above need no password (printers, legacy systems). "
        "Networks may then be no wider than /8 (IPv4) or /32 (IPv6).",
    )
    transactional = models.BooleanField(default=False, help_text="Sent ahead of other mail.")
    failure_notice = models.CharField(max_length=8, choices=FailureNotice, default=FailureNotice.DSN)
    last_used_at = models.DateTimeField(null=True, blank=True, editable=False)

    class Meta:
        ordering = ("name",)
        constraints = [
            models.UniqueConstraint(
                Lower("username"),
                name="account_username_unique",
                violation_error_code="field:username",
                violation_error_message="This username is taken; upper and lower case make no difference.",
            ),
            models.UniqueConstraint(
                fields=["tenant", "name"],
                name="account_name_unique_in_tenant",
                violation_error_code="field:name",
                violation_error_message="There is an account of this name.",
            ),
            models.CheckConstraint(
                condition=~Q(username=""),
                name="account_username_given",
                violation_error_message="An account needs a username.",
            ),
            models.CheckConstraint(condition=Q(status__in=["active", "suspended"]), name="account_status_known"),
            models.CheckConstraint(
                condition=Q(network_authenticated=False) | ~Q(client_networks=[]),
                name="account_network_authenticated_needs_networks",
                violation_error_message=NEEDS_NETWORKS,
            ),
        ]

    def __str__(self) -> str:
        return self.username

    def clean(self) -> None:
        super().clean()
        if self.network_authenticated and not self.client_networks:
            raise ValidationError({"client_networks": NEEDS_NETWORKS})
        if self.network_authenticated and isinstance(self.client_networks, list):
            wide = [entry for entry in dict.fromkeys(self.client_networks) if networks.is_wide(entry)]
            if wide:
                raise ValidationError({"client_networks": f"Too wide to stand for a password: {', '.join(wide)}."})


class ApiKey(Row):
    """A bearer token of an account: shown once, kept as a hash with a visible prefix (SEC-3)."""

    tenant_path = "account__tenant"

    class Scope(models.TextChoices):
        SEND = "send"
        MESSAGES_READ = "messages:read"
        LOGS_READ = "logs:read"
        SUPPRESSIONS = "suppressions"
        WEBHOOKS = "webhooks"

    account = models.ForeignKey(Account, on_delete=models.CASCADE, related_name="api_keys")
    name = models.CharField(max_length=200, blank=True)
    prefix = models.CharField(max_length=16, unique=True, editable=False)
    key_hash = models.CharField(max_length=255, editable=False)
    scopes = models.JSONField(default=list, validators=[validators.scopes])
    expires_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)
    last_used_at = models.DateTimeField(null=True, blank=True, editable=False)

    class Meta:
        verbose_name = "API key"
        ordering = ("-created_at",)

    def __str__(self) -> str:
        return f"{self.prefix}…"


class QuotaWarning(models.Model):
    """So much of a month's quota was used up: once for each percentage, over all processes (LIM-1).

    Without an account it is the tenant's own quota. After a change of the quota there may be another.
    """

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="quota_warnings")
    account = models.ForeignKey(
        Account, on_delete=models.CASCADE, null=True, blank=True, related_name="quota_warnings", db_index=False
    )
    month = models.DateField(help_text="Its first day, in UTC.")
    percent = models.PositiveSmallIntegerField()
    used = models.PositiveIntegerField()
    most = models.PositiveIntegerField("quota")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ("-id",)
        constraints = [
            # Two, since SQLite has no NULLS NOT DISTINCT and would be left with none.
            models.UniqueConstraint(fields=["account", "month", "most", "percent"], name="quota_warning_of_account"),
            models.UniqueConstraint(
                fields=["tenant", "month", "most", "percent"],
                condition=Q(account=None),
                name="quota_warning_of_tenant",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.account or self.tenant}: {self.percent} % of {self.most:,}"


class AuditEntry(models.Model):
    """Who did what, with the values before and after (secrets masked). Rows are written once and never changed."""

    platform_rows = "add"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    tenant = models.ForeignKey(
        Tenant, on_delete=models.SET_NULL, null=True, blank=True, related_name="+", db_index=False
    )
    actor = models.ForeignKey(User, on_delete=models.SET_NULL, null=True, blank=True, related_name="+")
    actor_label = models.CharField(max_length=255, help_text="The actor's address or the command, kept when they go.")
    by_operator = models.BooleanField(default=False, help_text="A platform operator did it; tenants see no name.")
    action = models.CharField(max_length=64)
    target_label = models.CharField("target", max_length=255, blank=True, help_text="Its name at that time.")
    target_type = models.CharField(max_length=64, blank=True)
    target_id: models.CharField[str | uuid.UUID, str] = models.CharField(max_length=64, blank=True)
    changes = models.JSONField(default=dict, blank=True)
    client_ip = models.GenericIPAddressField(null=True, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        verbose_name_plural = "audit entries"
        ordering = ("-id",)
        indexes = [
            models.Index(fields=["tenant", "-created_at"], name="audit_tenant_created"),
            models.Index(fields=["target_type", "target_id"], name="audit_target"),
        ]

    def __str__(self) -> str:
        return f"{self.action} {self.target_type} {self.target_id}".strip()
