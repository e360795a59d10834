"""Browsers' sessions in the admin: begun when somebody signs in, asked for with every request (SEC-4)."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import structlog
from django.conf import settings
from django.contrib.auth.models import AnonymousUser
from django.contrib.auth.signals import user_logged_in, user_logged_out
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import resolve, reverse
from django.utils import timezone

from accounts import audit, look_as, second_factor, sessions
from accounts.models import User, UserSession
from accounts.sessions import SessionEnded

ENROLLING = frozenset({"admin:second_factor", "admin:logout", "admin:login", "admin:jsi18n"})

log = structlog.get_logger(__name__)


class UserSessionMiddleware:
    """Signs out whose session has ended; else `sessions.of(request)` is it. One query, for those who are signed in."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if settings.SESSION_COOKIE_NAME in request.COOKIES and request.user.is_authenticated:
            try:
                self._resume(request, request.user)
            except SessionEnded as error:
                log.info("session ended", reason=error.code, user_id=str(request.user.pk))
                request.session.flush()
                request.user = AnonymousUser()
            else:
                if second_factor.lacking(request.user) and not _open(request):
                    return HttpResponseRedirect(reverse("admin:second_factor"))
                look_as.put_on(request)
        return self._get_response(request)

    def _resume(self, request: HttpRequest, user: User) -> None:
        address = request.META.get("REMOTE_ADDR")
        session = sessions.find(request.session.get(sessions.KEY), UserSession.Kind.ADMIN, address)
        if session.user_id != user.pk:
            raise SessionEnded("unknown")
        if timezone.now() - session.last_used_at > timedelta(seconds=settings.SESSION_IDLE_TIMEOUT):
            raise SessionEnded("idle")
        sessions.touch(session, address)
        request.user = session.user  # the same row, with its tenant and second factor
        setattr(request, sessions.KEY, session)


def _open(request: HttpRequest) -> bool:
    """Whether a page is there for who has yet to set up the second factor the tenant wants."""
    try:
        return resolve(request.path_info).view_name in ENROLLING
    except Http404:
        return True


def begin(sender: Any, request: HttpRequest, user: User, **_: Any) -> None:  # noqa: ARG001
    """A browser has signed in."""
    session = sessions.begin(
        user,
        UserSession.Kind.ADMIN,
        client_ip=request.META.get("REMOTE_ADDR"),
        user_agent=request.META.get("HTTP_USER_AGENT", ""),
    )
    request.session[sessions.KEY] = str(session.pk)
    setattr(request, sessions.KEY, session)


def end(sender: Any, request: HttpRequest, user: User | None, **_: Any) -> None:  # noqa: ARG001
    """A browser has signed out; called before its session is emptied."""
    session = sessions.of(request)
    if user is not None and session is not None and sessions.end(session):
        audit.record(user, "user.signed_out", user, ip=request.META.get("REMOTE_ADDR"))


def connect() -> None:
    """Hear of sign-ins and sign-outs, by whatever view."""
    user_logged_in.connect(begin, dispatch_uid="user session begins")
    user_logged_out.connect(end, dispatch_uid="user session ends")
