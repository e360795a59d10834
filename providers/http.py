"""The one HTTP client: kept connections, timeouts, and what an answer means for the message (PRV-7, PRV-11).

Nothing is retried and no redirect is followed here: a repeated POST is a second e-mail, and a redirect would carry
the message and the credentials somewhere else.
"""

from __future__ import annotations

import io
import json
import re
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    NewConnectionError,
    ReadTimeoutError,
)
from urllib3.exceptions import (
    SSLError as TLSError,
)

from providers import destinations
from providers.exceptions import BadSettings, Misconfigured, PermanentFailure, ProviderError, TemporaryFailure, TooLarge
from providers.scrub import scrub

POOL_SIZE = 32
IDLE_SECONDS = 45.0
"""An idle connection is not used again after this time: most services close theirs after 60 to 75 seconds, and a
request that meets the closing half-way has an unknown outcome."""
MAX_ANSWER = 1024 * 1024
MAX_RETRY_AFTER = 24 * 3600.0
_CHUNK = 128 * 1024

_progress = threading.local()


class _KeptConnection:
    """Knows when it was last used, and tells this thread whether the request has left in full."""

    _last_used = 0.0

    @property
    def is_connected(self) -> bool:
        if time.monotonic() - self._last_used > IDLE_SECONDS:
            return False
        return bool(super().is_connected)  # type: ignore[misc]

    def request(self, *args: Any, **kwargs: Any) -> None:
        super().request(*args, **kwargs)  # type: ignore[misc]
        _progress.sent = True

    def getresponse(self) -> Any:
        self._last_used = time.monotonic()
        return super().getresponse()  # type: ignore[misc]


class _PlainConnection(_KeptConnection, HTTPConnection):
    pass


class _SecureConnection(_KeptConnection, HTTPSConnection):
    pass


class _PlainPool(HTTPConnectionPool):
    ConnectionCls = _PlainConnection


class _SecurePool(HTTPSConnectionPool):
    ConnectionCls = _SecureConnection


@dataclass(frozen=True, slots=True)
class Answer:
    """What the service said; `headers` may be read in any case. The body is cut at 1 MB."""

    status: int
    headers: Mapping[str, str]
    body: bytes = field(default=b"", repr=False)

    def json(self) -> Any:
        """The body as JSON, None when it is none."""
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError):
            return None

    @property
    def reason(self) -> str:
        """For example `HTTP 503 Service Unavailable`."""
        try:
            return f"HTTP {self.status} {HTTPStatus(self.status).phrase}"
        except ValueError:
            return f"HTTP {self.status}"


