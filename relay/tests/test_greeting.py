"""The greeting and the plain commands of a session."""

import aiosmtpd
import pytest


def test_the_greeting_names_the_host_and_no_software_or_version(listen):
    with listen(hostname="mx.acme.example").client() as client:
        assert client.greeting == "220 mx.acme.example ESMTP ready"
        assert aiosmtpd.__version__ not in client.greeting
        assert "python" not in client.greeting.lower()


def test_helo_gets_one_line_without_extensions(client):
    assert client.command("HELO client.example") == "250 localhost"


@pytest.mark.parametrize("verb", ["HELO", "EHLO", "helo", "ehlo "])
def test_a_greeting_without_a_name_is_refused(client, verb):
    assert client.command(verb).startswith("501 5.5.4 Syntax:")


@pytest.mark.parametrize(
    "name", ["client.example", "[192.0.2.1]", "my_windows_box", "büro-pc".encode("latin-1"), "a b"]
)
def test_whatever_a_client_calls_itself_is_taken(client, name):
    name = name if isinstance(name, bytes) else name.encode()
    assert client.command(b"EHLO " + name).startswith("250")


@pytest.mark.parametrize(
    ("command", "reply"),
    [
        ("NOOP", "250 2.0.0"),
        ("NOOP anything at all", "250 2.0.0"),
        ("noop", "250 2.0.0"),
        ("RSET", "250 2.0.0"),
        ("RSET now", "501 5.5.4"),
        ("HELP", "214 2.0.0"),
        ("HELP MAIL", "214 2.0.0"),
        ("EXPN list", "502 5.5.1"),
        ("BDAT 5 LAST", "502 5.5.1"),
        ("TURN", "502 5.5.1"),
        ("XYZZY", "500 5.5.2"),
        ("", "500 5.5.2"),
        ("QUIT now", "501 5.5.4"),
        ("DATA", "503 5.5.1"),
        ("RCPT TO:<a@b.example>", "503 5.5.1"),
        ("MAIL FROM:<a@b.example>", "503 5.5.1"),
        ("AUTH PLAIN", "503 5.5.1"),
    ],
)
def test_commands_before_hello(client, command, reply):
    assert client.command(command).startswith(reply)


def test_vrfy_says_the_same_of_every_address(client):
    replies = client.commands("VRFY root", "VRFY crm@acme", "VRFY nobody@nowhere.example")
    assert {reply[:9] for reply in replies} == {"252 2.0.0"}
    assert len(set(replies)) == 1
    assert client.command("VRFY").startswith("501")


def test_quit_is_answered_before_the_connection_closes(client):
    assert client.command("QUIT") == "221 2.0.0 Bye"
    assert client.at_end()


@pytest.mark.parametrize("line", ["GET / HTTP/1.1", "POST /mail HTTP/1.1", "CONNECT mx:25 HTTP/1.1"])
def test_a_web_client_is_sent_away_before_its_body_is_read_as_commands(client, line):
    client.send(f"{line}\r\nHost: x\r\n\r\nEHLO a\r\nMAIL FROM:<a@acme.example>\r\n".encode())
    assert client.reply().startswith("421 4.7.0")
    assert client.at_end()
