"""Requests to Graph: authorised, below its limits for one mailbox, and their answers read (PRV-6)."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote, urlsplit

from providers import destinations, http
from providers.backends.msgraph import errors
from providers.backends.msgraph.token import Tokens
from providers.exceptions import Paused, ProviderError, TemporaryFailure
from providers.http import Answer, HttpClient

AT_ONCE = 4
"""Requests of one application for one mailbox: https://learn.microsoft.com/en-us/graph/throttling-limits"""
JSON = "application/json"
MIME = "text/plain"


class Api:
    """Safe to use from many threads."""

    def __init__(
        self, base_url: str, tokens: Tokens, *, timeout: float, secrets: tuple[str, ...], mailbox_of_row: bool
    ) -> None:
        self.client = HttpClient(base_url, timeout=timeout)
        self._tokens, self._timeout, self._secrets = tokens, timeout, secrets
        self._mailbox_of_row = mailbox_of_row
        self._lock = threading.Lock()
        self._busy: dict[str, threading.BoundedSemaphore] = {}
        self._uploads: dict[str, HttpClient] = {}

    def call(self, method: str, mailbox: str, path: str, body: bytes | None = None, content_type: str = JSON) -> Answer:
        """`path` is below the mailbox. A token that has ended meanwhile is replaced once. Raises ProviderError when
        there was no answer; any status is one."""
        with self._turn(mailbox):
            return self._ask(method, f"users/{quote(mailbox, safe='@')}/{path}", body, content_type)

    def _ask(
        self,
        method: str,
        url: str,
        body: bytes | None,
        content_type: str = JSON,
        *,
        accept: str = JSON,
        most: int = http.MAX_ANSWER,
    ) -> Answer:
        headers = {"Prefer": 'IdType="ImmutableId"', "Accept": accept}
        if body is not None:
            headers["Content-Type"] = content_type
        token = self._tokens.get()
        answer = self.client.request(method, url, body, {**headers, "Authorization": f"Bearer {token}"}, most=most)
        if answer.status == 401:
            token = self._tokens.get(refused=token)
            answer = self.client.request(method, url, body, {**headers, "Authorization": f"Bearer {token}"}, most=most)
        return answer

    def whole(self, mailbox: str, path: str, most: int) -> Answer:
        """What is there, as it is and up to `most` octets; for what sends nothing."""
        with nothing_sent(), self._turn(mailbox):
            return self._ask("GET", f"users/{quote(mailbox, safe='@')}/{path}", None, accept="*/*", most=most)

    def glance(self, mailbox: str) -> Answer:
        """Look at one message's id in a mailbox, or at one user's where none is named."""
        path = f"users/{quote(mailbox, safe='@')}/messages" if mailbox else "users"
        with nothing_sent():
            return self._ask("GET", f"{path}?$top=1&$select=id", None)

    def ask(self, method: str, mailbox: str, path: str, payload: Any = None) -> Answer:
        """`call` with JSON, for what sends nothing: whatever goes wrong, the message has not left."""
        body = None if payload is None else json.dumps(payload).encode()
        if method == "POST" and body is None:
            body = b""
        with nothing_sent():
            return self.call(method, mailbox, path, body)

    def upload(self, method: str, mailbox: str, url: str, body: bytes | None, headers: Mapping[str, str]) -> Answer:
        """A request to an upload session; its address holds its own authorisation, so that none is added."""
        with nothing_sent(), self._turn(mailbox):
            return self._client_of(url).request(method, url, body, headers)

    def failure(self, answer: Answer) -> ProviderError:
        """What an answer that is no success means."""
        return errors.failure(answer, self._secrets, mailbox_of_row=self._mailbox_of_row)

    def expect(self, answer: Answer) -> Answer:
        """The answer if it is any success (PRV-6); raises what it means otherwise, sure that nothing was sent."""
        if 200 <= answer.status < 300:
            return answer
        with nothing_sent():
            raise self.failure(answer)

    def close(self) -> None:
        with self._lock:
            clients = [self.client, *self._uploads.values()]
            self._uploads = {}
        for client in clients:
            client.close()

    @contextlib.contextmanager
    def _turn(self, mailbox: str) -> Iterator[None]:
        with self._lock:
            busy = self._busy.setdefault(mailbox.lower(), threading.BoundedSemaphore(AT_ONCE))
        if not busy.acquire(timeout=self._timeout * 2):
            raise Paused("Not called: the mailbox is busy with other messages.", code="mailbox_busy")
        try:
            yield
        finally:
            busy.release()

    def _client_of(self, url: str) -> HttpClient:
        """The client for an upload session, which lies on another host; not for any place, whoever names it."""
        wrong = TemporaryFailure("The service named a place for uploads that is not its own.", code="bad_answer")
        try:
            parts, own = urlsplit(url), urlsplit(self.client.base_url)
            destinations.base_url(f"{parts.scheme}://{parts.netloc}")
        except ValueError:
            raise wrong from None
        origin = f"{parts.scheme}://{parts.netloc}"
        with self._lock:
            known = self._uploads.get(origin)
            if known is not None:
                return known
            outside = destinations.is_private(parts.hostname or "") and not destinations.is_private(own.hostname or "")
            if outside or (own.scheme, parts.scheme) not in {("https", "https"), ("http", "http"), ("http", "https")}:
                raise wrong
            return self._uploads.setdefault(origin, HttpClient(origin, timeout=self._timeout))


@contextlib.contextmanager
def nothing_sent() -> Iterator[None]:
    """Whatever fails in here leaves no doubt about the message: it was not sent."""
    try:
        yield
    except TemporaryFailure as failure:
        failure.outcome_unknown = False
        raise


def unreadable(answer: http.Answer) -> TemporaryFailure:
    """A success that does not look like Graph's."""
    return TemporaryFailure(
        f"{answer.reason}, but not an answer of this service.", code="bad_answer", status_code=answer.status
    )
