"""Signing in and out, new tokens, who one is, and one's sessions and password (API-4, SEC-4)."""

from __future__ import annotations

from typing import Any, ClassVar, cast

from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.db import models, transaction
from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework import exceptions, mixins, serializers
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView
from rest_framework_simplejwt.exceptions import TokenError

from accounts import audit, sessions, sign_in
from accounts.api import tokens
from accounts.api.authentication import Nobody, session_ended
from accounts.api.given import Given
from accounts.api.permissions import PersonsOnly
from accounts.api.views import NoStore, TenantViewSet, client_ip
from accounts.models import User, UserSession
from accounts.sessions import SessionEnded

TOLD = {
    "code_wanted": (exceptions.AuthenticationFailed, "Give a code of the authenticator app, or a recovery code."),
    "second_factor_lacking": (
        exceptions.PermissionDenied,
        "Your organisation asks for a second factor: set it up in the admin first.",
    ),
}


class LoginSerializer(Given):
    """`otp` is a code of the authenticator app, or a recovery code, of those who have a second factor."""

    email = serializers.CharField(max_length=254)
    password = serializers.CharField(max_length=1024, trim_whitespace=False)
    otp = serializers.CharField(max_length=64, required=False, allow_blank=True, default="")


class RefreshSerializer(Given):
    refresh = serializers.CharField(max_length=4096)


class TokensSerializer(serializers.Serializer[Any]):
    """`access` is for the header `Authorization: Bearer`; `refresh` is good once. `expires_in` is in seconds."""

    access = serializers.CharField()
    refresh = serializers.CharField()
    token_type = serializers.CharField()
    expires_in = serializers.IntegerField()
    session = serializers.UUIDField()


class PasswordSerializer(Given):
    current = serializers.CharField(max_length=1024, trim_whitespace=False)
    new = serializers.CharField(max_length=1024, trim_whitespace=False)


class LoginView(NoStore, APIView):
    authentication_classes = (Nobody,)
    permission_classes = (AllowAny,)

    @extend_schema(request=LoginSerializer, responses=TokensSerializer, operation_id="auth_login")
    def post(self, request: Request) -> Response:
        """Sign in with address and password; a person has five sessions at most, the oldest makes room."""
        given = LoginSerializer.of(request)
        address = client_ip(request)
        try:
            user = sign_in.sign_in(given["email"], given["password"], given["otp"], address)
        except sign_in.Refused as error:
            raise refused(error) from error
        with transaction.atomic():
            _, told = begin(request, user)
            User.objects.filter(pk=user.pk).update(last_login=timezone.now())
            sign_in.welcome(user, UserSession.Kind.API, address)
        return Response(TokensSerializer(told).data)


class RefreshView(NoStore, APIView):
    authentication_classes = (Nobody,)
    permission_classes = (AllowAny,)

    @extend_schema(request=RefreshSerializer, responses=TokensSerializer, operation_id="auth_refresh")
    def post(self, request: Request) -> Response:
        """New tokens for a refresh token. One that comes a second time ends the session: somebody has a copy."""
        try:
            _, told = tokens.renew(RefreshSerializer.of(request)["refresh"], client_ip(request))
        except TokenError as error:
            raise exceptions.AuthenticationFailed("The token is not valid.", code="token_not_valid") from error
        except SessionEnded as error:
            raise session_ended(error) from error
        return Response(TokensSerializer(told).data)


class LogoutView(NoStore, APIView):
    permission_classes = (PersonsOnly,)

    @extend_schema(request=None, responses={204: None}, operation_id="auth_logout")
    def post(self, request: Request) -> Response:
        """End this session; its tokens are refused from now on."""
        if isinstance(request.auth, UserSession) and sessions.end(request.auth):
            audit.record(cast(User, request.user), "user.signed_out", cast(User, request.user), ip=client_ip(request))
        return Response(status=204)


class PasswordView(NoStore, APIView):
    permission_classes = (PersonsOnly,)

    @extend_schema(request=PasswordSerializer, responses=TokensSerializer, operation_id="auth_password")
    def post(self, request: Request) -> Response:
        """Change one's own password. All sessions end; the answer holds tokens of a new one."""
        given, address = PasswordSerializer.of(request), client_ip(request)
        user = cast(User, request.user)
        try:
            user = sign_in.check_password(user.email, given["current"], address)
        except sign_in.Refused as error:
            if error.wait:
                raise refused(error) from error
            raise serializers.ValidationError({"current": ["This is not your password."]}) from error
        try:
            validate_password(given["new"], user)
        except ValidationError as error:
            raise serializers.ValidationError({"new": error.messages}) from error
        with transaction.atomic():
            user.set_password(given["new"])
            user.save(update_fields=["password", "updated_at"])
            audit.record(user, "user.password_changed", user, ip=address)
            _, told = begin(request, user)
        return Response(TokensSerializer(told).data)


class SessionSerializer(serializers.ModelSerializer[UserSession]):
    """Where one is signed in: a browser in the admin, or a client of the API."""

    current = serializers.SerializerMethodField()

    class Meta:
        model = UserSession
        fields = ("id", "kind", "current", "client_ip", "user_agent", "created_at", "last_used_at", "expires_at")

    def get_current(self, session: UserSession) -> bool:
        return session == self.context["request"].auth


class SessionViewSet(mixins.ListModelMixin, TenantViewSet):
    """One's own sessions, the newest first."""

    permission_classes = (PersonsOnly,)
    queryset = UserSession.objects.all()
    serializer_class = SessionSerializer
    search_fields: ClassVar[tuple[str, ...]] = ()

    def get_queryset(self) -> models.QuerySet[Any]:
        if getattr(self, "swagger_fake_view", False):
            return UserSession.objects.none()
        return sessions.active(cast(User, self.request.user)).order_by()

    def destroy(self, request: Request, **_: Any) -> Response:
        """End one of one's sessions."""
        session, person = self.get_object(), cast(User, request.user)
        if sessions.end(session, UserSession.End.REVOKED):
            audit.record(person, "user.session_revoked", person, {"session": str(session)}, client_ip(request))
        return Response(status=204)


def begin(request: Request, user: User) -> tuple[UserSession, dict[str, Any]]:
    return tokens.begin(user, client_ip(request), request.META.get("HTTP_USER_AGENT", ""))


def refused(error: sign_in.Refused) -> exceptions.APIException:
    """What a client is told of a refusal."""
    if error.code == "locked_out":
        return exceptions.Throttled(wait=error.wait, code="locked_out")
    kind, text = TOLD.get(error.code, (exceptions.AuthenticationFailed, sign_in.TOLD))
    return kind(text, code=error.code if error.code in TOLD else "sign_in_refused")
