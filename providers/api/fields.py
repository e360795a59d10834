"""Parts of the JSON of providers and rules."""

from __future__ import annotations

from typing import Any

from django.db.models import Q, QuerySet
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from accounts.audit import MASK
from accounts.tenancy import visible_to
from providers import registry
from providers.base import ConfigField
from providers.exceptions import Misconfigured
from providers.models import Provider


def specs(type_: str) -> tuple[ConfigField, ...]:
    """The settings of a type; none for one that nobody knows (any more)."""
    try:
        return registry.backend_class(type_).config_fields
    except Misconfigured:
        return ()


@extend_schema_field({"type": "object", "additionalProperties": True})
class SettingsField(serializers.Field[Any, Any, Any, Any]):
    """The settings of a provider, by name. A stored secret reads `***`."""

    def to_representation(self, config: dict[str, Any]) -> dict[str, Any]:
        """Of the row's type; nothing that is no known setting of it is told, since it may be a secret."""
        type_ = self.parent.instance.type if isinstance(self.parent.instance, Provider) else ""
        told: dict[str, Any] = {}
        for spec in specs(type_):
            value = (config or {}).get(spec.name)
            told[spec.name] = (MASK if value else None) if spec.kind == "secret" else value
            if spec.kind != "secret" and value is None:
                told[spec.name] = spec.default
        return told

    def to_internal_value(self, data: Any) -> dict[str, Any]:
        if not isinstance(data, dict):
            raise serializers.ValidationError("Give an object: setting, value.")
        return data


class ProviderField(serializers.PrimaryKeyRelatedField[Any]):
    """A provider a rule may name: of the caller's tenant, or a shared one where that tenant may use those."""

    def get_queryset(self) -> QuerySet[Any]:
        return usable_by(self.context["request"].user)


def usable_by(person: Any) -> QuerySet[Provider]:
    """What somebody may route mail to; without the settings."""
    rows = Provider.objects.defer("config")
    tenant = getattr(person, "tenant", None)
    shared = Q(tenant=None) if tenant is not None and tenant.may_use_shared_providers else Q(pk=None)
    return rows.filter(Q(pk__in=visible_to(person, Provider).values("pk")) | shared)
