"""The e-mail services of tenants, and the rules that choose between them."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import ValidationError
from django.core.validators import MinValueValidator
from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Lower

from accounts.crypto import EncryptedJSONField
from accounts.ids import uuid7
from accounts.models import Account, Row, Tenant
from providers import conditions, registry
from providers.exceptions import BadSettings, Misconfigured

LONGEST_WAIT = 30 * 24 * 3600
"""Seconds of the longest wait in a retry schedule."""
MOST_RETRIES = 50
SCHEDULE = f"seconds before each retry: whole numbers from 1 to {LONGEST_WAIT:,} (30 days), at most {MOST_RETRIES}"


def check_retry_schedule(value: Any) -> None:
    """A list of waiting times in seconds, each from 1 to 30 days, at most 50 (RET-1)."""
    fits = isinstance(value, list) and len(value) <= MOST_RETRIES
    if not fits or not all(type(wait) is int and 1 <= wait <= LONGEST_WAIT for wait in value):
        raise ValidationError(f"Give {SCHEDULE}.", code="bad_schedule")


SHARED_NAME_TAKEN = "There is a shared provider of this name."


class Provider(Row):
    """A configured e-mail service. Without a tenant it is the platform's own, shared (RTE-4)."""

    platform_rows = "read"

    tenant = models.ForeignKey(
        Tenant,
        on_delete=models.CASCADE,
        null=True,
        blank=True,
        related_name="providers",
        help_text="Empty: shared with every tenant that may use shared providers.",
    )
    name = models.CharField(max_length=100)
    type = models.CharField(max_length=32)
    enabled = models.BooleanField(default=True)
    config: models.Field[dict[str, Any], dict[str, Any]] = EncryptedJSONField(
        default=dict, blank=True, help_text="Settings and credentials; encrypted."
    )
    default_rank = models.PositiveSmallIntegerField(
        null=True,
        blank=True,
        help_text="Used when no rule matches, lowest first; empty: only where a rule names it.",
    )
    retry_schedule = models.JSONField(
        null=True,
        blank=True,
        validators=[check_retry_schedule],
        help_text="Seconds before each retry; empty: the platform's schedule.",
    )
    per_second = models.FloatField(
        "calls per second",
        null=True,
        blank=True,
        validators=[MinValueValidator(0.001)],
        help_text="In any second no more calls begin, over all workers; above 1 a whole number. Empty: no limit of our "
        "own. Mail that has to wait is sent later and uses up no try.",
    )
    per_minute = models.PositiveIntegerField(
        "calls per minute", null=True, blank=True, validators=[MinValueValidator(1)], help_text="In any 60 seconds."
    )
    per_day = models.PositiveIntegerField(
        "recipients per day",
        null=True,
        blank=True,
        validators=[MinValueValidator(1)],
        help_text="In any 24 hours. Mail that would wait for hours goes to the next provider, where there is one.",
    )
    concurrency = models.PositiveIntegerField(
        "calls at once", null=True, blank=True, validators=[MinValueValidator(1)], help_text="Over all workers."
    )
    unhealthy_until = models.DateTimeField(null=True, blank=True, editable=False)
    unhealthy_reason = models.CharField(max_length=500, blank=True, editable=False)

    class Meta:
        ordering = ("default_rank", "name")
        constraints = [
            # Two, since SQLite has no NULLS NOT DISTINCT and would be left with none.
            models.UniqueConstraint(
                fields=["tenant", "name"],
                name="provider_name_unique_in_tenant",
                violation_error_code="field:name",
                violation_error_message="There is a provider of this name.",
            ),
            models.UniqueConstraint(
                fields=["name"],
                condition=Q(tenant=None),
                name="provider_name_unique_among_shared",
                violation_error_message=SHARED_NAME_TAKEN,
            ),
        ]

    def __str__(self) -> str:
        return self.name

    def clean(self) -> None:
        super().clean()
        if self.type not in registry.types():
            raise ValidationError({"type": f"Known types: {', '.join(registry.types())}"})
        try:
            registry.connect(self.type, self.config or {}, shared=self.tenant_id is None).close()
        except BadSettings as error:
            raise ValidationError({"config": _told(self.type, error)}) from error
        except Misconfigured as error:
            raise ValidationError({"config": error.text}) from error
        # Forms skip a constraint when one of its fields was left empty, so that shared names are compared here.
        shared = Provider.objects.filter(tenant=None, name=self.name).exclude(pk=self.pk)
        if self.tenant_id is None and shared.exists():
            raise ValidationError({"name": SHARED_NAME_TAKEN})


