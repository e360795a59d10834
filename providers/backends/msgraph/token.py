"""Access tokens of an application (OAuth 2.0 client credentials), by msal, shared between workers (PRV-6).

The token endpoint has a documented address below the authority, so that nothing is asked of the discovery endpoints:
https://learn.microsoft.com/en-us/entra/identity-platform/v2-oauth2-client-creds-grant-flow
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import msal
import structlog

from accounts import shared_state
from accounts.crypto import DecryptionError, decrypt, encrypt, keyed_hashes
from providers import http
from providers.exceptions import Misconfigured, TemporaryFailure
from providers.http import HttpClient
from providers.scrub import scrub

log = structlog.get_logger(__name__)

EARLY = 300.0
"""Seconds before its end at which a token is replaced; half of its life where that is less."""
UNSAID = 600
"""Seconds a token is taken to live whose end is not told (RFC 6749 §5.1 recommends to tell it)."""
_TRY_LATER = frozenset({"temporarily_unavailable", "server_error", "slow_down"})
_CLOUDS = {
    # https://learn.microsoft.com/en-us/graph/deployments: where Graph is, and where one signs in
    "graph.microsoft.com": "login.microsoftonline.com",
    "graph.microsoft.us": "login.microsoftonline.us",
    "dod-graph.microsoft.us": "login.microsoftonline.us",
    "microsoftgraph.chinacloudapi.cn": "login.chinacloudapi.cn",
}


@dataclass(frozen=True, slots=True)
class Token:
    """`until` is the time (seconds since 1970) from which another one is fetched."""

    value: str = field(repr=False)
    until: float

    @property
    def fresh(self) -> bool:
        return time.time() < self.until


@dataclass(frozen=True, slots=True)
class Application:
    """An app registration in Entra ID; `credential` is what msal calls `client_credential`."""

    tenant_id: str
    client_id: str
    credential: str | Mapping[str, str] = field(repr=False)


class Tokens:
    """The tokens of one application. Safe to use from many threads: one of them fetches, the others wait for it."""

    def __init__(self, application: Application, client: HttpClient, scope: str, secrets: tuple[str, ...]) -> None:
        self._application, self._client, self._scope, self._secrets = application, client, scope, secrets
        self._lock = threading.Lock()
        self._own: Token | None = None
        # Whoever does not know the credential finds no token either.
        everything = [client.base_url, application.tenant_id, application.client_id, scope, application.credential]
        self._key = shared_state.key("graph-token", keyed_hashes(json.dumps(everything))[0])

    def get(self, refused: str = "") -> str:
        """A token; never `refused`, which the service did not take. Raises ProviderError."""
        own = self._own
        if own is not None and own.fresh and own.value != refused:
            return own.value
        with self._lock:
            for known in (self._own, self._shared()):
                if known is not None and known.fresh and known.value != refused:
                    self._own = known
                    return known.value
            self._own = self._fetch()
            self._share(self._own)
            return self._own.value

    def _shared(self) -> Token | None:
        """What another worker has fetched; None too when the store is away or the value is not ours to read."""
        try:
            stored = shared_state.client().get(self._key)
            return Token(**decrypt(bytes(stored).decode())) if stored else None  # type: ignore[arg-type]
        except (shared_state.Unavailable, DecryptionError, TypeError, ValueError):
            return None

    def _share(self, token: Token) -> None:
        seconds = int(token.until - time.time())
        if seconds < 1:
            return
        try:
            shared_state.client().set(self._key, encrypt({"value": token.value, "until": token.until}), ex=seconds)
        except shared_state.Unavailable as error:
            log.warning("token not shared", error=type(error).__name__)

    def _fetch(self) -> Token:
        wire = _Wire(self._client, self._application.tenant_id, self._secrets)
        try:
            application = msal.ConfidentialClientApplication(
                self._application.client_id,
                client_credential=self._application.credential,
                authority=wire.authority,
                instance_discovery=False,
                http_client=wire,
            )
            told = application.acquire_token_for_client([self._scope])
        except ValueError as error:  # a private key that is none; the text may quote it
            raise Misconfigured("The credential cannot be used.", code="bad_credentials") from error
        if not isinstance(told, dict) or not isinstance(told.get("access_token"), str):
            raise self._refusal(told if isinstance(told, dict) else {})
        life = float(told.get("expires_in") or 0)
        return Token(told["access_token"], time.time() + life - min(EARLY, life / 2))

    def _refusal(self, told: Mapping[str, Any]) -> Misconfigured | TemporaryFailure:
        error = str(told.get("error") or "")
        words = str(told.get("error_description") or error or "no token").partition("\r\n")[0]
        text = scrub(f"Sign-in failed: {words}", self._secrets)
        if error in _TRY_LATER:
            return TemporaryFailure(text, code="server_error")
        return Misconfigured(text, code="bad_credentials", status_code=401)


def scope_of(base_url: str) -> str:
    """The scope of a Graph service; of one that is not Microsoft's own (a proxy), that of the global service."""
    host = urlsplit(base_url).hostname or ""
    return f"https://{host if host in _CLOUDS else 'graph.microsoft.com'}/.default"


