"""Clients that mean no good: the listener stays up, in step, and tells nothing (LIBRARIES §10, SMTP-9 to SMTP-11)."""

import random
import socket
import struct
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from relay.tests.listening import ACME, Client, cut_off

SCRIPT = [
    b"EHLO client.example\r\n",
    b"MAIL FROM:<app@acme.example>\r\n",
    b"RCPT TO:<bob@example.org>\r\n",
    b"DATA\r\n",
    b"Subject: x\r\n\r\nbody\r\n",
    b".\r\n",
]


@pytest.fixture
def open_relay_for_us(listen, recorder):
    recorder.known_networks["127.0.0.1"] = ACME
    return listen()


def still_serves(running):
    with running.client() as client:
        client.command("EHLO x")
        return client.message(b"Subject: still there\r\n\r\n").startswith("250")


@pytest.mark.parametrize("steps", range(len(SCRIPT) + 1))
@pytest.mark.parametrize("how", ["close", "reset", "half a line"])
def test_a_client_may_go_away_at_any_step(open_relay_for_us, recorder, steps, how):
    client = open_relay_for_us.client()
    for line in SCRIPT[:steps]:
        client.send(line)
    if how == "half a line" and steps < len(SCRIPT):
        client.send(SCRIPT[steps][:-1])
    if how == "reset":
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()
    assert still_serves(open_relay_for_us)
    finished = [body for body in recorder.bodies if b"still there" not in body]
    assert len(finished) <= (steps == len(SCRIPT))  # who does not wait for the answer may not get one
    wait_until_released(open_relay_for_us)


def wait_until_released(running):
    end = time.monotonic() + 10
    while running.listener.limits.total and time.monotonic() < end:
        time.sleep(0.01)
    assert running.listener.limits.total == 0


VERBS = [b"EHLO x", b"HELO x", b"MAIL FROM:<app@acme.example>", b"RCPT TO:<bob@example.org>", b"DATA", b"RSET", b"NOOP"]
JUNK = [b"\0", b"\r", b"\n", b".", b"\xff", b"<", b">", b'"', b"\\", b" ", b"=", b"AUTH PLAIN", b"STARTTLS", b"@", b":"]
line = st.one_of(
    st.sampled_from(VERBS),
    st.binary(max_size=60),
    st.lists(st.sampled_from(VERBS + JUNK), max_size=8).map(b"".join),
)


@pytest.fixture(scope="module")
def fuzzed():
    from relay.tests.listening import Recorder, Running

    recorder = Recorder(known_networks={"127.0.0.1": ACME})
    with Running(recorder.domain(), idle_timeout=1, idle_timeout_before_auth=1, data_timeout=1) as running:
        yield running


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(line, max_size=12))
def test_any_octets_get_smtp_replies_or_a_closed_connection(fuzzed, lines):
    with fuzzed.client() as client:
        try:
            client.send(b"\r\n".join([*lines, b"\r\n.\r\nRSET\r\nQUIT\r\n"]))
            while True:
                reply = client.reply()
                assert reply[:3].isdigit()
                assert reply[3:4] in (" ", "-")
                assert reply[0] in "2345"
                if reply.startswith("221"):
                    break
        except (EOFError, ConnectionError):
            pass


def test_random_binary_is_survived(open_relay_for_us):
    for seed in range(5):
        with open_relay_for_us.client() as client:
            octets = random.Random(seed).randbytes(200_000)
            cut_off(lambda: client.send(octets), 0.3)  # noqa: B023
    assert still_serves(open_relay_for_us)


def test_starttls_cannot_be_used_to_slip_in_a_login(client):
    """CVE-2011-0411 and its kin: what came in clear must not be taken as said under TLS."""
    client.command("EHLO x")
    client.send(b"STARTTLS\r\nEHLO evil\r\nAUTH PLAIN AGNybUBhY21lAGNvcnJlY3QgaG9yc2U=\r\n")
    assert client.reply().startswith("220")
    client.socket.settimeout(2)
    with pytest.raises((EOFError, OSError)):
        raise AssertionError(client.reply())


def test_a_thousand_idle_connections_cost_no_greeting(listen):
    running = listen(max_connections=2000)
    idle = [Client(running.port, greeted=False) for _ in range(300)]
    began = time.monotonic()
    with running.client() as one_more:
        assert one_more.command("NOOP").startswith("250")
    assert time.monotonic() - began < 1
    for client in idle:
        client.close()
    wait_until_released(running)


def test_slow_password_checks_hold_up_nobody_else(listen, recorder):
    from relay.handler import Domain

    def slow(*_):
        time.sleep(0.3)
        return ACME

    domain = Domain(accept=recorder.accept, verify=slow, identify_by_network=recorder.identify)
    running = listen(domain=domain, tls_mode="none")
    waiting = [running.client() for _ in range(8)]
    for client in waiting:
        client.command("EHLO x")
        client.send(b"AUTH PLAIN AGEAYg==\r\n")
    began = time.monotonic()
    with running.client() as other:
        other.command("EHLO x")
    assert time.monotonic() - began < 0.25
    assert {client.reply()[:3] for client in waiting} == {"235"}


def test_a_message_of_dots_and_line_ends_only(open_relay_for_us, recorder):
    with open_relay_for_us.client() as client:
        client.command("EHLO x")
        assert client.message(b"..\r\n" * 200_000 + b"\r\n" * 200_000).startswith("250")
    assert recorder.body == b".\r\n" * 200_000 + b"\r\n" * 200_000


def test_a_message_octet_by_octet(open_relay_for_us, recorder):
    with open_relay_for_us.client() as client:
        client.command("EHLO x")
        client.envelope()
        for octet in b"a: b\r\n\r\n..x\r\n.\r\n":
            client.send(bytes([octet]))
        assert client.reply().startswith("250")
    assert recorder.body == b"a: b\r\n\r\n.x\r\n"


def test_an_error_inside_a_command_is_ours_and_temporary(listen, recorder):
    def broken(identity, address):
        raise RuntimeError("table accounts_account has no column")

    from relay.handler import Domain

    recorder.known_networks["127.0.0.1"] = ACME
    domain = Domain(
        accept=recorder.accept, verify=recorder.verify, identify_by_network=recorder.identify, sender_allowed=broken
    )
    with listen(domain=domain).client() as client:
        client.command("EHLO x")
        assert client.command("MAIL FROM:<app@acme.example>") == "451 4.3.0 Temporary failure; try again later"
        assert client.command("NOOP").startswith("250")


def test_an_error_while_a_message_comes_in_never_lets_it_be_read_as_commands(listen, recorder, monkeypatch):
    from relay.commands import data

    def broken(self, chunk):
        raise RuntimeError("a fault of ours")

    monkeypatch.setattr(data.DataDecoder, "feed", broken)
    recorder.known_networks["127.0.0.1"] = ACME
    with listen().client() as client:
        client.command("EHLO x")
        client.envelope()
        client.send(b"RSET\r\nMAIL FROM:<ceo@acme.example>\r\n")
        assert client.reply().startswith("421 4.3.0")
        assert client.at_end()
