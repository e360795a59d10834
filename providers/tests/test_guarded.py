"""Requests to addresses that tenants choose go into the Internet only, whatever a name leads to. EVT-3."""

import socket
import ssl
import threading
import time
from ipaddress import ip_address

import pytest
import trustme
import urllib3
from urllib3.exceptions import ConnectTimeoutError, HTTPError, NewConnectionError

from providers import destinations, guarded

LOOPBACK, PUBLIC = "127.0.0.1", "93.184.216.34"


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0",
        "0.1.2.3",
        "10.0.0.1",
        "100.64.0.1",
        "100.100.100.200",
        "127.0.0.1",
        "127.255.255.254",
        "168.63.129.16",
        "169.254.169.254",
        "172.16.0.1",
        "172.31.255.255",
        "192.0.0.192",
        "192.0.2.1",
        "192.168.1.1",
        "198.18.0.1",
        "198.51.100.1",
        "203.0.113.1",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::127.0.0.1",
        "::ffff:127.0.0.1",
        "::ffff:169.254.169.254",
        "64:ff9b::127.0.0.1",
        "64:ff9b::10.0.0.1",
        "64:ff9b:1::1",
        "100::1",
        "2001::1",
        "2001:db8::1",
        "2002:7f00:1::1",
        "2002:a00:1::1",
        "fc00::1",
        "fd00:ec2::254",
        "fe80::1",
        "fe80::1%eth0",
        "fec0::1",
        "ff02::1",
    ],
)
def test_this_is_nobodys_address_on_the_internet(address):
    assert not destinations.is_public(ip_address(address))


@pytest.mark.parametrize(
    "address",
    ["93.184.216.34", "8.8.8.8", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::8.8.8.8"],
)
def test_this_is_a_public_address(address):
    assert destinations.is_public(ip_address(address))


@pytest.fixture
def server():
    """A server on this machine; the addresses of those who connected."""
    connected = []

    def serve(listener):
        while True:
            try:
                connection, peer = listener.accept()
            except OSError:
                return
            connected.append(peer)
            with connection:
                connection.recv(65536)
                connection.sendall(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")

    with socket.create_server((LOOPBACK, 0)) as listener:
        thread = threading.Thread(target=serve, args=[listener], daemon=True)
        thread.start()
        connected_port = listener.getsockname()[1]
        yield connected_port, connected
        listener.shutdown(socket.SHUT_RDWR)
    thread.join(5)


@pytest.fixture
def names(monkeypatch):
    """What each further look-up of any name gives: a list of addresses. After the last there is no such name."""
    answers = []

    def look_up(_host, port, *_args, **_kwargs):
        if not answers:
            raise socket.gaierror(socket.EAI_NONAME, "no such name")
        found = answers.pop(0)
        families = [socket.AF_INET6 if ":" in address else socket.AF_INET for address in found]
        return [
            (family, socket.SOCK_STREAM, 6, "", (address, port))
            for family, address in zip(families, found, strict=True)
        ]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    return answers


def ask(host, port, *, private=False, seconds=2.0):
    timeout = urllib3.Timeout(connect=seconds, read=seconds)
    return guarded.pools(private=private).request("POST", f"http://{host}:{port}/", timeout=timeout, retries=False)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "0.0.0.0", "[::ffff:127.0.0.1]", "127.1"])
def test_this_machine_is_not_reached_by_any_of_its_names(host, server):
    port, connected = server
    with pytest.raises(guarded.PrivateAddress):
        ask(host, port)
    assert connected == []


def test_a_public_name_that_leads_to_a_private_address_is_refused(server, names):
    port, connected = server
    names += [[LOOPBACK]]
    with pytest.raises(guarded.PrivateAddress):
        ask("hooks.acme.example", port)
    assert connected == []


def test_of_several_addresses_the_private_ones_are_left_out(server, names):
    port, connected = server
    names += [[LOOPBACK, "10.0.0.1", "192.0.2.1", "::1"]]
    with pytest.raises(guarded.PrivateAddress):
        ask("hooks.acme.example", port)
    assert connected == []


def test_the_address_connected_to_is_the_one_that_was_looked_at(server, names):
    """A name that leads elsewhere with the next look-up finds that there is none."""
    port, connected = server
    names += [[LOOPBACK]]
    assert ask("hooks.acme.example", port, private=True).status == 204
    assert len(connected) == 1
    assert names == []


def test_a_name_that_leads_elsewhere_with_the_next_connection_is_looked_at_again(server, names):
    port, connected = server
    names += [[PUBLIC], [LOOPBACK]]
    pools = guarded.pools(private=False)
    for expected in (HTTPError, guarded.PrivateAddress):
        with pytest.raises(expected):
            pools.request("POST", f"http://hooks.acme.example:{port}/", timeout=0.2, retries=False)
    assert connected == []


def test_where_one_address_is_dead_the_next_is_tried(server, names):
    port, connected = server
    names += [["127.0.0.9", LOOPBACK]]  # nobody listens on the first
    assert ask("hooks.acme.example", port, private=True).status == 204
    assert len(connected) == 1


def test_addresses_that_do_not_answer_take_no_longer_than_one(names):
    with socket.socket() as deaf:
        deaf.bind((LOOPBACK, 0))
        deaf.listen(0)
        port = deaf.getsockname()[1]
        with socket.socket() as first, socket.socket() as second:
            first.connect((LOOPBACK, port))
            second.setblocking(False)
            second.connect_ex((LOOPBACK, port))  # its queue is full now
            names += [[LOOPBACK] * 20]
            began = time.monotonic()
            with pytest.raises(ConnectTimeoutError):
                ask("hooks.acme.example", port, private=True, seconds=1.0)
            assert time.monotonic() - began < 3


def test_a_name_nobody_knows_is_no_connection(names):
    with pytest.raises(NewConnectionError, match="not known"):
        ask("hooks.acme.example", 80)


def test_the_certificate_is_that_of_the_name_not_of_the_address(names):
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("other.example").configure_cert(context)

    def answer(listener):
        connection, _ = listener.accept()
        try:
            context.wrap_socket(connection, server_side=True)
        except OSError:
            connection.close()

    with socket.create_server((LOOPBACK, 0)) as listener:
        thread = threading.Thread(target=answer, args=[listener])
        thread.start()
        names += [[LOOPBACK]]
        with pytest.raises(urllib3.exceptions.SSLError):
            guarded.pools(private=True).request(
                "POST", f"https://hooks.acme.example:{listener.getsockname()[1]}/", timeout=2, retries=False
            )
        thread.join(5)


def test_a_request_that_is_cut_ends_at_once():
    cut, failed = guarded.Cut(), []

    def run(port):
        guarded.cut_by(cut)
        try:
            ask(LOOPBACK, port, private=True, seconds=30)
        except HTTPError as error:
            failed.append(error)

    with socket.create_server((LOOPBACK, 0)) as listener:
        thread = threading.Thread(target=run, args=[listener.getsockname()[1]])
        thread.start()
        connection, _ = listener.accept()
        with connection:
            connection.recv(100)
            cut()
            thread.join(5)
    assert len(failed) == 1
