"""`routing-rules`: conditions, and where mail goes that they hold for, in order of priority (API-1, RTE-1, RTE-6)."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import ValidationError as ModelError
from django.db import transaction
from django.db.models import Prefetch
from django_filters import rest_framework as filters
from drf_spectacular.utils import extend_schema, extend_schema_field
from rest_framework import serializers
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.api import errors
from accounts.api.views import RowSerializer, RowViewSet
from accounts.models import Tenant
from accounts.tenancy import Area, Verb, visible_to
from providers import ordering
from providers.api.fields import ProviderField
from providers.conditions import FIELDS
from providers.models import RoutingRule, RoutingTarget

MOST_TARGETS = 50
NO_TARGET = "A rule that sends needs at least one provider."


class TargetSerializer(serializers.ModelSerializer[RoutingTarget]):
    """The lowest position is tried first, the next when it fails; targets of one position share by weight."""

    provider = ProviderField()
    provider_name = serializers.CharField(source="provider.name", read_only=True)
    position = serializers.IntegerField(min_value=0, max_value=32767, required=False, help_text="Default: its place.")
    weight = serializers.IntegerField(min_value=1, max_value=32767, default=1)

    class Meta:
        model = RoutingTarget
        fields = ("provider", "provider_name", "position", "weight")


@extend_schema_field(
    {
        "type": "array",
        "items": {
            "type": "object",
            "properties": {"field": {"type": "string", "enum": list(FIELDS)}},
            "required": ["field"],
            "additionalProperties": True,
        },
        "description": "All must hold; empty: always. docs/routing-conditions.md tells what each field takes.",
    }
)
class ConditionsField(serializers.JSONField):
    """Checked by the model."""


class RuleSerializer(RowSerializer):
    """A rule. `targets` are given whole; without them a change leaves them as they are."""

    conditions = ConditionsField(required=False)
    targets = TargetSerializer(many=True, required=False)

    class Meta:
        model = RoutingRule
        fields = (
            "id",
            "tenant",
            "name",
            "priority",
            "enabled",
            "conditions",
            "action",
            "targets",
            "created_at",
            "updated_at",
        )
        extra_kwargs = {"tenant": {"required": False}}
        validators = ()

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        attrs = super().validate(attrs)
        row = self.instance
        targets = attrs.get("targets")
        if targets is not None and len(targets) > MOST_TARGETS:
            raise serializers.ValidationError({"targets": [f"At most {MOST_TARGETS}."]})
        sends = attrs.get("action", row.action if row else RoutingRule.Action.SEND) == RoutingRule.Action.SEND
        if sends and not (row.targets.exists() if row and targets is None else targets):
            raise serializers.ValidationError({"targets": [NO_TARGET]})
        return attrs

    def unsaved(self, row: RoutingRule) -> list[RoutingTarget] | None:
        """`row` with what was given, checked whole, and its new targets; None when those stay. Nothing is saved."""
        given = dict(self.validated_data)
        targets = given.pop("targets", None)
        for name, value in given.items():
            setattr(row, name, value)
        row.full_clean()
        return None if targets is None else _targets(row, targets)

    def save_checked(self, row: RoutingRule) -> RoutingRule:
        targets = self.unsaved(row)
        row.save()
        if targets is not None:
            row.targets.all().delete()
            for target in targets:
                target.save(force_insert=True)
        vars(row).pop("_prefetched_objects_cache", None)
        return row


def _targets(rule: RoutingRule, given: list[dict[str, Any]]) -> list[RoutingTarget]:
    made: list[RoutingTarget] = []
    for number, one in enumerate(given):
        target = RoutingTarget(rule=rule, **{"position": number, **one})
        try:
            target.clean_fields(exclude=["rule"])
            target.clean()
        except ModelError as error:
            told = errors.invalid(error).detail
            raise serializers.ValidationError({"targets": [{} for _ in range(number)] + [told]}) from None
        if target.provider_id in {other.provider_id for other in made}:
            again = {"provider": ["This provider is among the targets already."]}
            raise serializers.ValidationError({"targets": [{} for _ in range(number)] + [again]})
        made.append(target)
    return made


def told(rule: RoutingRule) -> list[dict[str, Any]]:
    """The targets of a rule as the audit keeps them."""
    targets = RoutingTarget.objects.filter(rule=rule).order_by("position", "pk")
    return [
        {"provider": str(target.provider_id), "position": target.position, "weight": target.weight}
        for target in targets
    ]


class OrderSerializer(serializers.Serializer[Any]):
    """Every rule of a tenant, in the order they are to be tried."""

    rules = serializers.ListField(child=serializers.UUIDField(), allow_empty=False, max_length=10_000)


class RuleFilter(filters.FilterSet):
    tenant = filters.UUIDFilter(field_name="tenant_id")

    class Meta:
        model = RoutingRule
        fields = ("enabled", "action", "name", "tenant")


class RoutingRuleViewSet(RowViewSet):
    """The routing rules of the caller's tenant."""

    area = Area.PROVIDERS
    verbs = {"reorder": Verb.UPDATE}
    queryset = RoutingRule.objects.prefetch_related(
        Prefetch("targets", RoutingTarget.objects.select_related("provider").defer("provider__config"))
    )
    serializer_class = RuleSerializer
    filterset_class = RuleFilter
    ordering_fields = ("created_at", "name", "priority")

    def perform_create(self, serializer: Any) -> None:
        with transaction.atomic():
            super().perform_create(serializer)
            self._note_targets(serializer.instance, [])

    def perform_update(self, serializer: Any) -> None:
        with transaction.atomic():
            # Locked, so that of two at once the second sees the targets of the first.
            RoutingRule.objects.select_for_update().get(pk=serializer.instance.pk)
            before = told(serializer.instance)
            super().perform_update(serializer)
            self._note_targets(serializer.instance, before)

    def _note_targets(self, rule: RoutingRule, before: list[dict[str, Any]]) -> None:
        after = told(rule)
        if before != after:
            self.note("changed", rule, {"targets": [before, after]})

    @extend_schema(request=OrderSerializer, responses=RuleSerializer(many=True))
    @action(detail=False, methods=["post"], pagination_class=None, filterset_class=None)
    def reorder(self, request: Request) -> Response:
        """Give the rules of a tenant new priorities: 10, 20 and so on in the order in which all of them are named.
        What was added or removed meanwhile is a conflict, and nothing is changed."""
        asked = OrderSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        keys = asked.validated_data["rules"]
        mine = visible_to(request.user, RoutingRule)
        tenants = set(mine.filter(pk__in=keys).values_list("tenant_id", flat=True))
        if len(tenants) != 1 or len(set(keys)) != len(keys):
            raise serializers.ValidationError({"rules": ["Name each rule of one tenant, once."]})
        with transaction.atomic():
            tenant = Tenant.objects.get(pk=tenants.pop())
            try:
                changed = ordering.reorder(tenant, keys)
            except ordering.OtherRules as error:
                raise errors.Conflict(str(error), "other_rules") from error
            for rule, before in changed:
                self.note("changed", rule, {"priority": [before, rule.priority]})
        rows = self.get_queryset().filter(tenant=tenant).order_by("priority", "pk")
        return Response(self.get_serializer(rows, many=True).data)
