"""What a caller may do: the table of SEC-1, asked by a view's area and the verb of its action."""

from __future__ import annotations

from typing import Any

from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from accounts import wall
from accounts.models import User
from accounts.tenancy import Area, Verb, permits
from accounts.wall_middleware import tenant_of

_VERBS = {
    "list": Verb.READ,
    "retrieve": Verb.READ,
    "create": Verb.CREATE,
    "update": Verb.UPDATE,
    "partial_update": Verb.UPDATE,
    "destroy": Verb.DELETE,
}


class PersonsOnly(BasePermission):
    """Somebody who signed in, whatever their role; no API key."""

    def has_permission(self, request: Request, view: Any) -> bool:
        return isinstance(request.user, User) and request.user.is_active


class MayDo(BasePermission):
    """A view says `area`, and in `verbs` the verb of each action of its own; an action without one is refused."""

    def has_permission(self, request: Request, view: Any) -> bool:
        wall.enter(tenant_of(request.user))  # again: for those an authentication without it has let in
        area: Area | None = getattr(view, "area", None)
        if area is None:
            return False
        verb = {**_VERBS, **getattr(view, "verbs", {})}.get(getattr(view, "action", None) or "")
        if verb is None:
            # What the router does not know is answered 405 by the view, to those who may read at all.
            verb = Verb.READ if getattr(view, "action", None) in (None, "metadata") else None
        areas: dict[str, Area] = getattr(view, "areas", {})
        return verb is not None and permits(request.user, areas.get(view.action or "", area), verb)
