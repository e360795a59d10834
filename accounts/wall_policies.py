"""The role and the policies of the second wall, made anew by every `migrate` from what the models say (SEC-2).

A model says in `tenant_path` (or by its field `tenant`) whose a row is, as for `accounts.tenancy`; the policy has the
database ask the same. `platform_rows` says what a tenant's request may do with rows that have no tenant besides:
`"read"` them or `"add"` to them; nothing where it is not said. A policy carries a mark of its text: one that is as it
should be is left alone, and costs no lock.
"""

from __future__ import annotations

import hashlib
from typing import Any

import structlog
from django.apps import apps
from django.conf import settings
from django.db import DatabaseError, OperationalError, connections, models, transaction

from accounts import wall
from accounts.tenancy import tenant_path

log = structlog.get_logger(__name__)

NAME = "smtpproxy_tenant"
"""Of every policy, with the kind of rows behind it where there is another."""
EVERYTHING = "DELETE, INSERT, SELECT, UPDATE"
FRAMEWORK = {
    "sessions.session": EVERYTHING,  # of browsers, whoever they are of; what they hold is signed, and no tenant's data
    "contenttypes.contenttype": "SELECT",  # the names of our models
    "admin.logentry": "DELETE, SELECT",  # always empty; Django deletes from it with a person
    # Not used: roles decide. Django's own deletions look at them.
    "auth.permission": "SELECT",
    "auth.group": "SELECT",
    "auth.group_permissions": "SELECT",
}
"""Tables that know of no tenants, with what a tenant's request may do there."""
_CURRENT = f"= (SELECT nullif(current_setting('{wall.VARIABLE}', true), '')::uuid)"
"""As a query of its own it is asked once for all rows, and indexes are used with what it answers."""
_LOCK = 0x77_61_6C_6C


def walled() -> list[type[models.Model]]:
    """Every model with a table of its own that knows of tenants."""
    found = apps.get_models(include_auto_created=True)
    return [m for m in found if m._meta.managed and not m._meta.proxy and m._meta.label_lower not in FRAMEWORK]


def policies(model: type[models.Model]) -> dict[str, tuple[str, str]]:
    """By name: the statements a policy is for, and the rows it lets a tenant's request see and write."""
    own = _condition(model, _CURRENT)
    found = {NAME: ("ALL", f"USING ({own}) WITH CHECK ({own})")}
    match getattr(model, "platform_rows", ""):
        case "read":
            found[f"{NAME}_read"] = ("SELECT", f"USING ({_condition(model, 'IS NULL') or 'true'})")
        case "add":
            found[f"{NAME}_add"] = ("INSERT", f"WITH CHECK ({_condition(model, 'IS NULL') or 'true'})")
    return found if own else {name: one for name, one in found.items() if name != NAME}


def _condition(model: type[models.Model], holds: str) -> str:
    """What is true of a row whose tenant `holds`, as SQL; "" for a model all rows of which are the platform's."""
    path = _path(model)
    if not path:
        return ""
    *links, last = path.split("__")
    place, now, sources, joins = _quoted(model._meta.db_table), model, [], []
    for number, link in enumerate(links):
        field: Any = now._meta.get_field(link)
        now = field.related_model
        sources.append(f"{_quoted(now._meta.db_table)} AS p{number}")
        joins.append(f"p{number}.{_column(now, 'pk')} = {place}.{_quoted(field.column)}")
        place = f"p{number}"
    if not links:
        return f"{_column(model, last)} {holds}"
    joins.append(f"{place}.{_column(now, last)} {holds}")
    return f"EXISTS (SELECT 1 FROM {', '.join(sources)} WHERE {' AND '.join(joins)})"  # noqa: S608 -- names of ours


def _path(model: type[models.Model]) -> str:
    """As `tenant_path`; a table of Django's between two models belongs to whom the first of ours does."""
    if not model._meta.auto_created:
        return tenant_path(model)
    for field in model._meta.fields:
        parent: Any = field.related_model
        if parent is not None and parent._meta.label_lower not in FRAMEWORK:
            return f"{field.name}__{tenant_path(parent)}"
    return ""


