"""What lists and the API are measured on is made, and measured, on a small scale (ADM-5, PERF-5)."""

import os
import subprocess
import sys

import psycopg
import pytest
from django.db import connection

from bench import rows
from bench.environment import ROOT

pytestmark = pytest.mark.skipif(connection.vendor != "postgresql", reason="PostgreSQL")


@pytest.fixture(scope="module")
def made():
    """A database with two thousand messages."""
    name = f"smtpproxy_bench_test_{os.getpid()}"
    try:
        rows.make(name, 2000, 1)
        yield name
    finally:
        rows.drop(name)


def test_messages_have_what_belongs_to_them_and_totals_agree(made):
    with psycopg.connect(rows.database_url(made)) as database:

        def one(sql):
            return database.execute(sql).fetchone()[0]

        assert one("SELECT count(*) FROM delivery_message") == 2000
        assert one("SELECT sum(recipient_count) FROM delivery_message") == one(
            "SELECT count(*) FROM delivery_recipient"
        )
        assert one("SELECT sum(attempts) FROM delivery_message") == one("SELECT count(*) FROM delivery_deliverylog")
        assert one("SELECT count(*) FROM delivery_event WHERE type = 'received'") == 2000
        assert 1900 < one("SELECT sum(count) FROM delivery_total WHERE what = 'accepted'") <= 2000
        largest = one("SELECT count(*) FROM delivery_message GROUP BY tenant_id ORDER BY 1 DESC LIMIT 1")
        assert largest > 1000


@pytest.mark.django_db
def test_the_indexes_are_those_of_the_product_again(made):
    with psycopg.connect(rows.database_url(made)) as database:
        found = {row[0] for row in database.execute("SELECT indexname FROM pg_indexes WHERE schemaname = 'public'")}
    for table in rows.TABLES:
        with connection.cursor() as cursor:
            assert set(connection.introspection.get_constraints(cursor, table)) - found <= _checks(table)


def _checks(table):
    """Constraints without an index."""
    with connection.cursor() as cursor:
        described = connection.introspection.get_constraints(cursor, table)
    return {name for name, what in described.items() if not what["index"] and not what["unique"]}


@pytest.mark.parametrize(
    ("program", "told"),
    [
        (["bench.admin", "--times", "2", "--only", "search", "--who", "big", "operator"], "| search: recipient |"),
        (["bench.api", "--rate", "5", "--seconds", "2"], "| all |"),
    ],
)
def test_it_is_measured(made, program, told):
    command = [sys.executable, "-m", *program, "--name", made]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert told in done.stdout
    assert "Not answered well" not in done.stdout
