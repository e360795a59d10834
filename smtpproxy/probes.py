"""`/healthz` and `/readyz`: in the web, and on a port of their own for listener and worker (OBS-3)."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Collection, Iterable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from typing import Any

import structlog
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db import connections
from django.http import HttpRequest, HttpResponse, HttpResponseBase

from accounts import hearing
from smtpproxy import health, lone, metrics
from smtpproxy.serve import ready

log = structlog.get_logger(__name__)


def answer(path: str, checks: Collection[health.Check]) -> tuple[int, dict[str, Any]] | None:
    """Status and JSON for a probe path; None for any other path. What fails is named, why is in the log only."""
    if path == "/healthz":
        return 200, {"status": "ok"}
    if path != "/readyz":
        return None
    results = health.readiness(checks)
    advisory = {check.name for check in checks if check.advisory}
    ready = all(good or name in advisory for name, good in results.items())
    named = {name: "ok" if good else "warning" if name in advisory else "failed" for name, good in results.items()}
    return 200 if ready else 503, {"status": "ok" if ready else "unavailable", "checks": named}


class ProbeMiddleware:
    """Answers probes before everything else: they come by address, without TLS and without a session."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        if request.path == metrics.PATH and request.method in ("GET", "HEAD"):
            if not metrics.allowed(request.META.get("REMOTE_ADDR", ""), _by_lower_case(request.headers.items())):
                return HttpResponse(status=403)
            return HttpResponse(metrics.render(), content_type=metrics.CONTENT_TYPE)
        found = answer(request.path, health.CHECKS.values()) if request.method in ("GET", "HEAD") else None
        if found is None:
            return self._get_response(request)
        status, content = found
        return HttpResponse(
            json.dumps(content), status=status, content_type="application/json", headers={"Cache-Control": "no-store"}
        )


def _by_lower_case(headers: Iterable[tuple[str, str]]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers}


class _Handler(BaseHTTPRequestHandler):
    timeout = 5  # seconds a client may take to ask
    server_version = "probe"
    sys_version = ""

    server: _Server

    def do_GET(self) -> None:
        if self.path.partition("?")[0] == metrics.PATH:
            known = metrics.allowed(self.client_address[0], _by_lower_case(self.headers.items()))
            try:
                self._send(200 if known else 403, metrics.CONTENT_TYPE, metrics.render() if known else b"")
            finally:
                connections.close_all()  # this thread ends here
            return
        status, content = answer(self.path.partition("?")[0], self.server.checks) or (404, {"status": "unknown"})
        self._send(status, "application/json", json.dumps(content).encode())

    def _send(self, status: int, content_type: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Probes come every few seconds; failures are logged where they are found."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 16

    def __init__(self, host: str, port: int, checks: Collection[health.Check], *, shared: bool) -> None:
        self.checks = checks
        self._shared = shared
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        super().__init__((host, port), _Handler)

    def server_bind(self) -> None:
        """Without the look at the DNS for our own name that the library takes."""
        if self._shared:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        TCPServer.server_bind(self)


def serve(
    host: str, port: int, checks: Collection[health.Check], *, shared: bool = False
) -> ThreadingHTTPServer | None:
    """Answer probes from a thread of this process; port 0 means none are wanted.

    On a `shared` port several processes answer, each for itself. Raises ImproperlyConfigured for an address that
    cannot be had.
    """
    if not port:
        return None
    try:
        server = _Server(host, port, checks, shared=shared)
    except OSError as error:
        raise ImproperlyConfigured(f"Probes cannot be answered on {host}, port {port}: {error.strerror}.") from None
    threading.Thread(target=server.serve_forever, name="probes", daemon=True).start()
    log.info("probes answered", host=host, port=server.server_address[1])
    return server


def serve_listener() -> None:
    """Called in each listener process once it listens (`SMTP_ON_START`)."""
    lone.look_for_broker()
    hearing.listen()
    serve(settings.HEALTH_HOST, settings.SMTP_HEALTH_PORT, health.LISTENER_CHECKS.values(), shared=True)
    ready.note("listener")


def serve_worker() -> None:
    """Called in the worker once it takes tasks."""
    serve(settings.HEALTH_HOST, settings.WORKER_HEALTH_PORT, health.CHECKS.values())
    ready.note("worker")


def serve_ingest() -> None:
    """Called once the door for RabbitMQ is open (`INGEST_ON_START`)."""
    lone.look_for_broker()
    hearing.listen()
    serve(settings.HEALTH_HOST, settings.INGEST_HEALTH_PORT, health.INGEST_CHECKS.values())
    ready.note("ingest")
