"""The audit log: who did what, as far as the reader may know (SEC-5)."""

from __future__ import annotations

from typing import Any, ClassVar

from django_filters import rest_framework as filters
from rest_framework import serializers

from accounts import audit
from accounts.api.views import ReadViewSet, RowSerializer
from accounts.models import AuditEntry
from accounts.tenancy import Area


class AuditEntrySerializer(RowSerializer):
    """One entry. `changes` holds [before, after] of each field, or plain facts; secrets are masked.

    Of what platform operators did, tenants are told neither name nor address.
    """

    actor = serializers.CharField(source="told_by", read_only=True)
    client_ip = serializers.IPAddressField(source="told_ip", read_only=True, allow_null=True)
    changes = serializers.DictField(read_only=True)

    class Meta:
        model = AuditEntry
        fields = (
            "id",
            "tenant",
            "created_at",
            "actor",
            "action",
            "target_type",
            "target_id",
            "target_label",
            "changes",
            "client_ip",
        )
        read_only_fields = fields


class AuditFilter(filters.FilterSet):
    tenant = filters.UUIDFilter(field_name="tenant_id")
    actor = filters.CharFilter(field_name="told_by", lookup_expr="iexact")
    created_after = filters.IsoDateTimeFilter(field_name="created_at", lookup_expr="gte")
    created_before = filters.IsoDateTimeFilter(field_name="created_at", lookup_expr="lt")

    class Meta:
        model = AuditEntry
        fields = ("tenant", "action", "target_type", "target_id")


class AuditViewSet(ReadViewSet):
    """What people, commands and the product itself did, the newest first."""

    area = Area.AUDIT
    queryset = AuditEntry.objects.all()
    serializer_class = AuditEntrySerializer
    filterset_class = AuditFilter
    ordering_fields: ClassVar = ("created_at",)

    def get_queryset(self) -> Any:
        return audit.told_to(self.request.user, super().get_queryset())
