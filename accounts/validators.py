"""Checks of the lists that rows keep as JSON; each raises ValidationError naming every wrong entry once."""

import ipaddress
import re
from typing import Any

from django.core.exceptions import ValidationError

_LABEL = re.compile(r"(?!-)[a-z0-9_\-\u00a1-\ud7ff\uf900-\uffef]{1,63}(?<!-)\Z", re.IGNORECASE)
SCOPES = frozenset({"send", "messages:read", "logs:read", "suppressions", "webhooks"})


def _strings(value: Any) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(entry, str) for entry in value):
        raise ValidationError("Give a list of strings.", code="not_a_list")
    return value


def _refuse(wrong: list[str], what: str, code: str) -> None:
    if wrong:
        raise ValidationError([ValidationError(f"{entry!r} is not {what}", code=code) for entry in wrong])


def _unique(entries: list[str]) -> list[str]:
    return list(dict.fromkeys(entries))


def _is_network(entry: str) -> bool:
    try:
        ipaddress.ip_network(entry)
    except ValueError:
        return False
    return True


def _is_pattern(entry: str) -> bool:
    domain = entry.removeprefix("*.")
    return len(domain) <= 253 and all(_LABEL.match(label) for label in domain.split("."))


def networks(value: Any) -> None:
    """A list of IPv4 or IPv6 networks in CIDR form, or single addresses."""
    wrong = [entry for entry in _unique(_strings(value)) if not _is_network(entry)]
    _refuse(wrong, "a network such as 192.0.2.0/24 (no bits set beyond the prefix) or an address", "bad_network")


def sender_patterns(value: Any) -> None:
    """A list of domains, each exact (`example.com`) or everything below one (`*.example.com`)."""
    _refuse(
        [entry for entry in _unique(_strings(value)) if not _is_pattern(entry)], "a domain or *.domain", "bad_domain"
    )


def scopes(value: Any) -> None:
    """A list of known API key scopes."""
    wrong = [entry for entry in _unique(_strings(value)) if entry not in SCOPES]
    _refuse(wrong, f"a scope; known: {', '.join(sorted(SCOPES))}", "bad_scope")