class HttpClient:
    """Requests to one service. Safe to use from many threads; up to 32 connections are kept open between requests."""

    def __init__(self, base_url: str, *, timeout: float) -> None:
        """`timeout` is in seconds, for connecting and for each wait for the answer, whose body has to be there within
        twice that time. Raises Misconfigured."""
        try:
            self.base_url = destinations.base_url(base_url) + "/"
        except ValueError as error:
            raise BadSettings({"base_url": str(error)}) from error
        self._seconds = timeout
        self._timeout = urllib3.Timeout(connect=timeout, read=timeout)
        self._pools = urllib3.PoolManager(maxsize=POOL_SIZE, blocksize=_CHUNK)
        self._pools.pool_classes_by_scheme = {"http": _PlainPool, "https": _SecurePool}

    def get(self, path: str, headers: Mapping[str, str]) -> Answer:
        """GET; see `request`."""
        return self.request("GET", path, None, headers)

    def post(self, path: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        """POST; see `request`."""
        return self.request("POST", path, body, headers)

    def request(
        self, method: str, path: str, body: bytes | None, headers: Mapping[str, str], *, most: int = MAX_ANSWER
    ) -> Answer:
        """Ask for `path` below the base URL, or for an absolute URL below it. `body` is None where there is none.

        Any status is an answer, cut off after `most` octets. Raises TemporaryFailure when there was none.
        """
        url = path if path.startswith(self.base_url) else self.base_url + path.lstrip("/")
        always = {"User-Agent": "smtpproxy", "Accept-Encoding": "gzip"}
        if body is not None:
            always["Content-Length"] = str(len(body))
        _progress.sent = False
        try:
            response = self._pools.request(
                method,
                url,
                # In pieces, so that the timeout holds for each piece and not for the whole of a long upload.
                body=body if body is None or len(body) <= _CHUNK else io.BytesIO(body),
                headers={**headers, **always},
                timeout=self._timeout,
                retries=False,
                redirect=False,
                preload_content=False,
            )
        except (HTTPError, OSError) as error:
            raise _no_answer(error, sent=_progress.sent) from error
        except ValueError as error:
            if _progress.sent:
                raise
            # A header that cannot be written, for example a credential outside of Latin-1; its text may quote it.
            raise Misconfigured("A setting cannot be sent to the service.", code="bad_config") from error
        return self._read(response, most)

    def _read(self, response: urllib3.BaseHTTPResponse, most: int) -> Answer:
        body = bytearray()
        until = time.monotonic() + 2 * self._seconds
        try:
            # Piece by piece, since each wait has its own timeout: an answer that trickles in would never end.
            while len(body) < most and (piece := response.read1(most - len(body), decode_content=True)):
                body += piece
                if time.monotonic() > until:
                    raise ReadTimeoutError(self._pools, "", "The answer does not come to an end.")  # type: ignore[arg-type]
        except (HTTPError, OSError) as error:
            response.close()
            if response.status < 300:
                raise TemporaryFailure(
                    f"The answer (HTTP {response.status}) broke off.",
                    code="bad_answer",
                    status_code=response.status,
                    outcome_unknown=True,
                ) from error
        else:
            if len(body) >= most:
                response.close()
            response.release_conn()
        return Answer(response.status, response.headers, bytes(body))

    def close(self) -> None:
        """Close idle connections; the client may be used again."""
        self._pools.clear()


def _no_answer(error: Exception, *, sent: bool) -> TemporaryFailure:
    if isinstance(error, NewConnectionError):  # refused, unreachable, no such host
        return TemporaryFailure("Could not connect to the service.", code="connection_failed")
    if isinstance(error, ConnectTimeoutError):
        return TemporaryFailure("Connecting to the service timed out.", code="connect_timeout")
    if isinstance(error, TLSError) and not sent:
        return TemporaryFailure(f"TLS failed: {scrub(str(error))}", code="tls")
    if isinstance(error, ReadTimeoutError) or any(isinstance(cause, TimeoutError) for cause in (error, *error.args)):
        return TemporaryFailure("The service did not answer in time.", code="timeout", outcome_unknown=sent)
    return TemporaryFailure("The connection broke before the answer.", code="connection_lost", outcome_unknown=sent)


def retry_after(value: str | None, now: datetime | None = None) -> float | None:
    """Seconds to wait from a Retry-After header (RFC 9110 §10.2.3: seconds or a date), at most a day. Fractions of
    a second, which some services write, are taken too.

    None for no header, garbage, and times that have passed.
    """
    value = (value or "").strip()
    if re.fullmatch(r"[0-9]{1,12}(?:\.[0-9]{1,9})?", value):
        seconds = float(value)
    else:
        try:
            when = parsedate_to_datetime(value)
        except (ValueError, TypeError, IndexError, OverflowError):
            return None
        when = when if when.tzinfo else when.replace(tzinfo=UTC)
        seconds = (when - (now or datetime.now(UTC))).total_seconds()
        if seconds < 0:
            return None
    return min(seconds, MAX_RETRY_AFTER)


def until(epoch: str | None) -> float | None:
    """Seconds until a time given as seconds or milliseconds since 1970, None when it is not within a day from now."""
    if epoch is None or not re.fullmatch(r"[0-9]{1,14}", epoch.strip()):
        return None
    time_named = float(epoch)
    seconds = (time_named / 1000 if time_named > 1e11 else time_named) - time.time()
    return seconds if 0 <= seconds <= MAX_RETRY_AFTER else None


_MEANINGS: dict[int, tuple[type[ProviderError], str]] = {
    401: (Misconfigured, "bad_credentials"),
    402: (Misconfigured, "account_limit"),
    403: (Misconfigured, "bad_credentials"),
    404: (Misconfigured, "wrong_url"),  # like a redirect: this is not the service's address
    405: (Misconfigured, "wrong_url"),
    407: (Misconfigured, "bad_credentials"),
    410: (Misconfigured, "wrong_url"),
    413: (TooLarge, "too_large"),
}


def _text(answer: Answer, words: str, secrets: Iterable[str]) -> str:
    return scrub(f"{answer.reason}: {words}" if words else answer.reason, secrets)


def failure(answer: Answer, words: str = "", *, secrets: Iterable[str] = ()) -> ProviderError:
    """What an answer that is no success means when the service says nothing more precise.

    `words` are the service's own, taken out of its answer by who knows its format.
    """
    status = answer.status
    if status == 429:
        return temporary(answer, words, code="throttled", secrets=secrets)
    if status >= 500 or status in {408, 409, 421, 423, 425}:
        return temporary(answer, words, code="server_error", secrets=secrets)
    kind, code = _MEANINGS.get(status, (PermanentFailure, "bad_request"))
    if status < 400:
        kind, code = Misconfigured, "wrong_url"
    return kind(_text(answer, words, secrets), code=code, status_code=status)


def temporary(answer: Answer, words: str = "", *, code: str, secrets: Iterable[str] = ()) -> TemporaryFailure:
    """Try again later, at the time the service names."""
    return TemporaryFailure(
        _text(answer, words, secrets),
        code=code,
        status_code=answer.status,
        retry_after=retry_after(answer.headers.get("Retry-After")),
        outcome_unknown=answer.status in {502, 504},
    )
