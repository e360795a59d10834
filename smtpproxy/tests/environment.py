"""Loaded by pytest before Django's settings: where tests keep their files, and which database and broker they use.

- `TEST_DATABASE` is `postgres`, `sqlite` or `auto` (default): PostgreSQL where it can be had, else SQLite.
- `TEST_POSTGRES_URL`, `TEST_REDIS_URL`: servers to use. Without them: PostgreSQL on its usual port if that lets us in,
  else a private one; and always a private Redis.
- `REQUIRE_SERVICES=1`: what cannot be had is an error instead of a reason to skip (CI).

Every process has a database and a data folder of its own, so that runs beside each other do not meet.
"""

import atexit
import os
import shutil
import tempfile

import psycopg
import pytest

from smtpproxy.tests import services

REQUIRED = os.environ.get("REQUIRE_SERVICES") == "1"
USUAL_POSTGRES = "postgres://postgres@127.0.0.1:5432/postgres"


def _answers(url: str) -> bool:
    try:
        psycopg.connect(url, connect_timeout=2).close()
    except psycopg.OperationalError:
        return False
    return True


def _postgres() -> str:
    """A server's URL, or "" when there is none; the processes of one run share it through the environment."""
    url = os.environ.get("TEST_POSTGRES_URL", "")
    if not url and _answers(USUAL_POSTGRES):
        url = USUAL_POSTGRES
    if not url and services.postgres_programs():
        url = services.for_the_whole_run(services.postgres_server())
    os.environ["TEST_POSTGRES_URL"] = url
    return url


def _redis() -> str:
    url = os.environ.get("TEST_REDIS_URL") or services.for_the_whole_run(services.redis_server())
    if "PYTEST_XDIST_WORKER" not in os.environ:
        # The processes of one run share the server, each with a database of its own.
        os.environ["TEST_REDIS_URL"] = url
        return url
    number = int(os.environ["PYTEST_XDIST_WORKER"].removeprefix("gw"))
    return url.rpartition("/")[0] + f"/{number + 1}"


def missing(what: str) -> None:
    """Skip, with the reason, a test that needs what this machine has not; in CI it fails instead."""
    if REQUIRED:
        pytest.fail(f"{what} is required here", pytrace=False)
    pytest.skip(what)


wanted = os.environ.get("TEST_DATABASE", "auto")
server = _postgres() if wanted in ("auto", "postgres") else ""
if not server and (wanted == "postgres" or (REQUIRED and wanted == "auto")):
    raise pytest.UsageError("PostgreSQL is required and cannot be had: install it or set TEST_POSTGRES_URL.")
if server:
    # Django puts test_ before the name, and makes and drops that database.
    os.environ["DATABASE_URL"] = f"{server.rpartition('/')[0]}/smtpproxy_{os.getpid()}"
else:
    os.environ.pop("DATABASE_URL", None)
os.environ["DATA_DIR"] = tempfile.mkdtemp(prefix="smtpproxy-tests-")
atexit.register(shutil.rmtree, os.environ["DATA_DIR"], ignore_errors=True)
# Roles belong to the server and outlive a database: one for all runs.
os.environ.setdefault("DB_WEB_ROLE", "smtpproxy_test_web")
os.environ.setdefault("QUEUE_TYPE", "redis")
# A machine that tests may be short of space.
os.environ.setdefault("STORAGE_MIN_FREE_MB", "0")
os.environ.setdefault("STORAGE_MIN_FREE_PERCENT", "0")
os.environ["REDIS_URL"] = _redis()
