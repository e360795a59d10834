"""The second wall between tenants: row-level security of PostgreSQL, behind `accounts.tenancy`'s door (SEC-2).

A request of a person or API key of a tenant is answered by a role of the database (`DB_WEB_ROLE`) that sees rows of
this tenant only, whatever a query forgets to ask for. `accounts.wall_policies` makes role and policies. Listener,
workers, commands, requests of operators and those nobody has signed in for work as the owner of the tables, whom no
policy concerns.

The role is taken on for a request and put off at its end, on the connection of its thread; a connection that is made
anew meanwhile takes it on again. SQLite has no such thing, and where the role could not be made the wall is off: both
are told by `manage.py check --database default`, and the second by every web process as well.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import structlog
from django.conf import settings
from django.db import DatabaseError, OperationalError, connection
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created

log = structlog.get_logger(__name__)

VARIABLE = "smtpproxy.tenant"
"""The setting of a session that the policies compare with."""
LOOK_AGAIN = 60.0
"""Seconds after which a process that found the wall off looks whether somebody has put it up."""

_ON = f"SELECT set_config('{VARIABLE}', %s::text, false), set_config('role', %s::text, false)"
_OFF = f"SELECT set_config('role', 'none', false), set_config('{VARIABLE}', '', false)"
_lock = threading.Lock()
_up: bool | None = None
_looked_at = 0.0


def enter(tenant: uuid.UUID | None) -> None:
    """From now on this thread's connection sees what belongs to the tenant, until `leave`; with None, everything.

    Raises Django's DatabaseError; then nothing can be asked through this connection that the wall would forbid.
    """
    if tenant is None or not is_up():
        leave()
    else:
        _set(connection, tenant)


def leave() -> None:
    """Back to the owner's view; never raises. A connection that cannot go back is closed."""
    if _within(connection) is None:
        return
    setattr(connection, _ATTRIBUTE, None)
    if connection.connection is None:
        return
    try:
        _ask(connection, _OFF)
    except Exception as error:  # noqa: BLE001 -- whatever it was, the next request must not have this connection
        log.warning("connection closed behind the wall", error=type(error).__name__)
        connection.close()


@contextmanager
def lifted() -> Iterator[None]:
    """Within, the connection sees all tenants. For what is the platform's own business in a tenant's request: taking
    mail, and asking whether a name is taken anywhere."""
    tenant = _within(connection)
    if tenant is None:
        yield
        return
    leave()
    try:
        yield
    finally:
        _set(connection, tenant)


def stands() -> bool:
    """Whether this thread's connection sees one tenant only."""
    return _within(connection) is not None


def current() -> uuid.UUID | None:
    """The tenant this thread's connection sees; None when it sees all."""
    return _within(connection)


@contextmanager
def around(tenant: uuid.UUID | None) -> Iterator[None]:
    """The view of this tenant, of all for None; and the view there was before when it ends."""
    before = _within(connection)
    enter(tenant)
    try:
        yield
    finally:
        if before is None:
            leave()
        else:
            _set(connection, before)


def is_up() -> bool:
    """Whether there is a wall to stand behind; one query, the first time. Raises OperationalError."""
    global _up, _looked_at
    if connection.vendor != "postgresql" or not settings.DB_WEB_ROLE:
        return False
    if _up or (_up is False and time.monotonic() < _looked_at + LOOK_AGAIN):
        return _up
    problem = problem_with_role()
    with _lock:
        if problem and _up is None:
            log.error("tenants are not kept apart by the database", reason=problem, role=settings.DB_WEB_ROLE)
        _up, _looked_at = not problem, time.monotonic()
    return not problem


def problem_with_role() -> str:
    """Why the role cannot be taken on by this connection, "" when it can. Raises OperationalError."""
    connection.ensure_connection()
    raw: Any = connection.connection
    try:
        with connection.wrap_database_errors, raw.transaction(), raw.cursor() as cursor:
            cursor.execute(_ON, [str(uuid.UUID(int=0)), settings.DB_WEB_ROLE])
            cursor.execute("SELECT rolsuper OR rolbypassrls FROM pg_roles WHERE rolname = current_user")
            [unbound] = cursor.fetchone()
            cursor.execute("SELECT count(*) FROM accounts_tenant")
            [seen] = cursor.fetchone()
            cursor.execute(_OFF)
    except OperationalError:
        raise
    except DatabaseError as error:
        return str(error).splitlines()[0]
    if unbound:
        return "The role is above row-level security."
    return "The policies are missing." if seen else ""


def forget() -> None:
    """Look again whether the wall is up."""
    global _up  # noqa: PLW0603
    _up = None


_ATTRIBUTE = "_smtpproxy_tenant"


def _within(link: Any) -> uuid.UUID | None:
    tenant: uuid.UUID | None = getattr(link, _ATTRIBUTE, None)
    return tenant


def _set(link: Any, tenant: uuid.UUID) -> None:
    if _within(link) == tenant:
        return
    # First noted, so that a connection made by this very query begins behind the wall.
    setattr(link, _ATTRIBUTE, tenant)
    try:
        link.ensure_connection()
        _ask(link, _ON, str(tenant), settings.DB_WEB_ROLE)
    except Exception:
        link.close()
        raise


def _ask(link: Any, statement: str, *values: str) -> None:
    """Past Django's own cursors: this is no question of a view, and is not counted among them."""
    with link.wrap_database_errors, link.connection.cursor() as cursor:
        cursor.execute(statement, values)


def _on_new_connection(connection: BaseDatabaseWrapper, **_: Any) -> None:
    """A connection lost in the middle of a request comes back with the request's view, not with the owner's."""
    tenant = _within(connection)
    if tenant is not None:
        _ask(connection, _ON, str(tenant), settings.DB_WEB_ROLE)


def connect() -> None:
    """Watch over new connections."""
    connection_created.connect(_on_new_connection, dispatch_uid="tenant wall")
