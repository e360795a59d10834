"""Whether any provider an account may use takes a message of a size, asked before the message is taken (PRV-8)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from accounts.models import Account
from delivery import routing
from delivery.exceptions import Rejected
from providers import conditions, registry
from providers.exceptions import Misconfigured
from providers.models import Provider, RoutingRule

ALWAYS_TAKEN = 1024 * 1024
"""Octets of raw message that every type takes, so that nobody asks about smaller ones: the hot path pays nothing."""


def refusal(account: Account, size: int) -> Rejected | None:
    """Why no route of the account (whose tenant must be loaded) can take `size` octets; None when one may.

    A route is a rule that may match such a message, or the default providers where all rules may pass it by. It takes
    any size when it holds, rejects or discards, has no provider that is enabled (the message is then held), or
    has one whose limit nobody knows before asking.
    """
    if size <= ALWAYS_TAKEN:
        return None
    most = 0
    for providers in _routes(account, size):
        largest = _largest(providers)
        if largest is None or largest >= size:
            return None
        most = max(most, largest)
    text = f"The message has {size:,} octets; the providers this account can use take {most:,} at most"
    return Rejected(text, code="too_large_for_providers", status="5.3.4")


def _routes(account: Account, size: int) -> Iterator[list[Provider]]:
    """The providers of every route that a message of this size may take; an empty list takes any."""
    table = routing.table_for(account.tenant)
    for rule in table.rules:
        match = conditions.known(rule.conditions, account.username, size)
        if match is False:
            continue
        sends = rule.action == RoutingRule.Action.SEND
        yield [target.provider for target in rule.targets.all() if target.provider.enabled] if sends else []
        if match:
            return  # no message of this size gets past it
    yield list(table.defaults)


def _largest(providers: Iterable[Provider]) -> int | None:
    limits = [_limit(provider.type) for provider in providers]
    return None if None in limits else max((limit for limit in limits if limit is not None), default=None)


def _limit(type_: str) -> int | None:
    try:
        return registry.backend_class(type_).largest()
    except Misconfigured:
        return None
