"""MAIL FROM: syntax, parameters and who may send (SMTP-6, SMTP-7, SMTP-8)."""

import pytest

from relay.handler import Domain
from relay.tests.listening import ACME, BOUNCER
from relay.threads import Unavailable

LIMIT = 50_000


@pytest.fixture
def listener(listen, recorder):
    recorder.known_networks["127.0.0.1"] = ACME
    return listen(max_message_size=LIMIT)


@pytest.fixture
def hello(client):
    client.command("EHLO x")
    return client


@pytest.mark.parametrize(
    "argument",
    [
        "FROM:<app@acme.example>",
        "from:<app@acme.example>",
        "FROM: <app@acme.example>",
        "FROM:<App.X+tag@ACME.example>",
        'FROM:<"odd one"@acme.example>',
        "FROM:<@relay.example,@other.example:app@acme.example>",
        f"FROM:<app@acme.example> SIZE={LIMIT}",
        "FROM:<app@acme.example> size=0 body=8bitmime",
        "FROM:<app@acme.example> BODY=7BIT",
        "FROM:<app@acme.example> SMTPUTF8",
        "FROM:<app@acme.example> AUTH=<>",
        "FROM:<app@acme.example> AUTH=e+3Dmc2@example.com SIZE=1",
        "FROM:<app@acme.example>  SIZE=1 ",
        "FROM:<jörg@acme.example> SMTPUTF8",
        "FROM:<app@sub.acme.example>",
    ],
)
def test_taken(hello, argument):
    assert hello.command(f"MAIL {argument}") == "250 2.1.0 Sender ok"


@pytest.mark.parametrize(
    ("argument", "reply"),
    [
        ("", "501 5.5.4"),
        ("TO:<app@acme.example>", "501 5.5.4"),
        ("<app@acme.example>", "501 5.5.4"),
        ("FROM:", "501 5.1.7"),
        ("FROM:app@acme.example", "501 5.1.7"),
        ("FROM:<app@acme.example", "501 5.1.7"),
        ("FROM:app@acme.example>", "501 5.1.7"),
        ("FROM:<<app@acme.example>>", "501 5.1.7"),
        ("FROM:<app>", "501 5.1.7"),
        ("FROM:< >", "501 5.1.7"),
        ("FROM:<app@acme.example>SIZE=1", "501 5.1.7"),
        ("FROM:<app@acme.example> SIZE", "501 5.5.4"),
        ("FROM:<app@acme.example> SIZE=", "501 5.5.4"),
        ("FROM:<app@acme.example> SIZE=-1", "501 5.5.4"),
        ("FROM:<app@acme.example> SIZE=٣", "501 5.5.4"),
        ("FROM:<app@acme.example> SIZE=1 SIZE=1", "501 5.5.4"),
        ("FROM:<app@acme.example> SIZE=" + "9" * 21, "501 5.5.4"),
        ("FROM:<app@acme.example> BODY=BINARYMIME", "501 5.5.4"),
        ("FROM:<app@acme.example> SMTPUTF8=yes", "501 5.5.4"),
        ("FROM:<app@acme.example> AUTH", "501 5.5.4"),
        ("FROM:<app@acme.example> =x", "501 5.5.4"),
        ("FROM:<app@acme.example> RET=FULL", "555 5.5.4"),
        ("FROM:<app@acme.example> CHUNKING", "555 5.5.4"),
        (f"FROM:<app@acme.example> SIZE={LIMIT + 1}", "552 5.3.4"),
        ("FROM:<jörg@acme.example>", "553 5.6.7"),
        ("FROM:<app@globex.example>", "550 5.7.1"),
        ("FROM:<app@evilacme.example>", "550 5.7.1"),
        ("FROM:<app@acme.example.evil>", "550 5.7.1"),
        ("FROM:<@acme.example:app@globex.example>", "550 5.7.1"),
        ("FROM:<>", "550 5.7.1"),
    ],
)
def test_refused(hello, argument, reply):
    assert hello.command(f"MAIL {argument}").startswith(reply)
    assert hello.command("RCPT TO:<bob@example.org>").startswith("503")


def test_the_empty_sender_is_taken_where_the_account_may_send_bounces(hello, recorder):
    recorder.known_networks["127.0.0.1"] = BOUNCER
    assert hello.message(b"\r\n", sender="").startswith("250")
    assert recorder.messages[0].mail_from == ""


def test_octets_that_are_no_utf_8_are_no_address(hello):
    assert hello.command(b"MAIL FROM:<j\xf6rg@acme.example> SMTPUTF8").startswith("501 5.1.7")


def test_nested_mail_is_refused_and_the_first_stays(hello):
    hello.command("MAIL FROM:<app@acme.example>")
    assert hello.command("MAIL FROM:<other@acme.example>").startswith("503 5.5.1")
    assert hello.command("RCPT TO:<bob@example.org>").startswith("250")


def test_rset_ends_the_transaction(hello):
    hello.commands("MAIL FROM:<app@acme.example>", "RCPT TO:<bob@example.org>", "RSET")
    assert hello.command("DATA").startswith("503 5.5.1 Send MAIL")
    assert hello.command("MAIL FROM:<app@acme.example>").startswith("250")


def test_a_long_line_with_all_parameters_is_taken(hello):
    sender = "a" * 64 + "@acme.example"
    line = f"MAIL FROM:<{sender}> SIZE=00000000000000001000 BODY=8BITMIME SMTPUTF8 AUTH={'b' * 480}"
    assert hello.command(line).startswith("250")


def test_a_client_nobody_knows_may_not_send(listen):
    with listen().client() as client:
        client.command("HELO x")
        assert client.command("MAIL FROM:<app@acme.example>").startswith("530 5.7.0")


def test_after_helo_mail_is_taken_as_smtp(client, recorder):
    client.command("HELO old.example")
    assert client.message(b"\r\n").startswith("250")
    assert b"with SMTP id" in recorder.bodies[0].replace(b"\r\n\t", b" ")


def test_a_network_that_loses_its_account_is_asked_about_again(listener, recorder, monkeypatch):
    from relay import session

    monkeypatch.setattr(session, "IDENTITY_KEPT_UNHEARD", 0.0)
    with listener.client() as client:
        client.command("EHLO x")
        assert client.message(b"\r\n").startswith("250")
        recorder.known_networks.clear()
        assert client.command("MAIL FROM:<app@acme.example>").startswith("530")


def test_when_nobody_can_say_whose_network_it_is_the_client_tries_again(listen, recorder):
    def broken(client_ip):
        raise Unavailable("no answer")

    domain = Domain(accept=recorder.accept, verify=recorder.verify, identify_by_network=broken)
    with listen(domain=domain).client() as client:
        client.command("EHLO x")
        for _ in range(30):  # our failures are not the client's errors
            assert client.command("MAIL FROM:<app@acme.example>").startswith("451 4.3.0")
