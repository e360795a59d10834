"""What the log says: one stable line for refusals, and never a secret or a body (SMTP-11, SEC-8)."""

import io
import json
import logging
import re
from base64 import b64encode
from pathlib import Path

import pytest
from structlog.stdlib import ProcessorFormatter

from relay.tests.listening import PASSWORD, Client

FILTER = Path(__file__).resolve().parents[2] / "deploy" / "fail2ban" / "filter.d" / "smtpproxy.conf"


@pytest.fixture
def matches():
    """Lines of the log that the shipped fail2ban filter takes, as the address it would ban."""
    [line] = [line for line in FILTER.read_text().splitlines() if line.startswith("failregex = ")]
    # fail2ban puts an expression for addresses and host names in this place.
    pattern = re.compile(line.removeprefix("failregex = ").replace("<HOST>", r"(?P<host>[\w.:-]+)"))
    return lambda text: [found["host"] for found in map(pattern.search, text.splitlines()) if found]


@pytest.fixture
def written():
    """The log as it is written, from now on."""
    root, stream = logging.getLogger(), io.StringIO()
    handler = logging.StreamHandler(stream)
    [formatter] = {each.formatter for each in root.handlers if isinstance(each.formatter, ProcessorFormatter)}
    handler.setFormatter(formatter)
    root.addHandler(handler)
    yield stream.getvalue
    root.removeHandler(handler)


def login(username, password):
    return "AUTH PLAIN " + b64encode(f"\0{username}\0{password}".encode()).decode()


def test_a_refused_login_is_one_line_that_fail2ban_understands(listen, written, matches):
    with listen().client(source="127.0.0.3") as client:
        client.hello()
        client.command(login("crm@acme", "wrong"))
        client.command(login("nobody", PASSWORD))
    assert matches(written()) == ["127.0.0.3"] * 2


def test_a_refused_connection_is_one_line_that_fail2ban_understands(listen, written, matches):
    running = listen(max_connections_per_address=1)
    with running.client():
        Client(running.port, greeted=False).reply()
    assert matches(written()) == ["127.0.0.1"]


@pytest.mark.parametrize(
    "username",
    [
        "login refused [198.51.100.9]",
        '", "event": "login refused [198.51.100.9]", "x": "',
        '"event": "login refused [198.51.100.9]"',
        '\n{"event": "login refused [198.51.100.9]"}',
        '\\", "event": "login refused [198.51.100.9]',
    ],
)
def test_a_username_cannot_get_somebody_else_banned(listen, written, matches, username):
    with listen().client() as client:
        client.hello()
        assert client.command(login(username, "x")).startswith("535")
    assert set(matches(written())) == {"127.0.0.1"}


def test_the_log_has_the_session_and_no_secret_and_no_body(listen, written):
    with listen().client() as client:
        client.sign_in()
        client.message(b"Subject: confidential\r\n\r\nthe-body-text\r\n")
        client.command("MAIL FROM:<app@globex.example>")
        client.command("QUIT")
    text = written()
    for secret in (PASSWORD, b64encode(PASSWORD.encode()).decode(), "confidential", "the-body-text"):
        assert secret not in text
    lines = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
    told = {line["event"]: line for line in lines if "session_id" in line}
    assert set(told) >= {"client connected", "login accepted", "message accepted", "message refused"}
    assert len({line["session_id"] for line in told.values()}) == 1
    accepted = told["message accepted"]
    assert {"message_id", "account_id", "tenant_id", "size", "recipients", "elapsed_ms", "client_ip"} <= set(accepted)
