"""The only door to tenant data: which rows a person sees, and what their role lets them do (SEC-1, SEC-2)."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, TypeVar

from django.contrib.auth.models import AnonymousUser
from django.core.exceptions import FieldDoesNotExist, ImproperlyConfigured
from django.db import models

from accounts.api_keys import KeyIdentity
from accounts.models import ApiKey, Tenant, User

M = TypeVar("M", bound=models.Model)
Person = User | AnonymousUser | KeyIdentity
"""Who asks: somebody who signed in, nobody yet, or an application with an account's API key."""


class Area(StrEnum):
    """What permissions are given for: the columns of SEC-1."""

    TENANT = "tenant"
    ACCOUNTS = "accounts"
    USERS = "users"
    PROVIDERS = "providers"
    MESSAGES = "messages"
    BODIES = "bodies"
    LOGS = "logs"
    SUPPRESSIONS = "suppressions"
    WEBHOOKS = "webhooks"
    AUDIT = "audit"


class Verb(StrEnum):
    READ = "read"
    CREATE = "create"
    UPDATE = "update"
    DELETE = "delete"
    ACT = "act"
    """Hold, release, retry, re-route."""
    CANCEL = "cancel"
    """End what has not been sent. An application may take back what it has scheduled itself (DEL-11)."""


_NONE: frozenset[Verb] = frozenset()
_READ = frozenset({Verb.READ})
_CRUD = frozenset({Verb.READ, Verb.CREATE, Verb.UPDATE, Verb.DELETE})
_ACT = frozenset({Verb.READ, Verb.ACT, Verb.CANCEL})

ROLES: dict[str, dict[Area, frozenset[Verb]]] = {
    User.Role.OWNER: {
        Area.TENANT: frozenset({Verb.READ, Verb.UPDATE, Verb.DELETE}),
        Area.ACCOUNTS: _CRUD,
        Area.USERS: _CRUD,
        Area.PROVIDERS: _CRUD,
        Area.MESSAGES: _ACT,
        Area.BODIES: _READ,
        Area.LOGS: _READ,
        Area.SUPPRESSIONS: _CRUD,
        Area.WEBHOOKS: _CRUD,
        Area.AUDIT: _READ,
    },
    User.Role.ADMIN: {
        Area.TENANT: frozenset({Verb.READ, Verb.UPDATE}),
        Area.ACCOUNTS: _READ,
        Area.USERS: _CRUD,
        Area.PROVIDERS: _CRUD,
        Area.MESSAGES: _ACT,
        Area.BODIES: _READ,
        Area.LOGS: _READ,
        Area.SUPPRESSIONS: _CRUD,
        Area.WEBHOOKS: _CRUD,
        Area.AUDIT: _READ,
    },
    User.Role.USER: {
        Area.TENANT: _READ,
        Area.ACCOUNTS: _READ,
        Area.USERS: _READ,
        Area.PROVIDERS: _READ,
        Area.MESSAGES: _READ,
        Area.BODIES: _NONE,
        Area.LOGS: _READ,
        Area.SUPPRESSIONS: _READ,
        Area.WEBHOOKS: _READ,
        Area.AUDIT: _NONE,
    },
    User.Role.VIEWER: {
        Area.TENANT: _READ,
        Area.ACCOUNTS: _NONE,
        Area.USERS: _NONE,
        Area.PROVIDERS: _NONE,
        Area.MESSAGES: _NONE,
        Area.BODIES: _NONE,
        Area.LOGS: _READ,
        Area.SUPPRESSIONS: _NONE,
        Area.WEBHOOKS: _NONE,
        Area.AUDIT: _NONE,
    },
}

SCOPES: dict[str, dict[Area, frozenset[Verb]]] = {
    ApiKey.Scope.SEND: {Area.MESSAGES: frozenset({Verb.CREATE, Verb.CANCEL})},
    ApiKey.Scope.MESSAGES_READ: {Area.MESSAGES: _READ},
    ApiKey.Scope.LOGS_READ: {Area.LOGS: _READ},
    ApiKey.Scope.SUPPRESSIONS: {Area.SUPPRESSIONS: _CRUD},
    ApiKey.Scope.WEBHOOKS: {Area.WEBHOOKS: _CRUD},
}
"""What an API key may do, for its account only. Sending is a key's, never a person's: mail is sent by accounts."""


