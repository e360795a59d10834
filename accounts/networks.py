"""Client addresses and the networks they may come from (SMTP-13). An IPv4-mapped IPv6 address counts as IPv4."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
_MAPPED = IPv6Network("::ffff:0:0/96")
OUTSIDE = (
    "Your own address, {}, is in none of these networks: you would lock yourself out. Add it, or a network it is in."
)


def address(text: str | None) -> Address | None:
    """The address, or None for what is none (a client on a Unix socket, say)."""
    try:
        value = ip_address(text or "")
    except ValueError:
        return None
    return (value.ipv4_mapped or value) if isinstance(value, IPv6Address) else value


@lru_cache(maxsize=4096)
def network(text: str) -> Network | None:
    """The network, or None for what is none; host bits are let pass."""
    try:
        value = ip_network(text, strict=False)
    except ValueError:
        return None
    if isinstance(value, IPv6Network) and value.subnet_of(_MAPPED):
        return IPv4Network((int(value.network_address) & 0xFFFF_FFFF, value.prefixlen - 96))
    return value


def is_wide(text: str) -> bool:
    """Whether a network is wider than /8 (IPv4) or /32 (IPv6); False for what is no network."""
    found = network(text) if isinstance(text, str) else None
    return found is not None and found.prefixlen < (8 if found.version == 4 else 32)


def allowed(client: Address | None, networks: Iterable[str]) -> bool:
    """Whether `client` is in one of `networks`; no networks at all allow everybody, known or not."""
    listed = list(networks)
    return not listed or (client is not None and longest_match(client, listed) is not None)


def longest_match(client: Address, networks: Iterable[str]) -> int | None:
    """The prefix length of the most specific of `networks` that holds `client`; None when none does."""
    lengths = [
        parsed.prefixlen
        for parsed in map(network, networks)
        if parsed is not None and parsed.version == client.version and client in parsed
    ]
    return max(lengths, default=None)
