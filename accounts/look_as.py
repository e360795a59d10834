"""Looking as a tenant: a platform operator sees the admin as an owner of one tenant does (SEC-1).

The request's user is then `User.as_owner_of(tenant)`: the one door of tenancy needs to know nothing of it, and the
audit names the operator.
"""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest

from accounts import audit, wall
from accounts.models import Tenant, User

KEY = "look_as"
"""Under which a browser's session names the tenant."""


def person_of(request: HttpRequest) -> User:
    """Who has really signed in."""
    user: Any = request.user
    person: User = user.looking_from or user
    return person


def as_oneself(request: HttpRequest) -> User:
    """As `person_of`, for pages about that person: an operator then sees the rows of an operator."""
    person = person_of(request)
    if person is not request.user and person.is_superuser:
        wall.leave()
    return person


def put_on(request: HttpRequest) -> None:
    """Make the request's user the owner they look as, if they do; called for who is signed in."""
    chosen = request.session.get(KEY)
    user: Any = request.user
    if chosen is None:
        return
    tenant = Tenant.objects.filter(pk=chosen).first() if user.is_superuser else None
    if tenant is None:
        del request.session[KEY]
        return
    request.user = user.as_owner_of(tenant)


def start(request: HttpRequest, tenant: Tenant, client_ip: str | None) -> None:
    """Look as this tenant from the next request on; for operators only."""
    person = person_of(request)
    stop(request, client_ip)
    request.session[KEY] = str(tenant.pk)
    audit.record(person, "tenant.looked_as", tenant, ip=client_ip)


def stop(request: HttpRequest, client_ip: str | None) -> None:
    """Be the operator again from the next request on."""
    chosen = request.session.pop(KEY, None)
    tenant = Tenant.objects.filter(pk=chosen).first() if chosen else None
    if tenant is not None:
        audit.record(person_of(request), "tenant.looked_as_ended", tenant, ip=client_ip)
