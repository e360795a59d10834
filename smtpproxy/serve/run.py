"""What `manage.py serve` does, from the first look at the ports to the last process that ends."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import redis
import structlog
from django.conf import settings
from django.core.management import call_command
from django.db import OperationalError, connections

from providers.scrub import scrub_credentials
from smtpproxy.brokers import looks
from smtpproxy.brokers.exceptions import BrokerUnusable
from smtpproxy.serve import broker, demo, greeting, lock, ports, ready
from smtpproxy.serve import roles as roles_
from smtpproxy.serve.child import Child
from smtpproxy.serve.exceptions import CannotServe
from smtpproxy.serve.supervisor import Supervisor

log = structlog.get_logger(__name__)


def serve(say: Callable[[str], None]) -> None:
    """Run until SIGINT or SIGTERM, then stop all in order. Raises CannotServe when it cannot start."""
    supervisor = Supervisor()
    with lock.alone_in(Path(settings.DATA_DIR)):
        supervisor.listen_for_signals()
        try:
            _start(supervisor, say)
            supervisor.watch()
            say("Stopping; a second Ctrl-C does not wait.")
        finally:
            supervisor.stop()


def _start(supervisor: Supervisor, say: Callable[[str], None]) -> None:
    ports.check_free()
    _start_broker(supervisor)
    first = _prepare_database()
    connections.close_all()
    if not supervisor.stopping:
        readiness = ready.Readiness()
        environment = {**os.environ, **readiness.environment}
        supervisor.start([Child(role, environment) for role in roles_.roles()], readiness)
    if not supervisor.stopping:
        say(greeting.text(first))


def _prepare_database() -> demo.Demo | None:
    try:
        call_command("migrate", interactive=False, verbosity=0)
        return demo.ensure()
    except OperationalError as error:
        reason = scrub_credentials(str(error).strip().splitlines()[0])
        raise CannotServe(f"The database at DATABASE_URL cannot be used: {reason}") from None


def _start_broker(supervisor: Supervisor) -> None:
    if settings.QUEUE_TYPE != "embedded":
        _check_broker()
        return
    socket, data = Path(settings.EMBEDDED_SOCKET), Path(settings.DATA_DIR) / "broker"
    broker.prepare(socket, data)
    role = roles_.broker(broker.command(socket, data), broker.log_file(data))

    def missing() -> list[str]:
        return [] if broker.answers(socket) else [role.name]

    try:
        supervisor.start([Child(role, os.environ)], missing)
    except CannotServe:
        if not broker.set_aside(data):
            raise
        log.warning("broker started anew; what it could not read is set aside", folder=str(data))
        supervisor.start([Child(role, os.environ)], missing)


def _check_broker() -> None:
    try:
        redis.Redis.from_url(settings.REDIS_URL, socket_connect_timeout=5, socket_timeout=5).ping()
    except (redis.RedisError, ValueError) as error:
        raise CannotServe(f"The server at REDIS_URL does not answer: {type(error).__name__}.") from None
    try:
        looks.look()
    except Exception as error:  # noqa: BLE001 -- each broker's library has errors of its own
        text = str(error) if isinstance(error, BrokerUnusable) else f"it does not answer: {type(error).__name__}."
        raise CannotServe(f"The broker (QUEUE_TYPE={settings.QUEUE_TYPE}) cannot be used: {text}") from None
