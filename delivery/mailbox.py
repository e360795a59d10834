"""Envelope addresses by the grammar of RFC 5321 §4.1.2, internationalised by RFC 6531 §3.3."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from ipaddress import AddressValueError, IPv4Address, IPv6Address

import idna

from providers.base import Mailbox

MAX_LOCAL_PART, MAX_DOMAIN, MAX_ADDRESS = 64, 255, 254  # octets; RFC 5321 §4.5.3.1 and erratum 1690 of RFC 3696
MAX_NAME = 320  # characters of a display name we are given

_ATEXT = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~\u0080-\U0010ffff-]"
_DOT_STRING = rf"{_ATEXT}+(?:\.{_ATEXT}+)*"
_QUOTED = r'"(?:[ !#-\[\]-~\u0080-\U0010ffff]|\\[ -~])*"'
_DOMAIN = r"[A-Za-z0-9\u0080-\U0010ffff.-]+|\[[A-Za-z0-9:.]+\]"
_MAILBOX = re.compile(rf"(?P<local>{_DOT_STRING}|{_QUOTED})@(?P<domain>{_DOMAIN})\Z")
_LABEL = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\Z")


class MalformedAddress(ValueError):
    """Not an address by the grammar."""


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


_NAMED = re.compile(r"(?P<name>[^<>]*)<(?P<address>[^<>]*)>\s*\Z")
_QUOTED_NAME = re.compile(r'"(?P<inner>(?:[^"\\]|\\.)*)"\Z')


def read(value: object) -> Mailbox:
    """What stands for one address in JSON: `a@example.com`, `Ann <a@example.com>`, or an object with `address` and
    perhaps `name`. Raises MalformedAddress.

    Unlike what a mail's header may hold, it is never several addresses, and what cannot be told is refused.
    """
    name: object = ""
    if isinstance(value, Mapping):
        given = dict(value)
        value, name = given.pop("address", None), given.pop("name", None) or ""
        if given:
            raise MalformedAddress
    elif isinstance(value, str) and (match := _NAMED.match(value.strip())):
        value, name = match["address"], match["name"].strip()
        if quoted := _QUOTED_NAME.match(name):
            name = re.sub(r"\\(.)", r"\1", quoted["inner"])
        elif "," in name or '"' in name:
            raise MalformedAddress
    if not isinstance(value, str) or not isinstance(name, str) or len(name) > MAX_NAME or not name.isprintable():
        raise MalformedAddress
    address = value.strip(" ")
    check_mailbox(address)
    return Mailbox(name, address)
