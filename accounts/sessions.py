"""Where people are signed in: browsers in the admin, and clients of the API (SEC-4, API-4).

A session ends by signing out, by being revoked, when its time is up, and whenever the person's password, role or right
to sign in changes (`User.save` sees to that). It is asked for with every request, so that its end counts at once.
"""

from __future__ import annotations

import hashlib
import uuid
from datetime import datetime, timedelta

from django.conf import settings
from django.db import transaction
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.utils import timezone

from accounts import networks
from accounts.models import User
from accounts.models import UserSession as Session

MOST_API_SESSIONS = 5
"""Of one person at once; the oldest makes room (API-4)."""
TOUCHED_EVERY = timedelta(minutes=1)
KEY = "user_session"
"""Under which a browser's session of Django names ours."""
KEPT_AFTER_END = timedelta(days=30)


class SessionEnded(Exception):
    """Not signed in any more. `code`: `unknown`, `ended`, `expired`, `idle`, `deactivated`, `network_not_allowed` or
    `token_reused`; for the log only."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


def begin(
    user: User,
    kind: str,
    *,
    client_ip: str | None,
    user_agent: str = "",
    token: str = "",
    expires_at: datetime | None = None,
) -> Session:
    """A new session; `token` is the id (`jti`) of the API's refresh token, of which a hash is kept.

    Without `expires_at` it lives as long as a browser's may.
    """
    now = timezone.now()
    with transaction.atomic():
        session = Session.objects.create(
            user=user,
            kind=kind,
            token_hash=_hash(token),
            last_used_at=now,
            expires_at=expires_at or now + timedelta(seconds=settings.SESSION_COOKIE_AGE),
            client_ip=client_ip if networks.address(client_ip) else None,
            user_agent=printable(user_agent),
        )
        if kind == Session.Kind.API:
            _make_room(user)
    return session


def _make_room(user: User) -> None:
    User.objects.select_for_update().filter(pk=user.pk).first()  # two at once would each see room
    api = active(user).filter(kind=Session.Kind.API).order_by("-created_at", "-pk")
    older = list(api.values_list("pk", flat=True)[MOST_API_SESSIONS:])
    _end(Session.objects.filter(pk__in=older), Session.End.DISPLACED)


def find(session_id: object, kind: str, client_ip: str | None) -> Session:
    """The session of this id, with its `user`, tenant and second factor; one query. Raises SessionEnded."""
    try:
        key = session_id if isinstance(session_id, uuid.UUID) else uuid.UUID(str(session_id))
    except ValueError:
        raise SessionEnded("unknown") from None
    found = Session.objects.select_related("user__tenant", "user__second_factor")
    session = found.defer("user__second_factor__secret").filter(pk=key, kind=kind).first()
    if session is None:
        raise SessionEnded("unknown")
    reason = _refusal(session, client_ip)
    if reason:
        raise SessionEnded(reason)
    return session


def _refusal(session: Session, client_ip: str | None) -> str:
    now = timezone.now()
    if session.ended_at is not None:
        return "ended"
    if session.expires_at <= now:
        return "expired"
    return person_refusal(session.user, client_ip)


def person_refusal(user: User, client_ip: str | None) -> str:
    """Why this person may not be signed in now, or from there; "" when they may (SEC-7)."""
    if not user.is_active:
        return "deactivated"
    if user.tenant is not None and not networks.allowed(networks.address(client_ip), user.tenant.client_networks):
        return "network_not_allowed"
    return ""


def touch(session: Session, client_ip: str | None = None) -> None:
    """Note that it was used, at most once a minute."""
    now = timezone.now()
    if now - session.last_used_at < TOUCHED_EVERY:
        return
    changed = {"last_used_at": now}
    if networks.address(client_ip):
        changed["client_ip"] = client_ip  # type: ignore[assignment]
    Session.objects.filter(pk=session.pk, last_used_at__lte=now - TOUCHED_EVERY).update(**changed)
    session.last_used_at = now


def rotate(session: Session, old_token: str, new_token: str, *, expires_at: datetime) -> None:
    """Put a new refresh token in the place of the old. Raises SessionEnded.

    A token that was used before was stolen, now or then: the whole session ends.
    """
    unended = Session.objects.filter(pk=session.pk, ended_at=None)
    replaced = unended.filter(token_hash=_hash(old_token)).update(
        token_hash=_hash(new_token), expires_at=expires_at, last_used_at=timezone.now()
    )
    if not replaced:
        _end(unended, Session.End.TOKEN_REUSED)
        raise SessionEnded("token_reused")


def end(session: Session, reason: str = Session.End.SIGNED_OUT) -> bool:
    """End it; returns whether it had not ended before."""
    return bool(_end(Session.objects.filter(pk=session.pk), reason))


def end_all(user: User, reason: str = Session.End.REVOKED, *, but: Session | None = None) -> int:
    """End all sessions of a person, `but` one perhaps; returns how many there were."""
    live = Session.objects.filter(user=user)
    return _end(live.exclude(pk=but.pk) if but is not None else live, reason)


def _end(sessions: QuerySet[Session], reason: str) -> int:
    return sessions.filter(ended_at=None).update(ended_at=timezone.now(), end_reason=reason)


def active(user: User) -> QuerySet[Session]:
    """Where this person is signed in, the newest first."""
    now = timezone.now()
    idle = now - timedelta(seconds=settings.SESSION_IDLE_TIMEOUT)
    return Session.objects.filter(user=user, ended_at=None, expires_at__gt=now).exclude(
        Q(kind=Session.Kind.ADMIN) & Q(last_used_at__lt=idle)
    )


def of(request: HttpRequest) -> Session | None:
    """The session behind a request of the admin."""
    return getattr(request, KEY, None)


def sweep() -> int:
    """Delete sessions that were over long ago; returns how many."""
    past = timezone.now() - KEPT_AFTER_END
    return Session.objects.filter(Q(ended_at__lt=past) | Q(expires_at__lt=past)).delete()[0]


def printable(text: str) -> str:
    """What a client calls itself, fit to be kept and shown."""
    return "".join(letter for letter in text if letter.isprintable())[:255]


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest() if token else ""
