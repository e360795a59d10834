"""A suspended account, a new password, a changed rule: other processes act on it within a second, and within their
caches' time to live where nobody can tell them (AMQP-4, SMTP-5)."""

import contextlib
import time
from base64 import b64encode

import pytest
from django.conf import settings
from django.db import connection

from accounts import changes, credentials, shared_state
from accounts.tests.factories import PASSWORD
from delivery.tests.workers import database_url
from relay.tests.processes import Program, wait_until
from smtpproxy.tests import services

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]
LETTER = b"From: app@acme.example\r\nSubject: Hello\r\n\r\nHello.\r\n"
LOGIN_ENDED = "421 4.7.0"


@pytest.fixture(scope="module")
def redis_url():
    with services.redis_server() as url:
        yield url


@pytest.fixture(scope="module")
def listeners(django_db_setup, tmp_path_factory, redis_url):
    """Two listeners, each with a process of its own, on one database and one shared store."""
    if connection.vendor != "postgresql":
        pytest.skip("a test database in memory cannot be shared with the listener's process")
    values = {
        "database_url": database_url(),
        "redis_url": redis_url,
        "credential_keys": ",".join(settings.CREDENTIAL_KEYS),
        "secret_key": settings.SECRET_KEY,
        "smtp_max_auth_failures": 1000,
    }
    with (
        Program(tmp_path_factory.mktemp("one"), **values) as one,
        Program(tmp_path_factory.mktemp("two"), **values) as two,
    ):
        for each in (one, two):
            wait_until(lambda each=each: '"event": "changes are heard"' in each.log())
        yield one, two


@pytest.fixture
def told(redis_url, settings, monkeypatch):
    """This process announces where the listeners listen."""
    settings.SHARED_STATE_URL = redis_url
    monkeypatch.setattr(changes, "_away_until", 0.0)


@pytest.fixture
def untold(settings, monkeypatch):
    """This process cannot tell anybody."""
    settings.SHARED_STATE_URL = "redis://127.0.0.1:1/0"
    monkeypatch.setattr(changes, "_away_until", 0.0)


@pytest.fixture
def sessions(listeners, acme_account):
    """Signed in at each listener, and each has sent something."""
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(each.client()).sign_in(password=PASSWORD) for each in listeners]
        for client in clients:
            assert client.message(LETTER).startswith("250")
        yield clients


def sign_in(program, password=PASSWORD):
    with program.client() as client:
        client.hello()
        token = b64encode(f"\0crm@acme\0{password}".encode()).decode()
        return client.command(f"AUTH PLAIN {token}")


def suspend_account(acme, acme_account):
    acme_account.status = "suspended"
    acme_account.save()


def suspend_tenant(acme, acme_account):
    acme.status = "suspended"
    acme.save()


def change_password(acme, acme_account):
    credentials.set_password(acme_account, "another long password")


def change_networks(acme, acme_account):
    acme_account.client_networks = ["198.51.100.0/24"]
    acme_account.save()


CHANGES = [suspend_account, suspend_tenant, change_password, change_networks]


@pytest.mark.usefixtures("told")
@pytest.mark.parametrize("change", CHANGES)
def test_who_may_not_sign_in_any_more_is_refused_within_a_second_and_so_are_their_sessions(
    listeners, sessions, acme, acme_account, change
):
    change(acme, acme_account)
    end = time.monotonic() + 1
    assert [sign_in(each)[:3] for each in listeners] == ["535", "535"]
    time.sleep(max(0, end - time.monotonic()))
    for client in sessions:
        assert client.command("MAIL FROM:<app@acme.example>").startswith(LOGIN_ENDED)
        assert client.at_end()


@pytest.mark.usefixtures("told")
def test_a_message_that_was_begun_before_the_suspension_is_refused_at_its_end(sessions, acme, acme_account):
    for client in sessions:
        client.envelope()
    suspend_account(acme, acme_account)
    time.sleep(0.5)
    for client in sessions:
        client.send(LETTER + b".\r\n")
        assert client.reply().startswith("550 5.7.1")


@pytest.mark.usefixtures("told")
def test_a_session_of_an_account_that_changed_otherwise_goes_on_by_what_holds_now(sessions, acme_account):
    acme_account.allowed_senders = ["new.example"]
    acme_account.save()
    time.sleep(0.5)
    for client in sessions:
        assert client.command("MAIL FROM:<app@acme.example>").startswith("5")
        assert client.message(LETTER.replace(b"acme", b"new"), sender="app@new.example").startswith("250")


def test_where_the_shared_store_is_away_it_takes_the_time_to_live(
    listeners, sessions, acme, acme_account, redis_url, untold
):
    with shared_state.redis.Redis.from_url(redis_url) as server:
        server.config_set("maxclients", 1)  # nobody else gets in
        server.client_kill_filter(_type="pubsub", skipme=True)
        for each in listeners:
            wait_until(lambda each=each: '"event": "changes are not heard"' in each.log())
        try:
            change_password(acme, acme_account)
            assert [sign_in(each)[:3] for each in listeners] == ["535", "535"]
            time.sleep(5.5)
            for client in sessions:
                assert client.command("MAIL FROM:<app@acme.example>").startswith(LOGIN_ENDED)
        finally:
            server.config_set("maxclients", 10_000)
    for each in listeners:
        wait_until(lambda each=each: each.log().count('"event": "changes are heard"') >= 2)
