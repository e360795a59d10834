"""Tenants: their people read theirs, owners and admins change it, operators make them (SEC-1)."""

from __future__ import annotations

from typing import Any, ClassVar, cast

from django_filters import rest_framework as filters
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from accounts import networks, tenant_deletion
from accounts.api.errors import Conflict
from accounts.api.given import Given
from accounts.api.quotas import QUOTAS, UsageField, forget_month
from accounts.api.views import CreateMixin, ReadViewSet, RowSerializer, UpdateMixin, client_ip
from accounts.models import Tenant, User
from accounts.networks import OUTSIDE
from accounts.tenancy import Area, Verb


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
            "full_text",
            *QUOTAS,
            "deletes_at",
            "created_at",
            "updated_at",
        )
        read_only_fields = ("deletes_at",)

    def validate_client_networks(self, listed: list[str]) -> list[str]:
        """Nobody of the tenant locks themselves out."""
        request = self.context["request"]
        ip = client_ip(request)
        theirs = getattr(request.user, "tenant_id", None) is not None
        readable = all(networks.network(one) for one in listed)  # the model tells what is none
        if theirs and readable and not networks.allowed(networks.address(ip), listed):
            raise serializers.ValidationError(OUTSIDE.format(ip or "unknown"), code="locked_out")
        return listed

    def save_checked(self, row: Any) -> Any:
        with forget_month(row):
            return super().save_checked(row)


class TenantDetailSerializer(TenantSerializer):
    """As in lists, with what is used of its quotas."""

    usage = UsageField()

    class Meta(TenantSerializer.Meta):
        fields = (*TenantSerializer.Meta.fields, "usage")


class DeletionSerializer(Given):
    """The tenant's `slug`, typed to confirm that it is meant."""

    slug = serializers.CharField(max_length=63)


class TenantFilter(filters.FilterSet):
    class Meta:
        model = Tenant
        fields = ("status", "slug")


class TenantViewSet(CreateMixin, UpdateMixin, ReadViewSet):
    """Tenants. People of a tenant see theirs alone."""

    area = Area.TENANT
    verbs: ClassVar = {"deletion": Verb.DELETE, "keep": Verb.DELETE}
    queryset = Tenant.objects.all()
    serializer_class = TenantSerializer
    filterset_class = TenantFilter
    search_fields = ("name", "slug")
    ordering_fields = ("created_at", "name", "slug")

    def get_serializer_class(self) -> type[RowSerializer]:
        return TenantDetailSerializer if self.action == "retrieve" else TenantSerializer

    @extend_schema(request=DeletionSerializer, responses={202: TenantSerializer})
    @action(detail=True, methods=["post"])
    def deletion(self, request: Request, **_: Any) -> Response:
        """Have everything of the tenant deleted after 24 hours, but for its audit; it is suspended until then."""
        tenant = self.get_object()
        given = DeletionSerializer.of(request)
        try:
            tenant_deletion.ask(tenant, given["slug"], cast(User, request.user), client_ip(request))
        except tenant_deletion.Unfitting as error:
            raise Conflict(str(error)) from error
        return Response(TenantSerializer(tenant, context=self.get_serializer_context()).data, status=202)

    @extend_schema(request=None, responses=TenantSerializer)
    @deletion.mapping.delete
    def keep(self, request: Request, **_: Any) -> Response:
        """Keep the tenant after all, as it was before its deletion was asked for."""
        tenant = self.get_object()
        try:
            tenant_deletion.cancel(tenant, cast(User, request.user), client_ip(request))
        except tenant_deletion.Unfitting as error:
            raise Conflict(str(error)) from error
        return Response(TenantSerializer(tenant, context=self.get_serializer_context()).data)
