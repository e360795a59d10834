"""The PROXY protocol, from trusted addresses only (SMTP-12)."""

import contextlib
import socket
import struct

import pytest

from relay import proxy
from relay.tests.listening import ACME, Client, client_context

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
V1 = b"PROXY TCP4 198.51.100.7 127.0.0.1 56324 2525\r\n"
V1_IPV6 = b"PROXY TCP6 2001:db8::7 ::1 56324 2525\r\n"


def v2(*, command=1, family=0x11, addresses=None, tlv=b""):
    if addresses is None:
        addresses = socket.inet_aton("198.51.100.7") + socket.inet_aton("127.0.0.1") + struct.pack("!HH", 56324, 2525)
    return SIGNATURE + bytes([0x20 | command, family]) + struct.pack("!H", len(addresses + tlv)) + addresses + tlv


V2_IPV6 = v2(
    family=0x21,
    addresses=socket.inet_pton(socket.AF_INET6, "2001:db8::7") + bytes(16) + struct.pack("!HH", 1, 2),
)


@pytest.fixture
def behind_proxy(listen):
    return listen(proxy_protocol_networks=["127.0.0.0/8"])


def seen_as(recorder):
    [message] = recorder.messages
    assert message.client_ip.encode() in recorder.bodies[0]
    return message.client_ip


@pytest.mark.parametrize(
    ("header", "address"),
    [
        (V1, "198.51.100.7"),
        (V1_IPV6, "2001:db8::7"),
        (v2(), "198.51.100.7"),
        (v2(tlv=b"\x04\x00\x05abcde"), "198.51.100.7"),
        (V2_IPV6, "2001:db8::7"),
        (b"PROXY UNKNOWN\r\n", "127.0.0.1"),
        (b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n", "127.0.0.1"),
        (v2(command=0), "127.0.0.1"),
        (v2(command=0, family=0, addresses=b""), "127.0.0.1"),
        (v2(family=0, addresses=b""), "127.0.0.1"),
        (v2(family=0x31, addresses=bytes(216)), "127.0.0.1"),
    ],
)
@pytest.mark.parametrize("in_pieces", [False, True])
def test_the_client_behind_the_proxy_is_who_counts(behind_proxy, recorder, header, address, in_pieces):
    recorder.known_networks[address] = ACME
    client = Client(behind_proxy.port, greeted=False)
    if in_pieces:
        for octet in header:
            client.send(bytes([octet]))
    else:
        client.send(header)
    with client:
        assert client.reply().startswith("220")
        client.command("EHLO x")
        assert client.message(b"\r\n").startswith("250")
    assert seen_as(recorder) == address


def test_the_header_comes_before_tls(behind_proxy, recorder):
    recorder.known_networks["198.51.100.7"] = ACME
    with Client(behind_proxy.tls_port, greeted=False) as client:
        client.send(V1)
        client.socket = client_context().wrap_socket(client.socket)
        assert client.reply().startswith("220")
        client.command("EHLO x")
        assert client.message(b"\r\n").startswith("250")
    assert seen_as(recorder) == "198.51.100.7"


def test_what_follows_the_header_at_once_is_not_lost(behind_proxy):
    with Client(behind_proxy.port, greeted=False) as client:
        client.send(v2() + b"NOOP\r\n")
        assert client.reply().startswith("220")
        assert client.reply().startswith("250")


@pytest.mark.parametrize(
    "header",
    [
        b"EHLO x\r\n",
        b"PROXY TCP4 1.2.3.4\r\n",
        b"PROXY TCP4 999.1.1.1 127.0.0.1 1 2\r\n",
        b"PROXY TCP4 2001:db8::7 ::1 1 2\r\n",
        b"PROXY TCP4 1.2.3.4 127.0.0.1 99999 2\r\n",
        b"PROXY TCP4 1.2.3.4 127.0.0.1 1 2" + b" " * 200,
        b"PROXY" + b"x" * 300 + b"\r\n",
        b"\r\n\r\n\x00\r\nQUIX\n" + bytes(50),
        v2()[:20],
        SIGNATURE + b"\x31\x11\x00\x0c" + bytes(12),
        SIGNATURE + b"\x2f\x11\x00\x0c" + bytes(12),
        SIGNATURE + b"\x21\x11\x00\x02\x01\x02",
        b"\x16\x03\x01" + bytes(40),
        b"",
    ],
)
def test_without_a_good_header_a_proxy_is_not_served(behind_proxy, header):
    with Client(behind_proxy.port, greeted=False) as client:
        client.send(header)
        with contextlib.suppress(OSError):
            client.socket.shutdown(socket.SHUT_WR)
        assert client.at_end()


def test_a_header_that_never_comes_is_not_waited_for(behind_proxy, monkeypatch):
    monkeypatch.setattr(proxy, "TIMEOUT", 0.2)
    with Client(behind_proxy.port, greeted=False) as client:
        assert client.at_end()


@pytest.mark.parametrize("header", [V1, v2() + b"\r\n"])
def test_from_anybody_else_it_is_a_bad_command(listen, recorder, header):
    recorder.known_networks["198.51.100.7"] = ACME
    with listen(proxy_protocol_networks=["10.0.0.0/8"]).client() as client:
        client.send(header)
        assert {client.reply()[:9] for _ in range(header.count(b"\r\n"))} == {"500 5.5.2"}
        client.command("EHLO x")
        assert client.command("MAIL FROM:<app@acme.example>").startswith("530")


def test_limits_count_the_client_and_not_the_proxy(listen):
    running = listen(proxy_protocol_networks=["127.0.0.0/8"], max_connections_per_address=1)

    def through_proxy(address):
        client = Client(running.port, greeted=False)
        client.send(f"PROXY TCP4 {address} 127.0.0.1 1 2\r\n".encode())
        return client, client.reply()

    first, greeting = through_proxy("198.51.100.1")
    assert greeting.startswith("220")
    assert through_proxy("198.51.100.1")[1].startswith("421")
    assert through_proxy("198.51.100.2")[1].startswith("220")
    first.close()


def test_a_second_header_is_a_bad_command(behind_proxy):
    with Client(behind_proxy.port, greeted=False) as client:
        client.send(V1)
        client.reply()
        assert client.command(b"PROXY TCP4 203.0.113.9 127.0.0.1 1 2").startswith("500")
