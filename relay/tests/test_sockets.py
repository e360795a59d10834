"""Where the listener binds, and where it refuses to (SMTP-1, SMTP-3)."""

import socket

import pytest
from django.core.exceptions import ImproperlyConfigured

from accounts.tests.ports import free_port
from relay import sockets
from relay.config import Config
from relay.tests.listening import config


def configured(**changes):
    return Config.from_settings(config(**changes))


def test_a_door_for_every_host_and_port():
    one, two = free_port(), free_port()
    doors = sockets.open_doors(configured(hosts=["127.0.0.1", "127.0.0.2"], port=one, tls_port=two))
    found = {(*door.socket.getsockname(), door.implicit_tls) for door in doors}
    assert found == {(host, port, port == two) for host in ("127.0.0.1", "127.0.0.2") for port in (one, two)}
    for door in doors:
        door.socket.close()


def test_port_0_means_no_door():
    doors = sockets.open_doors(configured(port=free_port(), tls_port=0))
    assert [door.implicit_tls for door in doors] == [False]
    doors[0].socket.close()
    with pytest.raises(ImproperlyConfigured, match="nothing to listen on"):
        configured(port=0, tls_port=0)


def test_without_tls_there_is_no_tls_door():
    doors = sockets.open_doors(configured(port=free_port(), tls_port=free_port(), tls_mode="none"))
    assert len(doors) == 1
    doors[0].socket.close()


def test_a_port_somebody_listens_on_is_told_clearly():
    taken = socket.create_server(("127.0.0.1", 0))
    with taken, pytest.raises(ImproperlyConfigured, match="another program listens there"):
        sockets.open_doors(configured(port=taken.getsockname()[1], tls_port=0))


def test_a_shared_port_of_somebody_else_is_noticed():
    taken = socket.create_server(("127.0.0.1", 0), reuse_port=True)
    with taken, pytest.raises(ImproperlyConfigured, match="another program listens there"):
        sockets.reserve(configured(port=taken.getsockname()[1], tls_port=0))


def test_processes_share_a_reserved_port():
    settings = configured(port=free_port(), tls_port=0)
    held = sockets.reserve(settings)
    doors = [sockets.open_doors(settings, shared=True)[0] for _ in range(2)]
    for each in (*held, *(door.socket for door in doors)):
        each.close()


def test_a_host_that_does_not_exist_is_told_clearly():
    with pytest.raises(ImproperlyConfigured, match=r"no\.such\.host\.invalid cannot be resolved"):
        sockets.open_doors(configured(hosts=["no.such.host.invalid"]))


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "8.8.8.8", "2a00:1450::1"])
def test_plain_text_on_a_public_address_is_refused_unless_asked_for(host):
    with pytest.raises(ImproperlyConfigured, match="SMTP_ALLOW_PUBLIC_PLAINTEXT"):
        sockets.refuse_public_plaintext(configured(hosts=["127.0.0.1", host], tls_mode="none"))
    assert sockets.refuse_public_plaintext(configured(hosts=[host], tls_mode="none", allow_public_plaintext=True))
    assert not sockets.refuse_public_plaintext(configured(hosts=[host]))


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "10.1.2.3", "192.168.0.9", "fd00::1"])
def test_plain_text_on_loopback_and_private_addresses_is_taken(host):
    assert sockets.refuse_public_plaintext(configured(hosts=[host], tls_mode="none"))


@pytest.mark.parametrize(
    ("peer", "address"),
    [
        (("192.0.2.1", 1), "192.0.2.1"),
        (("::ffff:192.0.2.1", 1, 0, 0), "192.0.2.1"),
        (("fe80::1%eth0", 1, 0, 2), "fe80::1"),
        (("2001:DB8::1", 1, 0, 0), "2001:db8::1"),
    ],
)
def test_a_client_has_one_address(peer, address):
    assert sockets.peer_address(peer) == address
