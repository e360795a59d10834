"""Tokens of persons' sessions: JWTs that name the session, which says whether they are good (API-4).

An access token is good for minutes, a refresh token for days and once. Both are signed with a key made from SECRET_KEY;
those signed under one of SECRET_KEY_FALLBACKS go on.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any, Self, cast

from django.conf import settings
from django.utils import timezone
from django.utils.crypto import salted_hmac
from rest_framework_simplejwt.backends import TokenBackend
from rest_framework_simplejwt.exceptions import TokenBackendError, TokenBackendExpiredToken
from rest_framework_simplejwt.tokens import Token

from accounts import sessions
from accounts.models import User, UserSession

SESSION = "sid"


class _Keys(TokenBackend):
    """Signs with the first secret; any of them verifies."""

    def __init__(self, secrets: tuple[str, ...]) -> None:
        first, *before = [salted_hmac("accounts.api.tokens", "", secret=each).hexdigest() for each in secrets]
        super().__init__("HS256", first)
        self._before = [TokenBackend("HS256", key) for key in before]

    def decode(self, token: Any, verify: bool = True) -> dict[str, Any]:
        try:
            return super().decode(token, verify)
        except TokenBackendExpiredToken:
            raise
        except TokenBackendError as error:
            for other in self._before:
                try:
                    return other.decode(token, verify)
                except TokenBackendExpiredToken:
                    raise
                except TokenBackendError:
                    continue
            raise error


@lru_cache(maxsize=4)
def _keys(*secrets: str) -> _Keys:
    return _Keys(secrets)


class _SessionToken(Token):
    def get_token_backend(self) -> TokenBackend:
        return _keys(settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS)

    @classmethod
    def of(cls, session_id: object) -> Self:
        token = cls()
        token.set_exp(lifetime=cls.life())
        token[SESSION] = str(session_id)
        return token

    @classmethod
    def life(cls) -> timedelta:
        raise NotImplementedError

    @property
    def ends_at(self) -> datetime:
        return datetime.fromtimestamp(self["exp"], tz=timezone.get_default_timezone())


class Access(_SessionToken):
    """Shown with each request."""

    token_type = "access"  # noqa: S105
    lifetime = timedelta(minutes=15)

    @classmethod
    def life(cls) -> timedelta:
        return timedelta(minutes=settings.API_ACCESS_MINUTES)


class Refresh(_SessionToken):
    """Good for one new pair of tokens."""

    token_type = "refresh"  # noqa: S105
    lifetime = timedelta(days=7)

    @classmethod
    def life(cls) -> timedelta:
        return timedelta(days=settings.API_REFRESH_DAYS)


def begin(user: User, client_ip: str | None, user_agent: str) -> tuple[UserSession, dict[str, Any]]:
    """A new session of the API, and its first tokens as they are told."""
    refresh = Refresh.of("")
    session = sessions.begin(
        user,
        UserSession.Kind.API,
        client_ip=client_ip,
        user_agent=user_agent,
        token=refresh["jti"],
        expires_at=refresh.ends_at,
    )
    refresh[SESSION] = str(session.pk)
    return session, told(session, refresh)


def renew(text: str, client_ip: str | None) -> tuple[UserSession, dict[str, Any]]:
    """New tokens for a refresh token, which is used up. Raises TokenError, or SessionEnded.

    One that was used before ends the whole session: somebody has a copy.
    """
    old = Refresh(cast(Any, text))
    session = sessions.find(old.get(SESSION), UserSession.Kind.API, client_ip)
    new = Refresh.of(session.pk)
    sessions.rotate(session, old["jti"], new["jti"], expires_at=new.ends_at)
    return session, told(session, new)


def told(session: UserSession, refresh: Refresh) -> dict[str, Any]:
    """Both tokens as a client is told them; `expires_in` is in seconds, of the access token."""
    return {
        "access": str(Access.of(session.pk)),
        "refresh": str(refresh),
        "token_type": "Bearer",
        "expires_in": int(Access.life().total_seconds()),
        "session": session.pk,
    }
