"""OBS-1, SEC-8: one JSON line per record, whoever wrote it, and no secret in any."""

import io
import json
import logging
import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import structlog
from django.db import IntegrityError, connection, transaction

from accounts.tests.factories import AccountFactory
from smtpproxy import logging as our_logging

PROJECT = Path(__file__).resolve().parents[2]


@pytest.fixture
def lines(monkeypatch):
    """The records written, parsed; the logging set up before is put back afterwards."""
    root, before, stream = logging.getLogger(), logging.getLogger().handlers[:], io.StringIO()
    level = root.level
    monkeypatch.setattr(sys, "stdout", stream)
    our_logging.configure({"level": "INFO"})
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    root.handlers[:] = before
    root.setLevel(level)
    logging.captureWarnings(False)


def test_our_records_and_those_of_libraries_look_alike(lines):
    with structlog.contextvars.bound_contextvars(message_id="m1"):
        structlog.get_logger("delivery.sender").info("delivered", provider="p")
        logging.getLogger("celery.worker").warning("lost %s", "connection")
    ours, theirs = lines()
    assert (ours["event"], ours["level"], ours["logger"], ours["provider"]) == (
        "delivered",
        "info",
        "delivery.sender",
        "p",
    )
    assert (theirs["event"], theirs["level"], theirs["logger"]) == ("lost connection", "warning", "celery.worker")
    assert ours["message_id"] == theirs["message_id"] == "m1"
    assert ours["timestamp"].endswith("Z")


def test_a_level_keeps_the_rest_out(lines):
    structlog.get_logger("a").debug("too much")
    logging.getLogger("b").debug("too much")
    logging.getLogger("celery.worker.strategy").info("one for every sweep")
    assert lines() == []


@pytest.mark.parametrize(
    "name",
    ["password", "smtp_password", "passwd", "Authorization", "api_key", "apikey", "secret", "client_secret", "token"],
)
def test_what_is_called_a_secret_is_hidden_at_any_depth(lines, name):
    structlog.get_logger("a").info("x", **{name: "hunter2"}, config={"inner": [{name: "hunter2"}]})
    assert "hunter2" not in json.dumps(lines())
    assert lines()[0][name] == "***"


@pytest.mark.parametrize(
    "text",
    [
        "redis://:hunter2@10.0.0.1:6379/0",
        "postgres://me:hunter2@db/x",
        "Authorization: Bearer hunter2",
        "AUTH PLAIN hunter2",
    ],
)
def test_credentials_inside_a_text_are_hidden(lines, text):
    logging.getLogger("a").error("cannot connect: %s", text)
    try:
        raise ConnectionError(text)
    except ConnectionError:
        structlog.get_logger("a").exception("failed")
    assert "hunter2" not in json.dumps(lines())


def test_a_traceback_shows_no_local_variable(lines):
    def sign_in():
        given = "hunter2"
        raise ValueError(len(given))

    for log in (structlog.get_logger("a"), logging.getLogger("b")):
        try:
            sign_in()
        except ValueError:
            log.exception("failed")
    assert "hunter2" not in json.dumps(lines())
    for line in lines():
        assert line["exception"][0]["exc_type"] == "ValueError"
        assert line["exception"][0]["frames"][-1]["name"] == "sign_in"


@pytest.mark.django_db
def test_the_row_that_broke_a_constraint_is_not_shown(lines, acme):
    """SEC-8: PostgreSQL names every value of it, a password hash among them."""
    if connection.vendor != "postgresql":
        pytest.skip("SQLite names no values")
    with pytest.raises(IntegrityError) as broken, transaction.atomic():
        AccountFactory(tenant=acme, status="odd", password_hash="generated$very-secret")
    assert "very-secret" in str(broken.value)
    structlog.get_logger("test").error("not written", error=str(broken.value), exc_info=broken.value)
    [line] = lines()
    assert "very-secret" not in json.dumps(line)
    assert "account_status_known" in line["error"]


@pytest.mark.parametrize(("rate", "low", "high"), [(0.0, 0, 0), (0.3, 200, 400), (1.0, 1000, 1000)])
def test_a_share_of_the_messages_is_logged_whole_when_all_goes_well(lines, rate, low, high):
    """OBS-1."""
    stream = logging.getLogger().handlers[0].stream
    our_logging.configure({"level": "INFO", "sample_rate": rate})
    logging.getLogger().handlers[0].setStream(stream)
    log = structlog.get_logger("sampled")
    for number in range(1000):
        for event in ("message accepted", "attempt", "message"):
            log.info(event, message_id=f"m{number}")
    kept = [line["message_id"] for line in lines()]
    assert low <= len(set(kept)) <= high
    assert len(kept) == 3 * len(set(kept))
    log.warning("attempt", message_id="m0")
    log.info("client connected")
    assert [line["event"] for line in lines()[len(kept) :]] == ["attempt", "client connected"]
    our_logging.configure({"level": "INFO"})


def test_a_line_break_in_a_value_makes_no_second_line(lines):
    structlog.get_logger("a").info("x", subject='a\r\n{"event": "forged"}')
    assert [line["event"] for line in lines()] == ["x"]


def test_warnings_are_records_too(lines):
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("old", UserWarning, stacklevel=1)
    assert lines()[0]["logger"] == "py.warnings"


def test_log_level_is_a_setting(tmp_path):
    code = "import logging; logging.getLogger('a').info('quiet'); logging.getLogger('a').error('loud')"
    run = subprocess.run(
        [sys.executable, "manage.py", "shell", "--no-imports", "-c", code],
        check=True,
        cwd=PROJECT,
        env={**os.environ, "DATA_DIR": str(tmp_path), "LOG_LEVEL": "ERROR"},
        capture_output=True,
        text=True,
    )
    assert [json.loads(line)["event"] for line in run.stderr.splitlines()] == ["loud"]
    assert run.stdout == ""  # what a command answers stands there alone


@pytest.mark.parametrize(
    ("argv", "answers"),
    [
        (["manage.py", "messages", "list", "--json"], True),
        (["/srv/smtpproxy/manage.py", "queues"], True),
        (["manage.py", "runsmtp"], False),
        (["manage.py", "runingest"], False),
        (["manage.py", "serve"], False),
        (["manage.py"], False),
        (["celery", "worker"], False),
    ],
)
def test_only_commands_that_answer_log_beside_their_output(argv, answers):
    assert our_logging.command_answers(argv) is answers


def test_who_stops_reading_what_a_command_answers_gets_no_traceback(tmp_path):
    done = subprocess.run(
        f"{sys.executable} manage.py help --commands | true",
        shell=True,
        check=True,
        cwd=PROJECT,
        env={**os.environ, "DATA_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert "Traceback" not in done.stderr
    assert "BrokenPipe" not in done.stderr
