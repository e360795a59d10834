"""One request to a tenant's webhook: into the Internet only, over in time, and without following redirects (EVT-3)."""

from __future__ import annotations

import re
import time
import uuid
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import structlog
import urllib3
from django.conf import settings
from django.utils import timezone
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    NewConnectionError,
    ReadTimeoutError,
    SSLError,
)

from delivery.outgoing import signatures
from providers import destinations, guarded
from providers.http import retry_after
from providers.scrub import scrub

log = structlog.get_logger(__name__)

CONNECT_TIMEOUT = 5.0
MOST_READ = 16 * 1024
"""Octets of an answer that are looked at; the connection of a longer one is not used again."""
LOST = 5.0
"""Seconds after which a late request is left alone that cannot be ended: its name is still being looked up."""
WRONG_URL = "Give an address that begins with https:// and leads into the Internet, without user name or password."


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of a request: the status, None where there was no answer, and what was said or went wrong."""

    status: int | None
    text: str
    duration_ms: int
    retry_after: float | None = None

    @property
    def good(self) -> bool:
        return self.status is not None and 200 <= self.status < 300


@dataclass(slots=True)
class Request:
    """A signed request, ready to be made by any thread; it holds no row and no open connection."""

    url: str
    body: bytes = field(repr=False)
    headers: dict[str, str] = field(repr=False)
    cut: guarded.Cut = field(default_factory=guarded.Cut)
    started: float = 0.0

    def late(self, seconds: float = 0.0) -> bool:
        """Whether it has been under way for longer than it may, and so many seconds more."""
        return self.started > 0 and time.monotonic() - self.started > settings.WEBHOOK_TIMEOUT + seconds


def request(url: str, secrets: dict[str, Any], body: bytes, event_id: str, delivery_id: uuid.UUID) -> Request:
    """The request that tells a webhook of an event, signed now."""
    return Request(
        url,
        body,
        {
            "Content-Type": "application/json",
            "User-Agent": "smtpproxy",
            "Smtpproxy-Signature": signatures.header(secrets, body, timezone.now()),
            "Smtpproxy-Event-Id": event_id,
            "Smtpproxy-Delivery-Id": str(delivery_id),
        },
    )


def pools() -> urllib3.PoolManager:
    """Connections for many requests."""
    return guarded.pools(private=settings.WEBHOOK_PRIVATE_NETWORKS)


def make(request: Request, connections: urllib3.PoolManager) -> Answer:
    """Make a request and wait for its answer. Never raises. Runs in a thread: another one is to call `request.cut()`
    when it is late, since a receiver that sends an octet now and then outlasts every timeout of a socket."""
    request.started = time.monotonic()
    guarded.cut_by(request.cut)
    try:
        status, headers, said = _ask(request, connections)
    except (HTTPError, OSError, ValueError) as error:
        text = "It did not answer in time." if request.late() else _words(error)
        return Answer(None, text, _since(request))
    except Exception as error:
        log.exception("webhook request failed")
        return Answer(None, f"The request failed ({type(error).__name__}).", _since(request))
    finally:
        request.cut.watch(None)  # the connection may be another request's from now on
    return Answer(status, scrub(said), _since(request), retry_after(headers.get("Retry-After")))


def make_alone(request: Request) -> Answer:
    """Make one request now, and wait for its end. Never raises."""
    connections = pools()
    threads = ThreadPoolExecutor(1, thread_name_prefix="webhook")
    try:
        under_way = threads.submit(make, request, connections)
        if not wait([under_way], settings.WEBHOOK_TIMEOUT).done:
            request.cut()
            wait([under_way], LOST)
        return under_way.result() if under_way.done() else gave_up(request)
    finally:
        threads.shutdown(wait=False, cancel_futures=True)
        connections.clear()


def gave_up(request: Request) -> Answer:
    """The answer to a request nobody waits for any longer."""
    return Answer(None, "Its name could not be looked up in time.", _since(request))


def check_url(url: str) -> None:
    """Raise ValueError, with a text for people, for an address no webhook may have. Where its name leads is looked at
    with each connection."""
    try:
        parts = urlsplit(url)
        host = destinations.host(parts.hostname or "")
        _ = parts.port
    except ValueError:
        raise ValueError(WRONG_URL) from None
    private = settings.WEBHOOK_PRIVATE_NETWORKS
    wrong_scheme = parts.scheme != "https" and not (private and parts.scheme == "http")
    if wrong_scheme or "@" in parts.netloc or re.search(r"[\s\\#]", url) or parts.port == 0:
        raise ValueError(WRONG_URL)
    if not private and destinations.is_private(host):
        raise ValueError(WRONG_URL)


def _ask(request: Request, connections: urllib3.PoolManager) -> tuple[int, urllib3.HTTPHeaderDict, bytes]:
    check_url(request.url)  # what is in the row may be older than the settings
    seconds = settings.WEBHOOK_TIMEOUT
    response = connections.request(
        "POST",
        request.url,
        body=request.body,
        headers=request.headers,
        timeout=urllib3.Timeout(connect=min(CONNECT_TIMEOUT, seconds), total=seconds),
        retries=False,
        redirect=False,
        preload_content=False,
        decode_content=False,
    )
    if request.late():
        response.close()  # it was ended amid its headers, which looks like their end
        raise TimeoutError
    try:
        text = b""
        while len(text) < MOST_READ and (piece := response.read1(MOST_READ - len(text))):
            text += piece
    except (HTTPError, OSError):
        # It has told its status, and that is what counts.
        response.close()
    else:
        if len(text) >= MOST_READ:
            response.close()
        response.release_conn()
    if 300 <= response.status < 400:
        text = b"A redirect, which is not followed: enter the address it leads to."
    return response.status, response.headers, text


def _words(error: Exception) -> str:
    if isinstance(error, guarded.PrivateAddress | NewConnectionError):
        return "Not connected. " + str(error).rpartition(": ")[2]
    if isinstance(error, ConnectTimeoutError):
        return "Not connected. Connecting timed out."
    if isinstance(error, SSLError):
        return scrub(f"TLS failed: {error}")
    if isinstance(error, ReadTimeoutError):
        return "It did not answer in time."
    if isinstance(error, ValueError):
        return str(error) if str(error) == WRONG_URL else "The address cannot be used."
    return "The connection broke before the answer."


def _since(request: Request) -> int:
    return round((time.monotonic() - request.started) * 1000)
