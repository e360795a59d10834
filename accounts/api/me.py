"""Who is asking, and what they may do."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts.api.views import NoStore
from accounts.models import Account, Tenant, User, UserSession
from accounts.tenancy import Area, Verb, permits, visible_to


class OwnTenantSerializer(serializers.ModelSerializer[Tenant]):
    class Meta:
        model = Tenant
        fields = ("id", "name", "slug")


class OwnUserSerializer(serializers.ModelSerializer[User]):
    class Meta:
        model = User
        fields = ("id", "email", "name", "role", "is_superuser", "reads_bodies")


class OwnAccountSerializer(serializers.ModelSerializer[Account]):
    class Meta:
        model = Account
        fields = ("id", "name", "username", "allowed_senders")


class MeSerializer(serializers.Serializer[Any]):
    """`user` and `session` of a person, `account` and `scopes` of an API key; `tenant` is null for an operator.

    `may` tells by area what the role or the scopes allow.
    """

    user = OwnUserSerializer(allow_null=True)
    session = serializers.UUIDField(allow_null=True)
    account = OwnAccountSerializer(allow_null=True)
    scopes = serializers.ListField(child=serializers.CharField(), allow_null=True)
    tenant = OwnTenantSerializer(allow_null=True)
    may = serializers.DictField(child=serializers.ListField(child=serializers.CharField()))


class MeView(NoStore, APIView):
    permission_classes = (IsAuthenticated,)

    @extend_schema(responses=MeSerializer, operation_id="auth_me")
    def get(self, request: Request) -> Response:
        """Who one is, and what one may do."""
        person: Any = request.user
        is_key = not isinstance(person, User)
        may = {str(area): [str(verb) for verb in Verb if permits(person, area, verb)] for area in Area}
        return Response(
            MeSerializer(
                {
                    "user": None if is_key else person,
                    "session": request.auth.pk if isinstance(request.auth, UserSession) else None,
                    "account": visible_to(person, Account).get() if is_key else None,
                    "scopes": sorted(person.scopes) if is_key else None,
                    "tenant": Tenant.objects.get(pk=person.tenant_id) if is_key else person.tenant,
                    "may": may,
                }
            ).data
        )
