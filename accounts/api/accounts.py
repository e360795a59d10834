"""Accounts, which applications send with; a password is shown in the answer that made it, and never again."""

from __future__ import annotations

from typing import Any, ClassVar

from django.db import transaction
from django_filters import rest_framework as filters
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from accounts import credentials
from accounts.api.quotas import QUOTAS, UsageField, forget_month
from accounts.api.views import RowSerializer, RowViewSet
from accounts.models import Account
from accounts.tenancy import Area, Verb


class AccountSerializer(RowSerializer):
    """What an application signs in with. `network_authenticated` and `transactional` are an operator's to set, and the
    networks of an account that needs no password."""

    operators_only: ClassVar = ("network_authenticated", "transactional")
    allowed_senders = serializers.ListField(child=serializers.CharField(max_length=255), required=False)
    client_networks = serializers.ListField(child=serializers.CharField(max_length=64), required=False)

    class Meta:
        model = Account
        fields: tuple[str, ...] = (
            "id",
            "tenant",
            "name",
            "username",
            "status",
            "allowed_senders",
            "may_send_bounces",
            "client_networks",
            "network_authenticated",
            "transactional",
            "failure_notice",
            *QUOTAS,
            "last_used_at",
            "created_at",
            "updated_at",
        )
        read_only_fields = ("last_used_at",)
        extra_kwargs: ClassVar = {"tenant": {"required": False}}

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        attrs = super().validate(attrs)
        if self.instance is not None and self.instance.network_authenticated:
            # Networks that stand for a password are a claim on addresses all tenants share.
            self.refuse_grants(attrs, ("client_networks",))
        return attrs

    def save_checked(self, row: Any) -> Any:
        with forget_month(row):
            return super().save_checked(row)


class AccountDetailSerializer(AccountSerializer):
    """As in lists, with what is used of its quotas."""

    usage = UsageField()

    class Meta(AccountSerializer.Meta):
        fields = (*AccountSerializer.Meta.fields, "usage")


class IssuedAccountSerializer(AccountSerializer):
    """The account with its new SMTP password, which is shown this once."""

    password = serializers.CharField(read_only=True, source="issued_password")

    class Meta(AccountSerializer.Meta):
        fields = (*AccountSerializer.Meta.fields, "password")

    def save_checked(self, row: Any) -> Any:
        row = super().save_checked(row)
        row.issued_password = credentials.issue_password(row)
        return row


class AccountFilter(filters.FilterSet):
    tenant = filters.UUIDFilter(field_name="tenant_id")
    username = filters.CharFilter(lookup_expr="iexact")

    class Meta:
        model = Account
        fields = ("tenant", "username", "name", "status", "network_authenticated")


class AccountViewSet(RowViewSet):
    """Accounts. One that has sent messages is suspended rather than deleted: its messages belong to it (409)."""

    area = Area.ACCOUNTS
    verbs: ClassVar = {"rotate_key": Verb.UPDATE, "suspend": Verb.UPDATE, "activate": Verb.UPDATE}
    queryset = Account.objects.select_related("tenant")
    serializer_class = AccountSerializer
    filterset_class = AccountFilter
    search_fields = ("name", "username")
    ordering_fields = ("created_at", "name", "username")

    def get_serializer_class(self) -> type[RowSerializer]:
        special: dict[str, type[RowSerializer]] = {
            "retrieve": AccountDetailSerializer,
            "create": IssuedAccountSerializer,
            "rotate_key": IssuedAccountSerializer,
        }
        return special.get(self.action, AccountSerializer)

    @extend_schema(request=None)
    @action(detail=True, methods=["post"], url_path="rotate-key")
    def rotate_key(self, request: Request, **_: Any) -> Response:
        """Give the account a new SMTP password, shown this once. The old one ends at once."""
        account = self.get_object()
        with transaction.atomic():
            account.issued_password = credentials.issue_password(account)
            self.note("password_issued", account)
        return Response(self.get_serializer(account).data)

    @extend_schema(request=None)
    @action(detail=True, methods=["post"])
    def suspend(self, request: Request, **_: Any) -> Response:
        """Take no more mail from the account; nothing changes when it is suspended."""
        return self._set_status(Account.Status.SUSPENDED, "suspended")

    @extend_schema(request=None)
    @action(detail=True, methods=["post"])
    def activate(self, request: Request, **_: Any) -> Response:
        """Take mail from the account again; nothing changes when it is active."""
        return self._set_status(Account.Status.ACTIVE, "activated")

    def _set_status(self, status: str, verb: str) -> Response:
        account = self.get_object()
        with transaction.atomic():
            locked = Account.objects.select_for_update(of=("self",)).get(pk=account.pk)
            before, locked.status = locked.status, status
            if before != status:
                locked.save(update_fields=["status", "updated_at"])
                self.note(verb, locked, {"status": [before, status]})
        return Response(self.get_serializer(locked).data)
