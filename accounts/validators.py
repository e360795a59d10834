"""Checks of the lists that rows keep as JSON; each raises ValidationError naming the wrong entry."""

import ipaddress
import re
from typing import Any

from django.core.exceptions import ValidationError

_LABEL = re.compile(r"(?!-)[a-z0-9_\-\u00a1-\uffff]{1,63}(?<!-)\Z", re.IGNORECASE)
SCOPES = frozenset({"send", "messages:read", "logs:read", "suppressions", "webhooks"})


def _strings(value: Any) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(entry, str) for entry in value):
        raise ValidationError("Give a list of strings.", code="not_a_list")
    return value


def networks(value: Any) -> None:
    """A list of IPv4 or IPv6 networks in CIDR form, or single addresses."""
    for entry in _strings(value):
        try:
            ipaddress.ip_network(entry)
        except ValueError as error:
            raise ValidationError(f"{entry!r} is not a network: {error}", code="bad_network") from error


def sender_patterns(value: Any) -> None:
    """A list of domains, each exact (`example.com`) or everything below one (`*.example.com`)."""
    for entry in _strings(value):
        domain = entry.removeprefix("*.")
        if len(domain) > 253 or not all(_LABEL.match(label) for label in domain.split(".")):
            raise ValidationError(f"{entry!r} is not a domain or *.domain", code="bad_domain")


def scopes(value: Any) -> None:
    """A list of known API key scopes."""
    for entry in _strings(value):
        if entry not in SCOPES:
            raise ValidationError(f"{entry!r} is not a scope; known: {', '.join(sorted(SCOPES))}", code="bad_scope")
