"""Make a database as large as a busy installation's after 90 days: rows only, no bodies (ADM-5, PERF-5, PERF-6).

    python -m bench.rows --messages 10000000

Messages with recipients, delivery logs, events and totals, of tenants of very different size, in a database of its own
(`smtpproxy_bench_rows`, `--name`) that stays until `--drop`. `bench.admin` and `bench.api` measure on it. Tables are
filled without their indexes, which are made afterwards; the keys between tables are not checked, for what is made fits.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
from psycopg import sql

from bench import rows_sql
from bench.environment import POSTGRES_URL, ROOT

NAME = "smtpproxy_bench_rows"
DAYS = 90
PIECE = 100_000
"""Messages of one statement."""
SHARES = {"big": 0.6, "second": 0.2, **{f"middle{n}": 0.02 for n in range(9)}}
"""Of the messages, by tenant; the last hundredth and a bit is that of many small ones."""
SMALL = 40
TABLES = ("delivery_message", "delivery_recipient", "delivery_deliverylog", "delivery_event")
PASSWORD = "only for measuring"


def database_url(name: str = NAME) -> str:
    return f"{POSTGRES_URL.rpartition('/')[0]}/{name}"


def variables(name: str, folder: str, **more: str) -> dict[str, str]:
    """The environment of processes that work on the database."""
    kept = {key: value for key, value in os.environ.items() if key in ("PATH", "HOME", "LANG", "TZ")}
    return {
        **kept,
        "DJANGO_SETTINGS_MODULE": "smtpproxy.settings",
        "DATA_DIR": folder,
        "DATABASE_URL": database_url(name).replace("postgresql://", "postgres://"),
        "DB_STATEMENT_TIMEOUT": "3600",
        "DB_WEB_ROLE": "smtpproxy_bench_web",
        "QUEUE_TYPE": "redis",
        "LOG_LEVEL": "WARNING",
        **more,
    }


def make(name: str, messages: int, parallel: int) -> None:
    """Make the database anew. Raises psycopg.Error, or CalledProcessError where a command of the product fails."""
    drop(name)
    with psycopg.connect(POSTGRES_URL, autocommit=True) as server:
        server.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    with tempfile.TemporaryDirectory(prefix="smtpproxy-bench-") as folder:
        _manage(name, folder, "migrate", "--verbosity", "0")
        _manage(name, folder, "shell", "--verbosity", "0", "-c", "from bench.rows_seed import seed; seed()")
        with _timed("rows"), _without_indexes(name):
            _fill(name, messages, parallel)
        with _timed("vacuum and analyze"), _connect(name) as connection:
            connection.execute("VACUUM (ANALYZE)")
        with _timed("totals"):
            _add_up(name, parallel)


def drop(name: str) -> None:
    with psycopg.connect(POSTGRES_URL, autocommit=True) as server:
        server.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


def sizes(name: str) -> list[tuple[str, int, str]]:
    """Table, rows (as the database estimates them) and size with indexes, of the large tables."""
    with _connect(name) as connection:
        found = connection.execute(
            "SELECT relname, reltuples::bigint, pg_size_pretty(pg_total_relation_size(oid)) FROM pg_class"
            " WHERE relname = ANY(%s) ORDER BY pg_total_relation_size(oid) DESC",
            [[*TABLES, "delivery_total"]],
        )
        return [(row[0], row[1], row[2]) for row in found]


def _manage(name: str, folder: str, *arguments: str) -> None:
    subprocess.run([sys.executable, "manage.py", *arguments], cwd=ROOT, env=variables(name, folder), check=True)


def _connect(name: str) -> psycopg.Connection[tuple[Any, ...]]:
    return psycopg.connect(database_url(name), autocommit=True)


@contextmanager
def _timed(what: str) -> Iterator[None]:
    started = time.monotonic()
    yield
    print(f"{what}: {time.monotonic() - started:,.0f} s", flush=True)


@contextmanager
def _without_indexes(name: str) -> Iterator[None]:
    """Take away the indexes of the large tables but those of their keys, and put them back, two at a time."""
    with _connect(name) as connection:
        found = connection.execute(
            "SELECT c.relname, pg_get_indexdef(i.indexrelid), k.conname, pg_get_constraintdef(k.oid), t.relname"
            " FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_class t ON t.oid = i.indrelid"
            " LEFT JOIN pg_constraint k ON k.conindid = i.indexrelid AND k.contype = 'u'"
            " WHERE t.relname = ANY(%s) AND NOT i.indisprimary",
            [list(TABLES)],
        ).fetchall()
        again = []
        for index, definition, constraint, rule, table in found:
            if constraint:
                connection.execute(f'ALTER TABLE {table} DROP CONSTRAINT "{constraint}"')  # type: ignore[arg-type]
                again.append(f'ALTER TABLE {table} ADD CONSTRAINT "{constraint}" {rule}')
            else:
                connection.execute(f'DROP INDEX "{index}"')  # type: ignore[arg-type]
                again.append(definition)
    yield
    with _timed("indexes"), ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda statement: _index(name, statement), again))


def _index(name: str, statement: str) -> None:
    with _connect(name) as connection:
        connection.execute("SET maintenance_work_mem = '1GB'")
        connection.execute(statement)  # type: ignore[arg-type]


def _fill(name: str, messages: int, parallel: int) -> None:
    with _connect(name) as connection:
        connection.execute(rows_sql.FUNCTIONS)  # type: ignore[arg-type]
        given = _given(connection, messages)
        columns = {table: _columns(connection, table) for table in TABLES}
    firsts = range(0, messages, PIECE)
    with ThreadPoolExecutor(parallel) as pool:
        pieces = pool.map(lambda first: _piece(name, {**given, "first": first}, columns), firsts)
        for number, _ in enumerate(pieces, 1):
            print(f"\r{min(number * PIECE, messages):,} messages", end="", flush=True)
    print()


def _given(connection: psycopg.Connection[Any], messages: int) -> dict[str, Any]:
    """What the statements want to know: the tenants with their shares, added up, and what they have."""
    tenants = connection.execute("SELECT id, slug FROM accounts_tenant ORDER BY id").fetchall()
    of_accounts = "SELECT a.id FROM accounts_account a JOIN accounts_tenant t ON t.id = a.tenant_id ORDER BY t.id, a.id"
    of_providers = of_accounts.replace("accounts_account", "providers_provider")
    shares = [*SHARES.values(), *[(1 - sum(SHARES.values())) / SMALL] * SMALL]
    return {
        "all": messages,
        "days": DAYS,
        "start": datetime.now(UTC) - timedelta(days=DAYS),
        "tenants": [row[0] for row in tenants],
        "slugs": [row[1] for row in tenants],
        "shares": [sum(shares[: number + 1]) for number in range(len(shares) - 1)],
        "accounts": [row[0] for row in connection.execute(of_accounts)],
        "providers": [row[0] for row in connection.execute(of_providers)],
    }


def _columns(connection: psycopg.Connection[Any], table: str) -> dict[str, str]:
    """Each column of a table that must not be empty, with what it holds where nothing else is said."""
    found = connection.execute(
        "SELECT column_name, data_type FROM information_schema.columns WHERE table_name = %s AND is_nullable = 'NO'",
        [table],
    )
    nothing = {"boolean": "false", "character varying": "''", "text": "''", "jsonb": None}
    return {name: nothing.get(kind, "0") or _json(name) for name, kind in found}


def _json(column: str) -> str:
    return f"'{'{{}}' if column in ('results', 'data') else '[]'}'::jsonb"


def _piece(name: str, given: dict[str, Any], columns: dict[str, dict[str, str]]) -> None:
    """One run of messages with all that belongs to them, in one transaction."""
    given["last"] = min(given["first"] + PIECE, given["all"]) - 1
    with _connect(name) as connection, connection.transaction():
        # No looking up of keys that are known to be there, and no waiting for the disk: a run that dies is begun anew.
        connection.execute("SET LOCAL session_replication_role = replica")
        connection.execute("SET LOCAL synchronous_commit = off")
        connection.execute("SET LOCAL work_mem = '64MB'")
        connection.execute("SET LOCAL jit = off")

        def insert(statement: str, table: str, own: dict[str, str], join: str = "", **more: Any) -> None:
            chosen = {**columns[table], **own}
            text = statement.format(
                table=table,
                join=join.format(),
                columns=", ".join(chosen),
                values=", ".join(value.replace("{{}}", "{}") for value in chosen.values()),
            )
            connection.execute(text, {**given, **more})  # type: ignore[arg-type]

        insert(rows_sql.MESSAGES, "delivery_message", rows_sql.MESSAGE_COLUMNS)
        span = connection.execute(
            "SELECT min(accepted_at), max(accepted_at) + interval '1 microsecond' FROM delivery_message"
            " WHERE xmin = pg_current_xact_id()::xid AND id >= (SELECT bench_uuid7(%s, ''))",
            [given["start"] + timedelta(days=DAYS * given["first"] / given["all"] - 1)],
        ).fetchone()
        assert span
        for table, own, join in (
            ("delivery_recipient", rows_sql.RECIPIENT_COLUMNS, rows_sql.RECIPIENTS_JOIN),
            ("delivery_deliverylog", rows_sql.LOG_COLUMNS, rows_sql.LOGS_JOIN),
            ("delivery_event", rows_sql.EVENT_COLUMNS, rows_sql.EVENTS_JOIN),
        ):
            insert(rows_sql.OF_MESSAGES, table, own, join, since=span[0], until=span[1])


def _add_up(name: str, parallel: int) -> None:
    """Totals of every hour that is over, a day at a time; what the product itself would take an hour for."""
    end = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)

    def day(number: int) -> None:
        span = {"since": end - timedelta(days=number + 1), "until": end - timedelta(days=number)}
        with _connect(name) as connection:
            connection.execute("SET work_mem = '128MB'")
            connection.execute(rows_sql.TOTALS_OF_EVENTS, span)
            connection.execute(rows_sql.TOTALS_OF_LOGS, span)

    with ThreadPoolExecutor(parallel) as pool:
        list(pool.map(day, range(DAYS + 1)))
    with _connect(name) as connection:
        connection.execute("VACUUM (ANALYZE) delivery_total")


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--messages", type=int, default=10_000_000)
    made.add_argument("--name", default=NAME, help="of the database")
    made.add_argument("--parallel", type=int, default=2, help="statements at a time")
    made.add_argument("--drop", action="store_true", help="remove the database and end")
    return made


def main() -> int:
    given = parser().parse_args()
    if given.drop:
        drop(given.name)
        return 0
    with _timed("everything"):
        make(given.name, given.messages, given.parallel)
    for table, count, size in sizes(given.name):
        print(f"{table:24} {count:>12,} rows  {size}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
