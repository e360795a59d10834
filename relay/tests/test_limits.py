"""How many connections, messages, errors, and how long (SMTP-11)."""

import time

import pytest
from django.conf import settings

from relay.config import Config
from relay.limits import AuthFailures, ConnectionLimits, host_key
from relay.tests.listening import ACME, Client, cut_off


def limits_of(clock, **changes):
    values = Config.from_settings({**settings.SMTP, **{k.upper(): v for k, v in changes.items()}})
    return ConnectionLimits(lambda: values, clock), AuthFailures(lambda: values, clock)


def test_beyond_the_total_a_connection_gets_421(listen):
    running = listen(max_connections=2)
    with running.client() as first, running.client():
        extra = Client(running.port, greeted=False)
        assert extra.reply().startswith("421 4.7.0 Too many connections;")
        assert extra.at_end()
        first.command("QUIT")
        assert first.at_end()
        with running.client() as third:
            assert third.command("NOOP").startswith("250")


def test_one_address_may_not_take_all(listen):
    running = listen(max_connections_per_address=2)
    with running.client(), running.client():
        assert Client(running.port, greeted=False).reply().startswith("421 4.7.0 Too many connections from your")
        with running.client(source="127.0.0.9") as other:
            assert other.command("NOOP").startswith("250")


def test_one_address_may_not_connect_too_often(listen):
    running = listen(max_new_connections_per_minute=3)
    for _ in range(3):
        running.client().close()
    assert Client(running.port, greeted=False).reply().startswith("421 4.7.0 Your address connects too often")


def test_networks_may_be_exempt(listen):
    running = listen(
        max_new_connections_per_minute=1, max_connections_per_address=1, limit_exempt_networks=["127.0.0.0/8"]
    )
    with running.client(), running.client(), running.client() as third:
        assert third.command("NOOP").startswith("250")


def test_a_refused_tls_connection_is_closed_without_a_word(listen):
    running = listen(max_connections=1)
    with running.client():
        refused = Client(running.tls_port, greeted=False)
        assert refused.at_end()


def test_the_count_per_minute_begins_anew():
    now = [0.0]
    limits, _ = limits_of(lambda: now[0], max_new_connections_per_minute=2)
    assert [limits.admit("192.0.2.1") for _ in range(3)] == [None, None, "max_new_connections_per_minute"]
    assert limits.admit("192.0.2.2") is None
    now[0] = 61.0
    assert limits.admit("192.0.2.1") is None


def test_what_is_released_is_forgotten():
    limits, _ = limits_of(time.monotonic)
    for number in range(40):
        assert limits.admit(f"192.0.2.{number}") is None
        limits.release(f"192.0.2.{number}")
    assert limits.total == 0
    assert not limits._open


def test_an_ipv6_subscriber_is_one_client():
    assert host_key("2001:db8:1:2::1") == host_key("2001:db8:1:2:ffff::9")
    assert host_key("2001:db8:1:2::1") != host_key("2001:db8:1:3::1")


def test_failed_logins_are_kept_in_bounded_memory(monkeypatch):
    from relay import limits as module

    monkeypatch.setattr(module, "_MAX_KEYS", 100)
    monkeypatch.setattr(module, "_MAX_KNOWN", 10)
    _, failures = limits_of(time.monotonic)
    for number in range(1000):
        failures.failed(f"user{number}", f"2001:db8:{number:x}::1")
        failures.succeeded(f"user{number}", "192.0.2.1")
    assert len(failures._times) <= 101
    assert len(failures._known) == 10


def test_messages_per_connection_are_limited(listen, recorder):
    recorder.known_networks["127.0.0.1"] = ACME
    with listen(max_messages_per_connection=2).client() as client:
        client.command("EHLO x")
        assert client.message(b"\r\n").startswith("250")
        assert client.message(b"\r\n").startswith("250")
        assert client.command("MAIL FROM:<app@acme.example>").startswith("421 4.7.0 Enough messages")
        assert client.at_end()


def test_twenty_errors_end_the_connection(client):
    for _ in range(19):
        assert client.command("XYZZY").startswith("500")
    client.send(b"XYZZY\r\n")
    assert client.reply().startswith("500")
    assert client.reply().startswith("421 4.7.0 Too many errors")
    assert client.at_end()


def test_an_accepted_message_makes_up_for_errors(printer):
    for _ in range(3):
        for _ in range(15):
            printer.command("XYZZY")
        assert printer.message(b"\r\n").startswith("250")


def test_a_stranger_cannot_pass_the_time_with_harmless_commands(client):
    client.command("EHLO x")
    client.send(b"NOOP\r\n" * 200)
    replies = []
    assert cut_off(lambda: replies.append(client.reply()))
    assert replies[-1].startswith("421")
    assert len(replies) <= 101


def test_a_stranger_is_dropped_sooner_than_somebody_we_know(listen, recorder):
    running = listen(idle_timeout_before_auth=0.3, idle_timeout=30)
    with running.client() as stranger, running.client() as known:
        known.sign_in()
        assert stranger.reply().startswith("421 4.4.2 Waited too long")
        assert stranger.at_end()
        assert known.command("NOOP").startswith("250")


def test_somebody_we_know_is_dropped_too_in_the_end(listen):
    with listen(idle_timeout=0.3).client() as client:
        client.sign_in()
        assert client.reply().startswith("421 4.4.2")


@pytest.mark.parametrize(
    "changes",
    [{"data_timeout": 0.3}, {"idle_timeout": 0.3}, {"data_timeout": 3, "data_min_rate": 1_000_000}],
    ids=["whole time", "silence", "rate"],
)
def test_a_message_that_comes_too_slowly_is_given_up(listen, recorder, changes):
    recorder.known_networks["127.0.0.1"] = ACME
    with listen(**changes).client() as client:
        client.command("EHLO x")
        client.envelope()
        client.send(b"Subject: slow\r\n")
        assert client.reply() == "421 4.4.2 The message came too slowly"
        assert client.at_end()
    assert recorder.messages == []


def test_a_message_that_trickles_in_below_the_rate_is_given_up(listen, recorder):
    recorder.known_networks["127.0.0.1"] = ACME
    with listen(data_timeout=5, data_min_rate=1000).client() as client:
        client.command("EHLO x")
        client.envelope()
        assert cut_off(lambda: (client.send(b"x"), time.sleep(0.02)), 4)


def test_one_more_is_greeted_at_once_beside_idle_and_slow_clients(listen, recorder):
    """A tenth of what SMTP-11 promises; bench/ measures the whole."""
    recorder.known_networks["127.0.0.1"] = ACME
    running = listen()
    others = [running.client() for _ in range(120)]
    for slow in others[:20]:
        slow.command("EHLO x")
        slow.envelope()
        slow.send(b"Subject: sl")
    began = time.monotonic()
    with running.client() as one_more:
        assert one_more.greeting
    assert time.monotonic() - began < 1
    for client in others:
        client.close()
