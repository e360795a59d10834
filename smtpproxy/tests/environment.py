"""Loaded by pytest before Django's settings: where tests keep their files, and which database and broker they use.

`TEST_DATABASE` is `postgres`, `sqlite` or `auto` (default): PostgreSQL where one answers, else SQLite.
"""

import os
import tempfile

import psycopg

POSTGRES_URL = os.environ.get("TEST_POSTGRES_URL", "postgres://postgres@127.0.0.1:5432/postgres")
REDIS_URL = os.environ.get("TEST_REDIS_URL", "redis://127.0.0.1:6379/9")


def postgres_answers() -> bool:
    try:
        psycopg.connect(POSTGRES_URL.replace("postgres://", "postgresql://"), connect_timeout=2).close()
    except psycopg.OperationalError:
        return False
    return True


wanted = os.environ.get("TEST_DATABASE", "auto")
if wanted == "postgres" or (wanted == "auto" and postgres_answers()):
    os.environ["DATABASE_URL"] = POSTGRES_URL
else:
    os.environ.pop("DATABASE_URL", None)
os.environ["DATA_DIR"] = tempfile.mkdtemp(prefix="smtpproxy-tests-")
os.environ.setdefault("QUEUE_TYPE", "redis")
os.environ["REDIS_URL"] = REDIS_URL
