"""AUTH PLAIN and LOGIN (SMTP-3, SMTP-4)."""

import dataclasses
import time
from base64 import b64encode

import pytest

from accounts.credentials import AuthenticationFailed
from relay.tests.listening import ACME, PASSWORD, Client


def b64(text):
    return b64encode(text if isinstance(text, bytes) else text.encode()).decode()


GOOD_PLAIN = b64(f"\0crm@acme\0{PASSWORD}")


@pytest.fixture
def secure(client):
    client.hello()
    return client


@pytest.mark.parametrize(
    "lines",
    [
        [f"AUTH PLAIN {GOOD_PLAIN}"],
        [f"auth plain {GOOD_PLAIN}"],
        [f"AUTH Plain  {GOOD_PLAIN}"],
        ["AUTH PLAIN", GOOD_PLAIN],
        ["AUTH PLAIN", b64(f"crm@acme\0crm@acme\0{PASSWORD}")],
        ["AUTH LOGIN", b64("crm@acme"), b64(PASSWORD)],
        ["auth login", b64("crm@acme"), b64(PASSWORD)],
        [f"AUTH LOGIN {b64('crm@acme')}", b64(PASSWORD)],
    ],
)
def test_every_form_of_login(secure, recorder, lines):
    *challenges, last = secure.commands(*lines)
    assert all(reply.startswith("334 ") for reply in challenges)
    assert last == "235 2.7.0 Authentication successful"
    assert secure.command("MAIL FROM:<app@acme.example>").startswith("250")


def test_the_challenges_are_those_clients_know(secure):
    assert secure.command("AUTH PLAIN") == "334 "
    secure.command("*")
    assert secure.command("AUTH LOGIN") == f"334 {b64('Username:')}"
    assert secure.command(b64("crm@acme")) == f"334 {b64('Password:')}"


@pytest.mark.parametrize(
    ("lines", "reply"),
    [
        (["AUTH"], "501 5.5.4"),
        (["AUTH PLAIN a b"], "501 5.5.4"),
        (["AUTH CRAM-MD5"], "504 5.5.4"),
        (["AUTH XOAUTH2 abc"], "504 5.5.4"),
        (["AUTH PLAIN !!!!"], "501 5.5.2"),
        (["AUTH PLAIN YWJ"], "501 5.5.2"),
        (["AUTH PLAIN", "nöt base64"], "501 5.5.2"),
        (["AUTH PLAIN ="], "501 5.5.2"),
        (["AUTH PLAIN", ""], "501 5.5.2"),
        ([f"AUTH PLAIN {b64('no separators')}"], "501 5.5.2"),
        ([f"AUTH PLAIN {b64(b'a' + bytes(5))}"], "501 5.5.2"),
        ([f"AUTH PLAIN {b64(bytes([0, 255, 254, 0]) + b'x')}"], "501 5.5.2"),
        (["AUTH PLAIN", "*"], "501 5.7.0"),
        (["AUTH LOGIN", "*"], "501 5.7.0"),
        (["AUTH LOGIN", b64("crm@acme"), "*"], "501 5.7.0"),
        (["AUTH LOGIN", b64("crm@acme"), "?"], "501 5.5.2"),
        ([f"AUTH PLAIN {b64(chr(0) + 'crm@acme' + chr(0) + 'wrong')}"], "535 5.7.8"),
        ([f"AUTH PLAIN {b64(chr(0) + 'nobody' + chr(0) + PASSWORD)}"], "535 5.7.8"),
        ([f"AUTH PLAIN {b64(f'erp@globex{chr(0)}crm@acme{chr(0)}{PASSWORD}')}"], "535 5.7.8"),
        ([f"AUTH PLAIN {b64(bytes(2))}"], "535 5.7.8"),
        (["AUTH LOGIN =", "="], "535 5.7.8"),
    ],
)
def test_what_does_not_sign_in(secure, lines, reply):
    assert secure.commands(*lines)[-1].startswith(reply)
    assert secure.command("MAIL FROM:<app@acme.example>") == "530 5.7.0 Authentication required"


def test_in_clear_no_password_is_taken(client, recorder):
    client.command("EHLO x")
    assert client.command(f"AUTH PLAIN {GOOD_PLAIN}").startswith("538 5.7.11")
    assert client.command("MAIL FROM:<app@acme.example>").startswith("530 5.7.0 Send STARTTLS")
    assert recorder.questions == []


def test_after_helo_there_is_no_auth(client):
    client.hello()
    client.command("HELO x")
    assert client.command(f"AUTH PLAIN {GOOD_PLAIN}").startswith("503 5.5.1 Send EHLO")


def test_a_second_login_and_one_within_a_transaction_are_refused(signed_in):
    assert signed_in.command(f"AUTH PLAIN {GOOD_PLAIN}") == "503 5.5.1 Already authenticated"


def test_no_login_within_a_transaction(listener, recorder):
    recorder.known_networks["127.0.0.1"] = ACME
    with listener.client() as client:
        client.hello()
        client.command("MAIL FROM:<app@acme.example>")
        assert client.command(f"AUTH PLAIN {GOOD_PLAIN}").startswith("503 5.5.1 AUTH is not allowed")


def test_the_login_outlasts_ehlo_and_rset(signed_in):
    signed_in.commands("EHLO again", "RSET")
    assert signed_in.command("MAIL FROM:<app@acme.example>").startswith("250")