def permits(user: Person, area: Area, verb: Verb) -> bool:
    """Whether this person's role allows `verb` in `area`, within their own tenant; an operator may do everything.

    An API key may do what its scopes say. To read bodies a person needs the permission besides the role (ADM-4).
    """
    if isinstance(user, KeyIdentity):
        return any(verb in SCOPES.get(scope, {}).get(area, _NONE) for scope in user.scopes)
    if not isinstance(user, User) or not user.is_active:
        return False
    if user.is_superuser:
        return True
    if area is Area.BODIES and not user.reads_bodies:
        return False
    return user.tenant_id is not None and verb in ROLES.get(user.role, {}).get(area, _NONE)


def may_edit_user(user: Person, other: User) -> bool:
    """Whether `user` may change or delete `other`: an admin has no power over owners (SEC-1)."""
    if not permits(user, Area.USERS, Verb.UPDATE):
        return False
    return user.is_superuser or other.role in roles_given_by(user)


def roles_given_by(user: Person) -> tuple[str, ...]:
    """The roles this person may give to others."""
    if not isinstance(user, User) or not permits(user, Area.USERS, Verb.CREATE):
        return ()
    everybody = tuple(User.Role.values)
    return everybody if user.is_superuser or user.role == User.Role.OWNER else everybody[1:]


def may_grant_bodies(user: Person) -> bool:
    """Whether this person may let others read bodies (ADM-4): owners and operators."""
    if not isinstance(user, User) or not permits(user, Area.USERS, Verb.UPDATE):
        return False
    return user.is_superuser or user.role == User.Role.OWNER


def tenant_path(model: type[models.Model]) -> str:
    """The lookup from a row to its tenant.

    A model names it in `tenant_path` when it has no field `tenant`, "" when its rows belong to the platform alone;
    raises ImproperlyConfigured when it has neither, so that no model is open by oversight.
    """
    if model is Tenant:
        return "pk"
    declared = getattr(model, "tenant_path", None)
    if declared is not None:
        return str(declared)
    try:
        model._meta.get_field("tenant")
    except FieldDoesNotExist:
        raise ImproperlyConfigured(f"{model.__name__} says nothing of its tenant: give it a tenant_path.") from None
    return "tenant"


def account_path(model: type[models.Model]) -> str | None:
    """The lookup from a row to its account; None for rows that no account has.

    A model names it in `account_path` when it has no field `account`; "*" where the rows of its tenant serve every
    account alike, as suppressions do.
    """
    declared = getattr(model, "account_path", None)
    if declared is not None:
        return str(declared)
    try:
        model._meta.get_field("account")
    except FieldDoesNotExist:
        return None
    return "account"


def visible_to(user: Person, rows: type[M] | models.QuerySet[M]) -> models.QuerySet[M]:
    """Those of `rows` (a model or a queryset) that this person may know of: all for an operator, else the tenant's.

    An API key knows of its account's rows only.
    """
    queryset: models.QuerySet[M] = rows if isinstance(rows, models.QuerySet) else rows._default_manager.all()
    path = tenant_path(queryset.model)
    if isinstance(user, KeyIdentity):
        account = account_path(queryset.model)
        if not path or account is None:
            return queryset.none()
        own = queryset.filter(**{path: user.tenant_id})
        return own if account == "*" else own.filter(**{account: user.account_id})
    if not isinstance(user, User) or not user.is_active:
        return queryset.none()
    if user.is_superuser:
        return queryset
    if user.tenant_id is None or not path:
        return queryset.none()
    return queryset.filter(**{path: user.tenant_id})


def tenant_id_of(row: models.Model) -> Any:
    """The key of the tenant a row belongs to; None for what belongs to the platform."""
    path = tenant_path(type(row))
    if not path:
        return None
    *links, last = path.split("__")
    value: Any = row
    for name in links:
        value = getattr(value, name)
    return value.pk if last == "pk" else getattr(value, f"{last}_id")
