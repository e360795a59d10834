"""The Received field we put in front of a message (RFC 5321 §4.4)."""

import ipaddress
import re
from datetime import datetime, timedelta
from email.utils import format_datetime
from functools import lru_cache

_LINE = 78
_NOT_IN_DOMAIN = re.compile(r"[^A-Za-z0-9.:_\[\]-]")
_NOT_IN_COMMENT = re.compile(r"[^A-Za-z0-9 ._:/+=,-]")
_NOT_IN_ATOM = re.compile(r"[^A-Za-z0-9!#$%&'*+/=?^_`{|}~.@-]")
_NOT_IN_PATH = re.compile(r"[\x00-\x20\x7f<>()\\\"]")


def received_line(
    *,
    helo: str,
    client_ip: str,
    hostname: str,
    protocol: str,
    message_id: str,
    now: datetime,
    tls_description: str | None = None,
    for_address: str | None = None,
) -> bytes:
    """One Received field, folded, ending in CRLF.

    `protocol` is a keyword of RFC 3848 or RFC 6531 (`ESMTPSA`, `UTF8SMTPSA` …). `for_address` is the recipient when
    the message has exactly one; with several it must be None, since the field would tell who got a blind copy.
    Nothing a client chooses can end the field: what does not belong becomes "?". `now` must be aware.
    """
    clauses = [
        f"Received: from {_domain(helo)}",
        f"({_address_literal(client_ip)})",
        f"by {_domain(hostname)}",
        f"with {_NOT_IN_ATOM.sub('?', protocol)[:40]}",
    ]
    if tls_description:
        clauses.append(f"({_NOT_IN_COMMENT.sub('?', tls_description)[:120]})")
    clauses.append(f"id {_NOT_IN_ATOM.sub('?', message_id)[:120]}")
    if for_address and not _NOT_IN_PATH.search(for_address):
        clauses.append(f"for <{for_address}>")
    clauses[-1] += ";"
    clauses.append(_date(now.replace(microsecond=0), now.utcoffset()))
    return _fold(clauses).encode("utf-8", "replace") + b"\r\n"


# A server says the same names and the same second again and again, and formatting them is half of this field's cost.


@lru_cache(maxsize=16)
def _date(second: datetime, _offset: timedelta | None) -> str:  # one moment is equal in every zone, its text is not
    return format_datetime(second)


@lru_cache(maxsize=1024)
def _domain(name: str) -> str:
    return _NOT_IN_DOMAIN.sub("?", name)[:255] or "unknown"


@lru_cache(maxsize=1024)
def _address_literal(client_ip: str) -> str:
    """RFC 5321 §4.1.3."""
    try:
        address = ipaddress.ip_address(client_ip)
    except ValueError:
        return "unknown"
    return f"[IPv6:{address}]" if address.version == 6 else f"[{address}]"


def _fold(clauses: list[str]) -> str:
    """Clauses on as few lines of 78 as they fit; a clause is never broken."""
    lines = [clauses[0]]
    for clause in clauses[1:]:
        if len(lines[-1]) + 1 + len(clause) <= _LINE:
            lines[-1] += f" {clause}"
        else:
            lines.append(f"\t{clause}")
    return "\r\n".join(lines)
