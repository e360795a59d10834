"""The e-mail services of tenants, and the rules that choose between them."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import F, Q

from accounts.crypto import EncryptedJSONField
from accounts.models import Row, Tenant
from providers import conditions, registry
from providers.exceptions import Misconfigured


def check_retry_schedule(value: Any) -> None:
    """A list of waiting times in seconds, each at least 1 (RET-1)."""
    if not isinstance(value, list) or not all(type(wait) is int and wait >= 1 for wait in value):
        raise ValidationError("Give a list of seconds, for example [30, 60, 120].", code="bad_schedule")


class Provider(Row):
    """A configured e-mail service. Without a tenant it is the platform's own, shared (RTE-4)."""

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
        default=dict, blank=True, help_text="Settings and credentials; encrypted (PRV-12)."
    )
    default_rank = models.PositiveSmallIntegerField(
        null=True,
        blank=True,
        help_text="Used when no rule matches, lowest first; empty: only where a rule names it (RTE-4).",
    )
    retry_schedule = models.JSONField(
        null=True,
        blank=True,
        validators=[check_retry_schedule],
        help_text="Seconds before each retry; empty: the platform's schedule (RET-1).",
    )
    unhealthy_until = models.DateTimeField(null=True, blank=True, editable=False)
    unhealthy_reason = models.CharField(max_length=500, blank=True, editable=False)

    class Meta:
        ordering = ("default_rank", "name")
        constraints = [
            # Two, since SQLite has no NULLS NOT DISTINCT and would be left with none.
            models.UniqueConstraint(fields=["tenant", "name"], name="provider_name_unique_in_tenant"),
            models.UniqueConstraint(
                fields=["name"], condition=Q(tenant=None), name="provider_name_unique_among_shared"
            ),
        ]

    def __str__(self) -> str:
        return self.name

    def clean(self) -> None:
        super().clean()
        if self.type not in registry.types():
            raise ValidationError({"type": f"Known types: {', '.join(registry.types())}"})
        try:
            registry.backend_class(self.type)(self.config or {}).close()
        except Misconfigured as error:
            raise ValidationError({"config": error.text}) from error
        # Forms skip a constraint when one of its fields was left empty, so that shared names are compared here.
        shared = Provider.objects.filter(tenant=None, name=self.name).exclude(pk=self.pk)
        if self.tenant_id is None and shared.exists():
            raise ValidationError({"name": "There is a shared provider of this name."})


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


class RoutingTarget(models.Model):
    """One provider of a rule: the lowest position is the primary, the rest are fallbacks.

    Targets of one position share the traffic by weight (RTE-2).
    """

    tenant_path = "rule__tenant"

    rule = models.ForeignKey(RoutingRule, on_delete=models.CASCADE, related_name="targets", db_index=False)
    provider = models.ForeignKey(Provider, on_delete=models.PROTECT, related_name="routing_targets")
    position = models.PositiveSmallIntegerField(default=0)
    weight = models.PositiveSmallIntegerField(default=1, help_text="Share among the targets of the same position.")

    class Meta:
        ordering = ("position", "id")
        constraints = [
            models.UniqueConstraint(fields=["rule", "provider"], name="routing_target_provider_once"),
            models.CheckConstraint(condition=Q(weight__gte=1), name="routing_target_weight_positive"),
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
