"""Quotas of tenants and accounts as JSON: what is set, and what is used of it (LIM-1)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from accounts import quotas

QUOTAS = ("messages_per_minute", "messages_per_hour", "messages_per_month")


class UsedSerializer(serializers.Serializer[Any]):
    """`used` is null while it cannot be looked up."""

    most = serializers.IntegerField()
    used = serializers.IntegerField(allow_null=True)
    percent = serializers.IntegerField(allow_null=True)


@extend_schema_field({"type": "object", "additionalProperties": {"$ref": "#/components/schemas/Used"}})
class UsageField(serializers.Field[Any, Any, Any, Any]):
    """Of each quota that is set (`minute`, `hour`, `month`): how many there may be, and how many there were."""

    def __init__(self) -> None:
        super().__init__(source="*", read_only=True)

    def to_representation(self, owner: quotas.Owner) -> dict[str, Any]:
        return {
            str(usage.quota.period): {"most": usage.quota.most, "used": usage.used, "percent": usage.percent}
            for usage in quotas.usages(owner)
        }


@contextmanager
def forget_month(owner: quotas.Owner) -> Iterator[None]:
    """Have the month's figure counted anew when the quota of a month is changed within."""
    before = owner.messages_per_month
    yield
    if owner.messages_per_month != before:
        quotas.forget(owner)
