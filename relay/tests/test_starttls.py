"""STARTTLS (RFC 3207, SMTP-10)."""

import socket
import ssl

import pytest

from relay.tests.listening import ACME, client_context, cut_off


def test_what_was_said_in_clear_counts_no_more(client):
    client.command("EHLO client.example")
    client.starttls()
    assert client.command("AUTH PLAIN AGEAYg==").startswith("503 5.5.1 Send EHLO")
    assert client.command("MAIL FROM:<app@acme.example>").startswith("503 5.5.1 Send HELO")
    assert client.command("EHLO client.example").startswith("250")


def test_a_transaction_begun_in_clear_is_forgotten(listener, recorder):
    recorder.known_networks["127.0.0.1"] = ACME
    with listener.client() as client:
        client.commands("EHLO x", "MAIL FROM:<app@acme.example>", "RCPT TO:<bob@example.org>")
        client.starttls()
        client.command("EHLO x")
        assert client.command("DATA").startswith("503")


@pytest.mark.parametrize(
    "injected", [b"NOOP\r\n", b"EHLO evil\r\nMAIL FROM:<app@acme.example>\r\n", b"RSET\r\n" * 5000, b"half a li"]
)
def test_commands_sent_ahead_of_the_handshake_are_thrown_away(client, injected):
    client.command("EHLO client.example")
    client.send(b"STARTTLS\r\n" + injected)
    assert client.reply().startswith("220")
    try:
        client.socket = client_context().wrap_socket(client.socket)
    except OSError:
        return  # what came after our 220 was taken for a handshake, and refused as one
    assert client.command("EHLO client.example").startswith("250-localhost")
    assert client.command("NOOP x").startswith("250 2.0.0")


def test_starttls_within_tls_is_refused(client):
    client.hello()
    assert client.command("STARTTLS").startswith("503 5.5.1 TLS is already active")
    assert client.command("NOOP").startswith("250")


def test_starttls_takes_no_argument_and_needs_ehlo(client):
    assert client.command("STARTTLS").startswith("503 5.5.1 Send EHLO")
    client.command("EHLO x")
    assert client.command("STARTTLS now").startswith("501")
    assert client.command("STARTTLS ").startswith("220")


def test_garbage_instead_of_a_handshake_ends_this_connection_alone(listener):
    with listener.client() as bad, listener.client() as good:
        bad.command("EHLO x")
        bad.command("STARTTLS")
        bad.send(b"EHLO this is no ClientHello\r\n" * 10)
        bad.socket.settimeout(10)
        assert cut_off(lambda: bad.socket.recv(1000) or bad.reply())
        assert good.command("NOOP").startswith("250")


def test_a_handshake_that_never_comes_is_given_up(listen):
    with listen(idle_timeout_before_auth=0.3).client() as client:
        client.command("EHLO x")
        client.command("STARTTLS")
        client.socket.settimeout(10)
        assert client.at_end()


def test_tls_below_1_2_is_refused(listener):
    context = client_context()
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    raw = socket.create_connection(("127.0.0.1", listener.tls_port), timeout=10)
    with raw, pytest.raises(OSError, match=r"SSL|reset"):
        context.wrap_socket(raw)