class HealthEvent(models.Model):
    """A provider became unhealthy, or healthy again (PRV-10). Rows are only appended."""

    tenant_path = "provider__tenant"
    platform_rows = "read"

    class State(models.TextChoices):
        UNHEALTHY = "unhealthy"
        HEALTHY = "healthy"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    provider = models.ForeignKey(Provider, on_delete=models.CASCADE, related_name="health_events", db_index=False)
    state = models.CharField(max_length=9, choices=State)
    reason = models.CharField(max_length=500, blank=True)
    until = models.DateTimeField(null=True, blank=True, help_text="When it is probed again.")
    occurred_at = models.DateTimeField()

    class Meta:
        ordering = ("-id",)
        constraints = [
            models.CheckConstraint(condition=Q(state__in=["unhealthy", "healthy"]), name="health_event_state_known"),
        ]
        indexes = [models.Index(fields=["provider", "-id"], name="health_event_provider")]

    def __str__(self) -> str:
        return f"{self.provider} {self.state}"


def _told(type_: str, error: BadSettings) -> list[ValidationError]:
    """One error per wrong setting, with its label; the code lets a form show it at its field."""
    labels = {spec.name: spec.label for spec in registry.backend_class(type_).config_fields}
    return [
        ValidationError(f"{labels.get(name, name)}: {problem}.", code=f"field:config_{name}")
        for name, problem in error.problems.items()
    ]


class RoutingRule(Row):
    """Conditions, and what to do with the recipients they hold for. The lowest priority that matches wins (RTE-1)."""

    class Action(models.TextChoices):
        SEND = "send", "Send through the providers below"
        HOLD = "hold", "Hold for a person to decide"
        REJECT = "reject", "Reject"
        DISCARD = "discard", "Accept and throw away (sandbox)"

    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="routing_rules", db_index=False)
    name = models.CharField(max_length=100)
    priority = models.PositiveIntegerField(help_text="Rules are tried from the lowest number up.")
    enabled = models.BooleanField(default=True)
    conditions = models.JSONField(default=list, blank=True, validators=[conditions.validate])
    action = models.CharField(max_length=8, choices=Action, default=Action.SEND)

    class Meta:
        ordering = ("tenant", "priority", "id")
        constraints = [
            models.CheckConstraint(
                condition=Q(action__in=["send", "hold", "reject", "discard"]), name="routing_rule_action_known"
            ),
        ]
        indexes = [models.Index(fields=["tenant", "priority"], name="routing_rule_order")]

    def __str__(self) -> str:
        return self.name

    def clean(self) -> None:
        super().clean()
        if self.conditions is None:
            self.conditions = []
        try:
            # The field's own validators pass over what Django takes for empty, an empty object for one.
            conditions.validate(self.conditions)
        except ValidationError:
            if self.conditions:
                return  # the field has said so
            raise ValidationError({"conditions": "Give a list of conditions."}) from None
        self._check_accounts()

    def _check_accounts(self) -> None:
        named = conditions.usernames(self.conditions)
        if not named or self.tenant_id is None:
            return
        accounts = Account.objects.filter(tenant_id=self.tenant_id).annotate(folded=Lower("username"))
        known = set(accounts.filter(folded__in=[name.lower() for name in named]).values_list("folded", flat=True))
        unknown = [name for name in named if name.lower() not in known]
        if unknown:
            raise ValidationError({"conditions": f"There is no account {', '.join(unknown)} in this tenant."})


class RoutingTarget(models.Model):
    """One provider of a rule: the lowest position is the primary, the rest are fallbacks.

    Targets of one position share the traffic by weight (RTE-2).
    """

    tenant_path = "rule__tenant"

    rule = models.ForeignKey(RoutingRule, on_delete=models.CASCADE, related_name="targets", db_index=False)
    provider = models.ForeignKey(Provider, on_delete=models.PROTECT, related_name="routing_targets")
    position = models.PositiveSmallIntegerField(
        default=0,
        help_text="The lowest is tried first, the next when it fails. Targets of one position share by weight.",
    )
    weight = models.PositiveSmallIntegerField(
        default=1,
        validators=[MinValueValidator(1)],
        help_text="Share among the targets of the same position.",
    )

    class Meta:
        ordering = ("position", "id")
        constraints = [
            models.UniqueConstraint(
                fields=["rule", "provider"],
                name="routing_target_provider_once",
                violation_error_message="This provider is among the targets already.",
            ),
            models.CheckConstraint(
                condition=Q(weight__gte=1),
                name="routing_target_weight_positive",
                violation_error_message="A weight is at least 1.",
            ),
        ]
        indexes = [models.Index(F("rule"), F("position"), name="routing_target_order")]

    def __str__(self) -> str:
        return f"{self.position}: {self.provider}"

    def clean(self) -> None:
        super().clean()
        if not self.provider_id or self.rule.tenant_id is None:
            return
        owner = self.provider.tenant_id
        if owner is None and not self.rule.tenant.may_use_shared_providers:
            raise ValidationError({"provider": "This tenant may not use shared providers."})
        if owner is not None and owner != self.rule.tenant_id:
            raise ValidationError({"provider": "This provider belongs to another tenant."})