@pytest.mark.parametrize("start", ["AUTH PLAIN", "AUTH LOGIN"])
def test_the_tail_of_an_overlong_answer_is_never_a_command(secure, recorder, start):
    secure.command(start)
    secure.send(b"A" * 20_000 + b" QUIT " + b"B" * 20_000 + b"\r\n")
    assert secure.reply().startswith("500 5.5.6")
    assert secure.command("NOOP").startswith("250")
    assert recorder.questions == []


def test_an_answer_may_be_as_long_as_the_standard_allows(secure):
    secure.command("AUTH PLAIN")
    assert secure.command(b64("\0crm@acme\0" + "x" * 9000)).startswith("535")


def test_what_is_pipelined_behind_a_challenge_is_its_answer_and_no_command(secure, recorder):
    secure.send(b"AUTH LOGIN\r\nQUIT\r\nRSET\r\n")  # both happen to be base64
    assert [secure.reply()[:3] for _ in range(3)] == ["334", "334", "535"]
    assert len(recorder.questions) == 1


def test_with_tls_mode_none_a_login_in_clear_is_taken(listen):
    with listen(tls_mode="none").client() as client:
        client.command("EHLO x")
        assert client.command(f"AUTH PLAIN {GOOD_PLAIN}").startswith("235")


def test_an_address_that_fails_too_often_is_sent_away(listen):
    running = listen(max_auth_failures=3)
    with running.client() as client:
        client.hello()
        for number in range(3):
            assert client.command(f"AUTH PLAIN {b64(f'{chr(0)}user{number}{chr(0)}bad')}").startswith("535")
        assert client.command(f"AUTH PLAIN {GOOD_PLAIN}").startswith("421 4.7.0")
        assert client.at_end()
    with running.client(source="127.0.0.2") as other:
        other.sign_in()


def test_a_username_that_fails_too_often_is_locked_for_strangers_only(listen):
    running = listen(max_auth_failures=3, limit_exempt_networks=["127.0.0.0/8"])
    with running.client(source="127.0.0.5") as application:
        application.sign_in()
    with running.client(source="127.0.0.6") as guesser:
        guesser.hello()
        for _ in range(3):
            assert guesser.command(f"AUTH PLAIN {b64(f'{chr(0)}CRM@acme{chr(0)}bad')}").startswith("535")
        assert guesser.command(f"AUTH PLAIN {GOOD_PLAIN}").startswith("454 4.7.0")
    with running.client(source="127.0.0.5") as application:
        application.sign_in()


def test_failures_are_forgotten_when_the_window_has_passed(listen):
    running = listen(max_auth_failures=1, auth_failure_window=0.2)
    with running.client() as client:
        client.hello()
        client.command(f"AUTH PLAIN {b64(f'{chr(0)}crm@acme{chr(0)}bad')}")
        time.sleep(0.25)
        assert client.command(f"AUTH PLAIN {GOOD_PLAIN}").startswith("235")


def test_a_failure_of_our_own_is_temporary_and_not_counted(listen, recorder):
    class Broken:
        def verify(self, *_):
            raise RuntimeError("secret detail")

    from relay.handler import Domain

    domain = Domain(accept=recorder.accept, verify=Broken().verify, identify_by_network=recorder.identify)
    with listen(domain=domain, max_auth_failures=1).client() as client:
        client.hello()
        for _ in range(3):
            reply = client.command(f"AUTH PLAIN {GOOD_PLAIN}")
            assert reply == "454 4.7.0 Temporary authentication failure"


def test_a_network_authenticated_client_needs_no_tls_and_no_login(printer, recorder):
    assert printer.message(b"Subject: scan\r\n\r\n").startswith("250 2.0.0")
    [message] = recorder.messages
    assert message.account_id == ACME.account_id
    assert b"with ESMTP id" in recorder.bodies[0].replace(b"\r\n\t", b" ")


def test_a_client_of_a_network_may_sign_in_as_another_account(listener, recorder):
    recorder.known_networks["127.0.0.1"] = ACME
    with Client(listener.port) as client:
        client.sign_in(username="bounces@acme")
        assert client.message(b"\r\n", sender="").startswith("250")
    assert recorder.messages[0].account_id != ACME.account_id


class Ended:
    """Lets anybody in once, and says what it is told to when asked again."""

    def __init__(self, recorder, answer):
        self.recorder, self.answer = recorder, answer

    def domain(self):
        return dataclasses.replace(self.recorder.domain(), verify_again=self.verify_again)

    def verify_again(self, identity, client_ip):
        raise self.answer


@pytest.mark.parametrize(
    ("answer", "reply", "goes_on"),
    [
        (AuthenticationFailed("account_suspended"), "421 4.7.0", False),
        (RuntimeError("the database is away"), "451 4.3.0", True),
    ],
)
def test_a_login_is_asked_about_again_after_a_while(listen, recorder, monkeypatch, answer, reply, goes_on):
    from relay import session

    running = listen(domain=Ended(recorder, answer).domain())
    with running.client() as client:
        client.sign_in()
        assert client.message(b"\r\n").startswith("250")
        monkeypatch.setattr(session, "IDENTITY_KEPT_UNHEARD", 0.0)
        assert client.command("MAIL FROM:<app@acme.example>").startswith(reply)
        if goes_on:
            monkeypatch.setattr(session, "IDENTITY_KEPT_UNHEARD", 60.0)
            assert client.command("MAIL FROM:<app@acme.example>").startswith("250")
        else:
            assert client.at_end()