def login_url(configured: str, base_url: str, tenant_id: str) -> str:
    """Where to sign in, without the directory and the path that belong to every such address.

    Where none is configured it is that of the cloud; a Graph that is not Microsoft's own has it on the same host.
    """
    if configured:
        url = configured.strip().rstrip("/").removesuffix("/oauth2/v2.0/token")
        return url.removesuffix(f"/{tenant_id}")
    parts = urlsplit(base_url)
    known = _CLOUDS.get(parts.hostname or "")
    return f"https://{known}" if known else f"{parts.scheme}://{parts.netloc}"


@dataclass(frozen=True, slots=True)
class _Said:
    """An answer as msal wants to read it."""

    status_code: int
    text: str = field(repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)

    def raise_for_status(self) -> None:
        """Nothing to do: what is no answer of a token endpoint has been raised before."""


def _seconds(value: Any) -> int:
    """The life of a token: a number, or digits as older endpoints write them."""
    try:
        return int(float(value))
    except (TypeError, ValueError, OverflowError):
        return UNSAID


class _Wire:
    """The `http_client` of msal: our own client, with its timeouts, and no request but the one for the token.

    msal takes authorities with https only. It is told one; requests go to the address as it was configured.
    """

    def __init__(self, client: HttpClient, tenant_id: str, secrets: tuple[str, ...]) -> None:
        self._client, self._secrets = client, secrets
        self._path = quote(tenant_id, safe="")
        self._origin = "https://" + client.base_url.partition("://")[2].rstrip("/")
        self.authority = f"{self._origin}/{self._path}"

    def get(self, url: str, **_: Any) -> _Said:  # noqa: ARG002
        """The discovery document, known without asking."""
        token, authorize = (f"{self.authority}/oauth2/v2.0/{name}" for name in ("token", "authorize"))
        told = {"issuer": self.authority, "token_endpoint": token, "authorization_endpoint": authorize}
        return _Said(200, json.dumps(told))

    def post(self, url: str, *, data: Mapping[str, str], headers: Mapping[str, str] | None = None, **_: Any) -> _Said:
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        try:
            answer = self._client.post(
                url.removeprefix(self._origin), urlencode(data).encode(), {**(headers or {}), **form}
            )
        except TemporaryFailure as failure:
            failure.outcome_unknown = False  # of the message: nothing of it has left us
            raise
        told = answer.json()
        known = isinstance(told, dict) and ("access_token" in told or "error" in told)
        if answer.status == 429 or answer.status >= 500 or not known:
            raise self._no_token(answer)
        if "access_token" in told:  # nothing more: msal breaks on lives of any kind that are no numbers
            life = _seconds(told.get("expires_in"))
            told = {"token_type": "Bearer", "access_token": told["access_token"], "expires_in": life}
        return _Said(answer.status, json.dumps(told), dict(answer.headers))

    def close(self) -> None:
        """The client belongs to the backend."""

    def _no_token(self, answer: http.Answer) -> Exception:
        failure = http.failure(answer, "no answer of a token endpoint", secrets=self._secrets)
        if isinstance(failure, TemporaryFailure):
            failure.outcome_unknown = False
            return failure
        return Misconfigured(failure.text, code="wrong_url", status_code=answer.status)
