"""Who calls: a person with an access token, or an application with an account's API key; both as Bearer (API-4)."""

from __future__ import annotations

from typing import Any

from rest_framework import exceptions
from rest_framework.authentication import BaseAuthentication, get_authorization_header
from rest_framework.request import Request

from accounts import api_keys
from accounts.identity import AuthenticationFailed
from accounts.tenancy import Person

REALM = 'Bearer realm="api"'
KEY_PREFIX = b"smk_"


class BearerAuthentication(BaseAuthentication):
    """`Authorization: Bearer <access token or API key>`."""

    def authenticate(self, request: Request) -> tuple[Person, Any] | None:
        scheme, _, token = get_authorization_header(request).partition(b" ")
        if scheme.lower() != b"bearer":
            return None
        token = token.strip()
        if token.startswith(KEY_PREFIX):
            return self._by_key(request, token), None
        raise exceptions.AuthenticationFailed(code="token_not_valid")

    def _by_key(self, request: Request, token: bytes) -> Person:
        try:
            return api_keys.verify_api_key(token.decode("ascii", "replace"), request.META.get("REMOTE_ADDR"))
        except AuthenticationFailed as error:
            raise exceptions.AuthenticationFailed("This API key is not valid.", code="key_not_valid") from error

    def authenticate_header(self, request: Request) -> str:  # noqa: ARG002 -- DRF's hook
        return REALM
