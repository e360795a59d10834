"""What the stand-ins of HTTP services have in common."""

from __future__ import annotations

import base64
import contextlib
import json
import re
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import parse_qsl, urlencode

import pytest
from jsonschema import Draft202012Validator, FormatChecker

SHARED = Path(__file__).resolve().parents[4] / "shared"


def vendor_schema(name: str) -> dict[str, Any]:
    """The request schema of the vendor's send endpoint; the test is skipped where the schemas are not at hand."""
    path = SHARED / "esp" / f"{name}.json"
    if not path.exists():
        pytest.skip(f"the vendors' request schemas are not there: {path}")
    return json.loads(path.read_text())["endpoints"][0]["request"]["application/json"]["schema"]


def forbid_unknown(schema: Any) -> Any:
    """The same schema, but no object may have properties it does not name."""
    if isinstance(schema, list):
        return [forbid_unknown(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    strict = {key: forbid_unknown(value) for key, value in schema.items()}
    if isinstance(schema.get("properties"), dict) and "additionalProperties" not in schema:
        strict["additionalProperties"] = False
    return strict


@dataclass
class File:
    """An attachment as the service understood it; `cid` is "" unless the HTML can refer to it."""

    name: str
    type: str
    content: bytes
    cid: str = ""


@dataclass
class Accepted:
    """One mail the service would send. `to`, `cc`, `bcc` are bare addresses as they were written in the request."""

    key: str
    """The credential it came with."""
    payload: Any
    sender: str
    to: list[str]
    cc: list[str]
    bcc: list[str]
    subject: str
    text: str | None
    html: str | None
    files: list[File] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    """Headers of the mail."""
    id: str = ""
    data: bytes = b""
    """The octets of a message that was handed over whole."""

    @property
    def recipients(self) -> list[str]:
        return self.to + self.cc + self.bcc


class Refused(Exception):
    """The stand-in's answer to a request the vendor would refuse."""

    def __init__(self, status: int, body: Any, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(f"{status}: {body}")
        self.status, self.body, self.headers = status, body, dict(headers or {})


@dataclass(frozen=True)
class Request:
    """One HTTP request as it arrived; `path` is without the stand-in's `base_path` and without the query."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes = field(repr=False)


class StandIn:
    """A service on loopback. Subclasses check the request and write the vendor's answers.

    `accepted` is what was taken, `refusals` what was refused by the rules (a test that sends a good message can
    assert that it is empty), `connections` the number of TCP connections so far. A service with many methods and
    paths overrides `serve`.
    """

    type: ClassVar[str]
    path: ClassVar[str]
    base_path: ClassVar[str] = ""
    content_type: ClassVar[str] = "application/json"
    credential: ClassVar[str]
    """The setting of our backend that holds the key."""
    key_header: ClassVar[str]
    """The header that holds nothing but the key; a service that wants it elsewhere overrides `authorized`."""
    unauthorized: ClassVar[int] = 401
    """Status for a wrong key."""

    def __init__(self, *, keys: tuple[str, ...] = ("key-of-acme-0123456789",), delay: float = 0.0) -> None:
        self.keys = keys
        self.delay = delay
        self.accepted: list[Accepted] = []
        self.refusals: list[tuple[int, Any]] = []
        self.connections = 0
        self.requests = 0
        self._orders: deque[dict[str, Any]] = deque()
        self._lock = threading.Lock()
        self.prepare()

    def prepare(self) -> None:
        """Load schemas and the like."""

    def __enter__(self) -> StandIn:
        service = self

        class Handler(_Handler):
            standin = service

        self._server = _Server(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.close_all()
        self._server.server_close()
        self._thread.join(5)

    @property
    def url(self) -> str:
        """The base URL to configure."""
        return f"http://127.0.0.1:{self._server.server_address[1]}{self.base_path}"

    def config(self, key: str | None = None, **more: Any) -> dict[str, Any]:
        """Settings of a provider row that uses this service."""
        return {self.credential: key or self.keys[0], "base_url": self.url, **more}

    # Orders are for the next requests; with `at`, for the next whose method and path it matches: `at="PUT "`.

    def fail_next(
        self, status: int, body: Any = None, headers: Mapping[str, str] | None = None, times: int = 1, at: str = ""
    ) -> None:
        """Answer the next requests so. Without a body it is the vendor's usual one for that status."""
        self._order(times, at, status=status, body=body, headers=dict(headers or {}))

    def hang_next(self, seconds: float, *, take: bool = False, times: int = 1, at: str = "") -> None:
        """Do not answer the next requests for so long; with `take`, the messages are taken all the same."""
        self._order(times, at, hang=seconds, take=take)

    def reset_next(self, *, take: bool = False, at: str = "") -> None:
        """Cut the connection of the next request after reading it in full; with `take`, the message is taken."""
        self._order(1, at, reset=True, take=take)

    def answer_next(self, raw: bytes, at: str = "") -> None:
        """Write these bytes as the whole answer and close."""
        self._order(1, at, raw=raw)

    def close_idle(self) -> None:
        """Close every open connection, as a server does that has waited long enough."""
        self._server.close_all()

    def _order(self, times: int, at: str = "", **order: Any) -> None:
        with self._lock:
            self._orders.extend([{"at": at, **order}] * times)

    def _ordered(self, request: Request) -> dict[str, Any]:
        """The first order that is meant for this request, taken off the list."""
        said = f"{request.method} {request.path}"
        for number, order in enumerate(self._orders):
            if re.search(order["at"], said):
                del self._orders[number]
                return order
        return {}

    # What a subclass says

    def serve(self, request: Request) -> tuple[int, Any, dict[str, str]]:
        """The answer to any request: status, body and headers. Raises Refused."""
        if request.method == "POST":
            return self.posted(request)
        if request.method == "GET" and not request.body:
            query = f"?{urlencode(request.query)}" if request.query else ""
            return self.show(request.path + query, request.headers)
        raise Refused(405, self.error(405))

    def counts(self, request: Request) -> bool:
        """Whether a request is counted and takes orders: not one for a token, which is nobody's message."""
        return True

    def entered(self, request: Request) -> None:
        """A request has arrived; `left` follows when its answer is written, or will never be."""

    def left(self, request: Request) -> None:
        """See `entered`."""

    def posted(self, request: Request) -> tuple[int, Any, dict[str, str]]:
        """A message was posted to one of `paths`."""
        if request.path not in self.paths:
            return 404, self.error(404), {}
        if request.headers.get("Content-Type", "").partition(";")[0] != self.content_type:
            return 415, self.error(415), {}
        try:
            payload = self.read(request.body, request.headers, request.path)
        except ValueError:
            return 400, self.error(400), {}
        key = self.authorized(request.headers, payload)
        if key is None:
            return self.unauthorized, self.error(self.unauthorized), {}
        return self.take(payload, key, request.headers)

    def authorized(self, headers: Mapping[str, str], payload: Any) -> str | None:
        """The key of the request if it is a good one."""
        key = headers.get(self.key_header, "")
        return key if key in self.keys else None

    def take(self, payload: Any, key: str, headers: Mapping[str, str]) -> tuple[int, Any, dict[str, str]]:
        """Check the request, note what is accepted, and return status, body and headers. Raises Refused."""
        raise NotImplementedError

    def error(self, status: int) -> Any:
        """The vendor's usual body for that status."""
        raise NotImplementedError

    @property
    def paths(self) -> tuple[str, ...]:
        """Where messages may be posted."""
        return (self.path,)

    def read(self, body: bytes, headers: Mapping[str, str], path: str) -> Any:
        """The payload of a request. Raises ValueError for what the service cannot read."""
        return json.loads(body)

    def show(self, path: str, headers: Mapping[str, str]) -> tuple[int, Any, dict[str, str]]:
        """The answer to a GET. Raises Refused."""
        raise Refused(405, self.error(405))

    # Shared checks

    def check(self, validator: Draft202012Validator, payload: Any) -> str | None:
        """The first violation of the schema, None when there is none."""
        for violation in validator.iter_errors(payload):
            return f"{violation.message} at {'.'.join(map(str, violation.absolute_path))}"[:300]
        return None


def decoded(content: Any) -> bytes | None:
    """Base64 content, None when it is empty or not base64."""
    try:
        return base64.b64decode(content, validate=True) or None
    except (ValueError, TypeError):
        return None


def valid_address(address: Any, *, utf8_local_part: bool = False) -> bool:
    """What services take for an address: ASCII, one at sign, a domain with a dot."""
    pattern = r"[^\s@<>,;]+" if utf8_local_part else r"[!#$%&'*+/=?^_`{|}~.0-9A-Za-z-]+"
    return isinstance(address, str) and bool(re.fullmatch(pattern + r"@(?:[A-Za-z0-9-]+\.)+[A-Za-z0-9-]+", address))


def strict_validator(schema: dict[str, Any]) -> Draft202012Validator:
    """Also checks formats."""
    return Draft202012Validator(schema, format_checker=FormatChecker())


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def __init__(self, *args: Any) -> None:
        self._open: set[socket.socket] = set()
        super().__init__(*args)

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, address = super().get_request()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._open.add(connection)
        return connection, address

    def close_all(self) -> None:
        for connection in list(self._open):
            self._open.discard(connection)
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # broken connections are part of the play


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    standin: ClassVar[StandIn]
    timeout = 30
    wbufsize = -1
    _counted = False

    def log_message(self, *args: Any) -> None:
        pass

    def _serve(self) -> None:
        service = self.standin
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        path, _, query = self.path.partition("?")
        below = path.removeprefix(service.base_path)
        request = Request(self.command, below, dict(parse_qsl(query)), self.headers, body)
        service.entered(request)
        try:
            self._answered(request, known=path.startswith(service.base_path))
        finally:
            service.left(request)

    def _answered(self, request: Request, *, known: bool) -> None:
        service = self.standin
        order = self._note(request)
        if service.delay:
            time.sleep(service.delay)
        if "status" in order:
            status, answer = order["status"], order["body"]
            return self._answer(status, service.error(status) if answer is None else answer, order["headers"])
        if "raw" in order:
            self.wfile.write(order["raw"])
            return self._cut()
        silent = "hang" in order or "reset" in order
        if not silent or order.get("take"):
            result = self._judge(request, known=known)
            if not silent:
                return self._answer(*result)
        if "hang" in order:
            time.sleep(order["hang"])
        return self._cut(hard="reset" in order)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _serve

    def _note(self, request: Request) -> dict[str, Any]:
        service = self.standin
        if not service.counts(request):
            return {}
        with service._lock:
            service.requests += 1
            service.connections += not self._counted
            self._counted = True
            return service._ordered(request)

    def _judge(self, request: Request, *, known: bool) -> tuple[int, Any, dict[str, str]]:
        service = self.standin
        if not known:
            return 404, service.error(404), {}
        with service._lock:
            try:
                return service.serve(request)
            except Refused as refused:
                service.refusals.append((refused.status, refused.body))
                return refused.status, refused.body, refused.headers

    def _answer(self, status: int, body: Any, headers: Mapping[str, str]) -> None:
        content = b"" if body is None or body == "" else body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
        self.wfile.flush()

    def _cut(self, *, hard: bool = False) -> None:
        self.close_connection = True
        self.wfile.flush()
        if hard:  # RST instead of FIN
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
