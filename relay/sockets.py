"""Listening sockets, and the addresses on both their ends."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address

from django.core.exceptions import ImproperlyConfigured

from relay.config import Config

BACKLOG = 1024


@dataclass(frozen=True, slots=True)
class Door:
    """A listening socket, and whether TLS begins with the first octet."""

    socket: socket.socket
    implicit_tls: bool


def open_doors(config: Config, *, shared: bool = False) -> list[Door]:
    """Bind and listen on every configured host and port; with `shared` other processes may do so as well.

    Raises ImproperlyConfigured when an address cannot be had.
    """
    doors = []
    for address, implicit_tls in _addresses(config):
        bound = _bind(address, shared=shared)
        bound.listen(BACKLOG)
        doors.append(Door(bound, implicit_tls))
    return doors


def reserve(config: Config) -> list[socket.socket]:
    """Make sure that nobody else listens on our addresses, and hold them for the processes that share them."""
    held = []
    for address, _ in _addresses(config):
        _bind(address, shared=False).close()
        held.append(_bind(address, shared=True))
    return held


def refuse_public_plaintext(config: Config) -> bool:
    """Whether plain text is spoken at all; raises ImproperlyConfigured when on a public address unasked (SMTP-3)."""
    if config.tls:
        return False
    public = sorted({sockaddr[0] for (_, sockaddr), _ in _addresses(config) if _is_public(sockaddr[0])})
    if public and not config.allow_public_plaintext:
        raise ImproperlyConfigured(
            f"SMTP_TLS_MODE=none would take passwords in clear on {', '.join(public)}. Bind a private address, or set "
            "SMTP_ALLOW_PUBLIC_PLAINTEXT=true when only a TLS-terminating load balancer can reach it."
        )
    return True


def peer_address(peer: tuple[str, int] | tuple[str, int, int, int]) -> str:
    """The client's address as text; IPv4 that came in IPv6 clothes is IPv4, and a zone is left out."""
    address = ip_address(peer[0].partition("%")[0])
    if isinstance(address, IPv6Address) and address.ipv4_mapped:
        return str(address.ipv4_mapped)
    return str(address)


_Resolved = tuple[socket.AddressFamily, tuple[str, int]]


def _addresses(config: Config) -> Iterator[tuple[_Resolved, bool]]:
    ports = [(config.port, False)] if config.port else []
    if config.serves_implicit_tls:
        ports.append((config.tls_port, True))
    for host in config.hosts:
        for port, implicit_tls in ports:
            try:
                found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
            except OSError as error:
                raise ImproperlyConfigured(f"SMTP_HOSTS: {host} cannot be resolved: {error.strerror}.") from error
            for family, _, _, _, sockaddr in dict.fromkeys(found):
                yield (family, sockaddr), implicit_tls  # type: ignore[misc]


def _bind(address: _Resolved, *, shared: bool) -> socket.socket:
    family, sockaddr = address
    bound = socket.socket(family, socket.SOCK_STREAM)
    bound.setblocking(False)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if shared:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    if family == socket.AF_INET6:
        bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    try:
        bound.bind(sockaddr)
    except OSError as error:
        bound.close()
        hint = " (another program listens there)" if error.errno == errno.EADDRINUSE else ""
        raise ImproperlyConfigured(
            f"Cannot listen on {sockaddr[0]} port {sockaddr[1]}: {error.strerror}{hint}."
        ) from error
    return bound


def _is_public(host: str) -> bool:
    address = ip_address(host.partition("%")[0])
    return address.is_unspecified or not (address.is_loopback or address.is_private or address.is_link_local)