def _column(model: type[models.Model], name: str) -> str:
    field: Any = model._meta.pk if name == "pk" else model._meta.get_field(name)
    return _quoted(field.column)


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def put_up(using: str) -> str:
    """Make role, rights and policies as they should be; returns what stood in the way, "" for nothing.

    Raises OperationalError when the database does not answer.
    """
    link = connections[using]
    if link.vendor != "postgresql" or not settings.DB_WEB_ROLE:
        return ""
    try:
        with transaction.atomic(using=using), link.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK])
            _make_role(cursor, settings.DB_WEB_ROLE)
            _give_rights(cursor, settings.DB_WEB_ROLE)
            tables = set(link.introspection.table_names(cursor))
            for model in walled():
                if model._meta.db_table in tables:
                    _make_policies(cursor, settings.DB_WEB_ROLE, model)
    except OperationalError:
        raise
    except DatabaseError as error:
        return str(error).splitlines()[0]
    finally:
        wall.forget()
    return ""


def _make_role(cursor: Any, role: str) -> None:
    """Roles belong to the whole server: another database's `migrate` may make this one at the same moment."""
    cursor.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [role])
    if cursor.fetchone() is None:
        cursor.execute(
            f"DO $$ BEGIN CREATE ROLE {_quoted(role)} NOLOGIN;"
            " EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$"
        )
    # Since version 16 who made a role belongs to it without being allowed to take it on.
    needed = "SET" if cursor.connection.info.server_version >= 160_000 else "MEMBER"
    cursor.execute("SELECT pg_has_role(current_user, %s, %s)", [role, needed])
    if not cursor.fetchone()[0]:
        cursor.execute(f"GRANT {_quoted(role)} TO CURRENT_USER")


def _give_rights(cursor: Any, role: str) -> None:
    wanted = {model._meta.db_table: EVERYTHING for model in walled()}
    wanted |= {apps.get_model(label)._meta.db_table: rights for label, rights in FRAMEWORK.items()}
    cursor.execute(
        "SELECT c.relname, c.relkind, has_schema_privilege(%s, c.relnamespace, 'USAGE'), (SELECT"
        " string_agg(a.privilege_type, ', ' ORDER BY a.privilege_type) FROM aclexplode(c.relacl) a JOIN pg_roles r"
        " ON r.oid = a.grantee WHERE r.rolname = %s) FROM pg_class c"
        " WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind IN ('r', 'p', 'S')",
        [role, role],
    )
    found = cursor.fetchall()
    if not all(usable for _, _, usable, _ in found):
        cursor.execute("SELECT current_schema()")
        cursor.execute(f"GRANT USAGE ON SCHEMA {_quoted(cursor.fetchone()[0])} TO {_quoted(role)}")
    for name, kind, _, given in found:
        rights = "USAGE" if kind == "S" else wanted.get(name)
        if rights and given != rights:
            cursor.execute(f"REVOKE ALL ON {_quoted(name)} FROM {_quoted(role)}")
            cursor.execute(f"GRANT {rights} ON {'SEQUENCE ' * (kind == 'S')}{_quoted(name)} TO {_quoted(role)}")


def _make_policies(cursor: Any, role: str, model: type[models.Model]) -> None:
    table = _quoted(model._meta.db_table)
    cursor.execute(
        "SELECT c.relrowsecurity, p.polname, obj_description(p.oid, 'pg_policy') FROM pg_class c"
        " LEFT JOIN pg_policy p ON p.polrelid = c.oid WHERE c.oid = %s::regclass",
        [table],
    )
    found = cursor.fetchall()
    if not found[0][0]:
        cursor.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
    there = {name: mark for _, name, mark in found if name and name.startswith(NAME)}
    wanted = policies(model)
    for name in there.keys() - wanted.keys():
        cursor.execute(f"DROP POLICY {_quoted(name)} ON {table}")
    for name, (statements, rows) in wanted.items():
        mark = hashlib.sha256(f"{role} {statements} {rows}".encode()).hexdigest()[:32]
        if there.get(name) != mark:
            cursor.execute(f"DROP POLICY IF EXISTS {_quoted(name)} ON {table}")
            cursor.execute(f"CREATE POLICY {_quoted(name)} ON {table} FOR {statements} TO {_quoted(role)} {rows}")
            cursor.execute(f"COMMENT ON POLICY {_quoted(name)} ON {table} IS '{mark}'")


def after_migrate(using: str, **_: Any) -> None:
    """Called when every migration is done. Without the wall everything works, so that this is told and no error."""
    problem = put_up(using)
    if problem:
        log.error("tenants are not kept apart by the database", reason=problem, role=settings.DB_WEB_ROLE)
