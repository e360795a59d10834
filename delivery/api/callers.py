"""Who calls, as the rooms of this floor know them. Permissions have been asked by then."""

from __future__ import annotations

from typing import cast

from rest_framework import exceptions
from rest_framework.request import Request

from accounts.api_keys import KeyIdentity
from accounts.models import User


def caller(request: Request) -> User | KeyIdentity:
    """The person, or the application by its key."""
    return cast(User | KeyIdentity, request.user)


def person(request: Request) -> User:
    """The person; raises PermissionDenied for an application, whatever its key may do."""
    who = caller(request)
    if not isinstance(who, User):
        raise exceptions.PermissionDenied("Only people may do that.", code="needs_a_person")
    return who
