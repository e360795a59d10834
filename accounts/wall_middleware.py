"""Puts requests of tenants' people behind the second wall; see `accounts.wall` (SEC-2)."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Iterator
from functools import wraps
from typing import Any, TypeAlias

from django.http import HttpRequest, HttpResponse

from accounts import wall
from accounts.api_keys import KeyIdentity
from accounts.models import User
from accounts.tenancy import Person

Authenticate: TypeAlias = Callable[[Any, Any], tuple[Person, Any] | None]
API = "/api/"
"""There the caller is known by a token, not by a session, and later: `accounts.api.authentication` puts up the wall."""


def tenant_of(person: Person | None) -> uuid.UUID | None:
    """Whose rows alone this person's requests may see; None for operators, and while nobody has signed in."""
    if isinstance(person, KeyIdentity) or (isinstance(person, User) and not person.is_superuser):
        return person.tenant_id
    return None


def behind_wall(authenticate: Authenticate) -> Authenticate:
    """Around the `authenticate` of a class of the REST API: it looks without the wall, the view has it."""

    @wraps(authenticate)
    def authenticated(self: Any, request: Any) -> tuple[Person, Any] | None:
        wall.leave()
        found = authenticate(self, request)
        wall.enter(tenant_of(found[0]) if found else None)
        return found

    return authenticated


class TenantWallMiddleware:
    """Behind everything that finds out who has signed in. Takes the wall away at the end, whatever has happened."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        wall.leave()  # nothing should be left of another request
        try:
            if not request.path.startswith(API):
                wall.enter(tenant_of(request.user))
            response: Any = self._get_response(request)
            if response.streaming and wall.stands():
                response.streaming_content = _within(wall.current(), response.streaming_content)
            return response
        finally:
            wall.leave()


def _within(tenant: Any, chunks: Iterable[bytes]) -> Iterator[bytes]:
    """What is made while it is sent is asked for after the request."""
    with wall.around(tenant):
        yield from chunks
