"""Where a provider may be: host names, addresses and base URLs as people enter them.

What is private is told by literal addresses and by names that can only be local. What a public name resolves to is
not looked at here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any
from urllib.parse import urlsplit

from accounts.domains import canonical

_NUMBER = re.compile(r"(?:[0-9]+|0x[0-9a-f]*)\Z", re.IGNORECASE)
_NAT64 = ip_network("64:ff9b::/96")
"""IPv4 as a network without it spells it (RFC 6052); the address meant is in the last four octets."""
_UNICAST = ip_network("2000::/3")
"""All that is given out of IPv6 today (https://www.iana.org/assignments/ipv6-address-space/)."""
_NOBODYS = tuple(
    map(
        ip_network,
        (
            "192.0.0.0/24",  # of protocols (RFC 6890), and where one cloud keeps its metadata
            "168.63.129.16/32",  # what every machine in Azure asks for its settings
            "2001::/32",  # Teredo, which hides an IPv4 address (RFC 4380)
            "2002::/16",  # 6to4, as well (RFC 3056)
        ),
    )
)
_LOCAL_NAMES = (".localhost", ".local", ".internal", ".home.arpa", ".localdomain")


def host(text: str) -> str:
    """The host as the DNS sees it: an IP address, or a name with every label as A-label (RFC 5890).

    Raises ValueError for anything else, such as a name with a port.
    """
    try:
        return str(ip_address(text))
    except ValueError:
        pass
    try:
        name = canonical(text.removesuffix("."))
    except ValueError:
        raise ValueError("must be a host name or an IP address, without a port") from None
    if _NUMBER.match(name.rpartition(".")[2]):
        return _dotted(name)
    return name


def _dotted(text: str) -> str:
    """Resolvers take many spellings of an IPv4 address (127.1, 0x7f000001); we take one."""
    try:
        return str(ip_address(text))
    except ValueError:
        raise ValueError("must be a host name or an IP address: write all four numbers of an IPv4 address") from None


def ehlo_name(text: str) -> str:
    """What may follow EHLO (RFC 5321 §4.1.4): a domain, or an address literal such as [192.0.2.1]."""
    wrong = ValueError("must be a host name, or an address in brackets such as [192.0.2.1]")
    try:
        if text.startswith("[") and text.endswith("]"):
            literal = text[1:-1]
            address = ip_address(literal.removeprefix("IPv6:"))
            if isinstance(address, IPv6Address) != literal.startswith("IPv6:"):
                raise wrong
            return text
        return canonical(text)
    except ValueError:
        raise wrong from None


def base_url(text: str) -> str:
    """The base URL of a service, without a slash at its end. Raises ValueError for what is none."""
    url = text.strip()
    try:
        parts = urlsplit(url)
        known = parts.scheme in {"http", "https"} and parts.port != 0
        host(parts.hostname or "")
    except ValueError:
        known = False
    if not known or re.search(r"[\s\\@?#]", url):
        raise ValueError("must look like https://api.example.com")
    return url.rstrip("/")


def api_url(text: str, root: str) -> str:
    """A base URL with the path at which the API begins, added where people have left it out."""
    url = text.strip().rstrip("/")
    return url if not root or url.endswith(f"/{root}") else f"{url}/{root}"


def is_loopback(text: str) -> bool:
    """Whether a host, as `host` gives it, is this machine."""
    try:
        return ip_address(text).is_loopback
    except ValueError:
        return text == "localhost" or text.endswith(".localhost")


def is_private(text: str) -> bool:
    """Whether a host is on a private network for sure: a literal address that is not public, or a local name."""
    try:
        name = host(text)
    except ValueError:
        return False  # it leads nowhere, and is refused for that
    try:
        address = ip_address(name)
    except ValueError:
        return "." not in name or name.endswith(_LOCAL_NAMES)
    return not is_public(address)


def is_public(address: IPv4Address | IPv6Address) -> bool:
    """Whether an address is somebody's on the Internet: not of this machine, its link, a private network or a cloud's
    own services, however it is spelt."""
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        elif address in _NAT64:
            address = IPv4Address(int(address) & 0xFFFF_FFFF)
        elif address not in _UNICAST:
            return False
    if any(address.version == network.version and address in network for network in _NOBODYS):
        return False
    return address.is_global and not address.is_multicast


def private_settings(config: Mapping[str, Any]) -> list[str]:
    """The names of those settings that lead to a private network."""
    hosts = {"host": str(config.get("host") or "")}
    hosts |= {name: _host_of(str(config.get(name) or "")) for name in ("base_url", "login_url")}
    return [name for name, text in hosts.items() if text and is_private(text)]


def _host_of(url: str) -> str:
    try:
        return urlsplit(url.strip()).hostname or ""
    except ValueError:
        return ""
