"""How gunicorn serves the web: `gunicorn -c python:smtpproxy.gunicorn_config smtpproxy.wsgi`."""

from datetime import timedelta
from typing import Any

import structlog
from django.conf import settings
from gunicorn.glogging import Logger

from accounts import hearing
from smtpproxy import lifeline
from smtpproxy.logging import configure

configure(settings.LOGGING)
log = structlog.get_logger("web.access")
# Asked every few seconds by orchestrators; their refusals are logged all the same.
_PROBES = frozenset({"/healthz", "/readyz"})
# What browsers fetch along with a page.
_TRIMMINGS = (settings.STATIC_URL, "/favicon.ico")


class JsonLogger(Logger):
    """Access and error log through our root handler, one JSON line each; query strings stay out, they hold secrets."""

    def setup(self, cfg: Any) -> None:
        self.cfg = cfg
        self._access_log_enabled = True
        for logger in (self.error_log, self.access_log):
            logger.handlers.clear()
            logger.propagate = True

    def access(self, resp: Any, _req: Any, environ: dict[str, Any], request_time: timedelta) -> None:
        status = int(str(resp.status).split(None, 1)[0])
        path = environ.get("PATH_INFO", "")
        if path in _PROBES and status < 400:
            return
        write = log.debug if path.startswith(_TRIMMINGS) and status < 400 else log.info
        write(
            "request",
            method=environ.get("REQUEST_METHOD"),
            path=path,
            status=status,
            size=getattr(resp, "sent", None),
            duration_ms=round(request_time.total_seconds() * 1000, 1),
            client_ip=environ.get("REMOTE_ADDR"),
            user_agent=environ.get("HTTP_USER_AGENT"),
        )


bind = (
    f"[{settings.WEB_HOST}]:{settings.WEB_PORT}"
    if ":" in settings.WEB_HOST
    else f"{settings.WEB_HOST}:{settings.WEB_PORT}"
)
proc_name = "smtpproxy-web"
worker_class = "gthread"
workers = settings.WEB_WORKERS
threads = settings.WEB_THREADS
timeout = 60
graceful_timeout = 20
logger_class = JsonLogger
control_socket_disable = True


def post_fork(_server: Any, worker: Any) -> None:
    """A worker goes at once with a master that was killed, and sets its port free."""
    lifeline.tie_to(worker.ppid)


def post_worker_init(_worker: Any) -> None:
    """The application is loaded: what it remembers is dropped when it changes (AMQP-4)."""
    hearing.listen()
