"""Tenants: their people read theirs, owners and admins change it, operators make them (SEC-1)."""

from __future__ import annotations

from typing import Any, ClassVar

from django_filters import rest_framework as filters
from rest_framework import serializers

from accounts.api.quotas import QUOTAS, UsageField, forget_month
from accounts.api.views import CreateMixin, ReadViewSet, RowSerializer, UpdateMixin
from accounts.models import Tenant
from accounts.tenancy import Area


class TenantSerializer(RowSerializer):
    """An organisation. `slug`, `status`, `may_use_shared_providers` and the quotas are a platform operator's to set."""

    operators_only: ClassVar = ("slug", "status", "may_use_shared_providers", *QUOTAS)
    client_networks = serializers.ListField(child=serializers.CharField(max_length=64), required=False)

    class Meta:
        model = Tenant
        fields: tuple[str, ...] = (
            "id",
            "name",
            "slug",
            "status",
            "may_use_shared_providers",
            "unknown_outcome",
            "lossless",
            "client_networks",
            "second_factor_required",
            "body_days",
            "dead_letter_days",
            "row_days",
            "archived",
            "archive_days",
            *QUOTAS,
            "created_at",
            "updated_at",
        )

    def save_checked(self, row: Any) -> Any:
        with forget_month(row):
            return super().save_checked(row)


class TenantDetailSerializer(TenantSerializer):
    """As in lists, with what is used of its quotas."""

    usage = UsageField()

    class Meta(TenantSerializer.Meta):
        fields = (*TenantSerializer.Meta.fields, "usage")


class TenantFilter(filters.FilterSet):
    class Meta:
        model = Tenant
        fields = ("status", "slug")


class TenantViewSet(CreateMixin, UpdateMixin, ReadViewSet):
    """Tenants. People of a tenant see theirs alone."""

    area = Area.TENANT
    queryset = Tenant.objects.all()
    serializer_class = TenantSerializer
    filterset_class = TenantFilter
    search_fields = ("name", "slug")
    ordering_fields = ("created_at", "name", "slug")

    def get_serializer_class(self) -> type[RowSerializer]:
        return TenantDetailSerializer if self.action == "retrieve" else TenantSerializer
