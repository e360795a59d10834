"""Who calls: a person with an access token, or an application with an account's API key; both as Bearer (API-4)."""

from __future__ import annotations

from typing import Any, cast

from rest_framework import exceptions
from rest_framework.authentication import BaseAuthentication, get_authorization_header
from rest_framework.request import Request
from rest_framework_simplejwt.exceptions import ExpiredTokenError, TokenError

from accounts import api_keys, second_factor, sessions
from accounts.api import limits, tokens
from accounts.api_keys import KeyIdentity
from accounts.identity import AuthenticationFailed
from accounts.models import UserSession
from accounts.sessions import SessionEnded
from accounts.tenancy import Person
from accounts.wall_middleware import behind_wall

REALM = 'Bearer realm="api"'
KEY_PREFIX = b"smk_"


NOT_VALID = "The token is not valid."
NETWORK_NOT_ALLOWED = "Requests from this network are not allowed."


class BearerAuthentication(BaseAuthentication):
    """`Authorization: Bearer <access token or API key>`.

    Whoever it is, the request is counted (LIM-2): for the key or session; for the address when it shows neither. An
    action that falls under limits of its own is named in the view's `unlimited`.
    """

    @behind_wall
    def authenticate(self, request: Request) -> tuple[Person, Any] | None:
        if _described(request):
            return None
        address = request.META.get("REMOTE_ADDR")
        try:
            found = self._identify(request)
        except exceptions.AuthenticationFailed:
            limits.count("address", address)
            raise
        if found is None:
            limits.count("address", address)
        elif not _unlimited(request):
            person, session = found
            limits.count(*(("key", person.key_id) if isinstance(person, KeyIdentity) else ("session", session.pk)))
        return found

    def _identify(self, request: Request) -> tuple[Person, Any] | None:
        scheme, _, token = get_authorization_header(request).partition(b" ")
        if scheme.lower() != b"bearer":
            return None
        token = token.strip()
        if token.startswith(KEY_PREFIX):
            return self._by_key(request, token), None
        return self._by_token(request, token)

    def _by_token(self, request: Request, text: bytes) -> tuple[Person, UserSession]:
        address = request.META.get("REMOTE_ADDR")
        try:
            token = tokens.Access(cast(Any, text))
            session = sessions.find(token.get(tokens.SESSION), UserSession.Kind.API, address)
        except ExpiredTokenError as error:
            raise exceptions.AuthenticationFailed("The access token has expired.", code="TOKEN_EXPIRED") from error
        except TokenError as error:
            raise exceptions.AuthenticationFailed(NOT_VALID, code="token_not_valid") from error
        except SessionEnded as error:
            raise session_ended(error) from error
        if second_factor.lacking(session.user):
            raise exceptions.PermissionDenied("Set up a second factor in the admin.", code="second_factor_lacking")
        sessions.touch(session, address)
        return session.user, session

    def _by_key(self, request: Request, token: bytes) -> KeyIdentity:
        try:
            return api_keys.verify_api_key(token.decode("ascii", "replace"), request.META.get("REMOTE_ADDR"))
        except AuthenticationFailed as error:
            if error.code == "network_not_allowed":
                raise exceptions.PermissionDenied(NETWORK_NOT_ALLOWED, code="network_not_allowed") from error
            raise exceptions.AuthenticationFailed("This API key is not valid.", code="key_not_valid") from error

    def authenticate_header(self, request: Request) -> str:
        return REALM


class Nobody(BaseAuthentication):
    """For views that everybody may ask, whatever is in the header; counted by address."""

    def authenticate(self, request: Request) -> None:
        if _described(request):
            return
        limits.count("address", request.META.get("REMOTE_ADDR"))

    def authenticate_header(self, request: Request) -> str:
        return REALM


def session_ended(error: SessionEnded) -> exceptions.APIException:
    """What a client is told of a session that is over."""
    if error.code == "network_not_allowed":
        return exceptions.PermissionDenied(NETWORK_NOT_ALLOWED, code="network_not_allowed")
    return exceptions.AuthenticationFailed(NOT_VALID, code="token_not_valid")


def _described(request: Request) -> bool:
    """Whether nobody asks at all: the schema is being made, which looks at every view."""
    return bool(getattr((request.parser_context or {}).get("view"), "swagger_fake_view", False))


def _unlimited(request: Request) -> bool:
    view = (request.parser_context or {}).get("view")
    return getattr(view, "action", None) in getattr(view, "unlimited", ())
