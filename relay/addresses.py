"""Envelope addresses by the grammar of RFC 5321 §4.1.2, internationalised by RFC 6531 §3.3."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import AddressValueError, IPv4Address, IPv6Address

import idna

MAX_LOCAL_PART, MAX_DOMAIN, MAX_ADDRESS = 64, 255, 254  # octets; RFC 5321 §4.5.3.1 and erratum 1690 of RFC 3696

_ATEXT = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~\u0080-\U0010ffff-]"
_DOT_STRING = rf"{_ATEXT}+(?:\.{_ATEXT}+)*"
_QUOTED = r'"(?:[ !#-\[\]-~\u0080-\U0010ffff]|\\[ -~])*"'
_DOMAIN = r"[A-Za-z0-9\u0080-\U0010ffff.-]+|\[[A-Za-z0-9:.]+\]"
_MAILBOX = re.compile(rf"(?P<local>{_DOT_STRING}|{_QUOTED})@(?P<domain>{_DOMAIN})\Z")
_LABEL = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\Z")
_SOURCE_ROUTE = re.compile(r"@[A-Za-z0-9.\u0080-\U0010ffff-]+(?:,@[A-Za-z0-9.\u0080-\U0010ffff-]+)*:")
_PATH = re.compile(r'<(?P<path>(?:[^<>"\\]|"(?:[^"\\]|\\.)*")*)>(?: +(?P<rest>.*))?\Z')


class MalformedAddress(ValueError):
    """Not an address by the grammar."""


@dataclass(frozen=True, slots=True)
class Path:
    """What stands between the angle brackets (source route left out), and the parameters after them."""

    address: str
    parameters: str


def split_path(text: str) -> Path:
    """Take `<path> parameters` apart. Raises MalformedAddress; the address itself is not looked at."""
    match = _PATH.match(text)
    if match is None:
        raise MalformedAddress
    path = match["path"]
    if path.startswith("@"):
        route = _SOURCE_ROUTE.match(path)
        if route is None:
            raise MalformedAddress
        path = path[route.end() :]
        if not path:
            raise MalformedAddress
    return Path(path, (match["rest"] or "").strip(" "))


def check_mailbox(address: str) -> None:
    """Raise MalformedAddress unless `address` is a mailbox: `local@domain`, `"quoted"@domain` or `local@[literal]`."""
    match = _MAILBOX.match(address)
    if match is None:
        raise MalformedAddress
    if not address.isascii() and not address.isprintable():  # control, format and line-separating characters
        raise MalformedAddress
    local, domain = match["local"], match["domain"]
    if len(local.encode()) > MAX_LOCAL_PART or len(domain) > MAX_DOMAIN or len(address.encode()) > MAX_ADDRESS:
        raise MalformedAddress
    if domain.startswith("["):
        _check_literal(domain[1:-1])
    else:
        _check_domain(domain)


@lru_cache(maxsize=4096)  # mail goes to the same domains again and again
def _check_domain(domain: str) -> None:
    if not domain.isascii():
        try:
            domain = idna.encode(domain, uts46=True).decode("ascii")
        except (idna.IDNAError, UnicodeError) as error:
            raise MalformedAddress from error
    if len(domain) > MAX_DOMAIN or not all(_LABEL.match(label) for label in domain.split(".")):
        raise MalformedAddress


def _check_literal(literal: str) -> None:
    try:
        if literal[:5].lower() == "ipv6:":
            IPv6Address(literal[5:])
        else:
            IPv4Address(literal)
    except AddressValueError as error:
        raise MalformedAddress from error
