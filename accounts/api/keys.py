"""API keys of accounts: the text is shown in the answer that made it, and never again (SEC-3)."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, ClassVar

from django.db import transaction
from django.utils import timezone
from django_filters import rest_framework as filters
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from accounts import api_keys, audit
from accounts.api.errors import Conflict
from accounts.api.given import Given
from accounts.api.views import CreateMixin, DestroyMixin, ReadViewSet, RowSerializer
from accounts.models import ApiKey
from accounts.tenancy import Area, Verb

MOST_OVERLAP = timedelta(days=30)


def in_future(moment: Any) -> None:
    if moment <= timezone.now():
        raise serializers.ValidationError("Choose a time in the future.")


class ApiKeySerializer(RowSerializer):
    """A bearer token of an account. What it may do does not change under its holder: make another instead."""

    scopes = serializers.ListField(child=serializers.ChoiceField(ApiKey.Scope.choices), allow_empty=False)
    expires_at = serializers.DateTimeField(allow_null=True, required=False, validators=[in_future])

    class Meta:
        model = ApiKey
        fields: tuple[str, ...] = (
            "id",
            "account",
            "name",
            "prefix",
            "scopes",
            "expires_at",
            "revoked_at",
            "last_used_at",
            "created_at",
        )
        read_only_fields = ("prefix", "revoked_at", "last_used_at")


class IssuedKeySerializer(ApiKeySerializer):
    """The key with its text, which is shown this once."""

    key = serializers.CharField(read_only=True, source="issued_key")

    class Meta(ApiKeySerializer.Meta):
        fields = (*ApiKeySerializer.Meta.fields, "key")

    def save_checked(self, row: Any) -> Any:
        row.issued_key = api_keys.draw(row)
        self.validated_data["scopes"] = sorted(set(self.validated_data["scopes"]))
        return super().save_checked(row)


class RotationSerializer(Given):
    """How long the old key goes on working, in seconds (a day unless told otherwise), and when the new one ends."""

    overlap = serializers.IntegerField(min_value=0, max_value=int(MOST_OVERLAP.total_seconds()), default=86_400)
    expires_at = serializers.DateTimeField(allow_null=True, default=None, validators=[])

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if attrs["expires_at"] is not None:
            in_future(attrs["expires_at"])
        return super().validate(attrs)


class ApiKeyFilter(filters.FilterSet):
    account = filters.UUIDFilter(field_name="account_id")
    revoked = filters.BooleanFilter(field_name="revoked_at", lookup_expr="isnull", exclude=True)

    class Meta:
        model = ApiKey
        fields = ("account", "prefix", "revoked")


class ApiKeyViewSet(CreateMixin, DestroyMixin, ReadViewSet):
    """API keys: made, rotated, revoked and deleted, never changed."""

    area = Area.ACCOUNTS
    verbs: ClassVar = {"rotate": Verb.CREATE, "revoke": Verb.DELETE}
    queryset = ApiKey.objects.select_related("account")
    serializer_class = ApiKeySerializer
    filterset_class = ApiKeyFilter
    search_fields = ("prefix", "name")

    def get_serializer_class(self) -> type[RowSerializer]:
        return IssuedKeySerializer if self.action in ("create", "rotate") else ApiKeySerializer

    @extend_schema(request=RotationSerializer, responses={201: IssuedKeySerializer})
    @action(detail=True, methods=["post"])
    def rotate(self, request: Request, **_: Any) -> Response:
        """A new key with the account, name and scopes of this one, which goes on working for `overlap` seconds."""
        key = self.get_object()
        asked = RotationSerializer.of(request)
        with transaction.atomic():
            if ApiKey.objects.select_for_update().get(pk=key.pk).revoked_at is not None:
                raise Conflict("The key is revoked.")
            overlap = timedelta(seconds=asked["overlap"])
            new, text = api_keys.rotate_api_key(key, overlap=overlap, expires_at=asked["expires_at"])
            self.note("rotated", key, {"successor": [None, new.prefix]})
            self.note("created", new, audit.differences(ApiKey, {}, audit.values(new)))
        new.issued_key = text  # type: ignore[attr-defined]
        return Response(self.get_serializer(new).data, status=201)

    @extend_schema(request=None)
    @action(detail=True, methods=["post"])
    def revoke(self, request: Request, **_: Any) -> Response:
        """Refuse the key from now on; one revoked before keeps its time."""
        key = self.get_object()
        with transaction.atomic():
            before = key.revoked_at
            api_keys.revoke_api_key(key)
            if before is None:
                self.note("revoked", key)
        return Response(self.get_serializer(key).data)
