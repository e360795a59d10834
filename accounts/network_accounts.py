"""Accounts that are known by their network alone: printers and legacy systems without a password (SMTP-13)."""

from __future__ import annotations

import time
from threading import Lock

import structlog

from accounts import changes, networks
from accounts.identity import Identity, identity_of
from accounts.models import Account, Tenant

log = structlog.get_logger(__name__)

KEPT = 2.0
"""Seconds for which answers are remembered in a process where no change is heard of; see `changes`."""


class _Known:
    """The accounts as last read, and the answers given since."""

    def __init__(self) -> None:
        self.lock = Lock()
        self.forget()

    def forget(self) -> None:
        self.read_at = float("-inf")
        self.mark = 0
        self.accounts: tuple[Account, ...] = ()
        self.answers: dict[str, Identity | None] = {}

    def refresh(self) -> None:
        fresh = time.monotonic() - self.read_at < KEPT
        if fresh and not changes.since(self.mark, "account", "tenant"):
            return
        mark = changes.mark()
        active = Account.objects.filter(
            network_authenticated=True, status=Account.Status.ACTIVE, tenant__status=Tenant.Status.ACTIVE
        )
        self.accounts = tuple(active.select_related("tenant").order_by("id"))
        self.answers = {}
        self.read_at, self.mark = time.monotonic(), mark


_known = _Known()


def identify_by_network(client_ip: str) -> Identity | None:
    """The account that is authenticated by this client address alone, or None (SMTP-13).

    Of several accounts of one tenant the one with the most specific network is meant, then the oldest. When accounts
    of several tenants claim the address nobody is: mail of one tenant must never come in as another's.
    """
    with _known.lock:
        _known.refresh()
        if client_ip not in _known.answers:
            _known.answers[client_ip] = _identify(client_ip, _known.accounts)
        return _known.answers[client_ip]


def _identify(client_ip: str, accounts: tuple[Account, ...]) -> Identity | None:
    client = networks.address(client_ip)
    if client is None:
        return None
    found: list[tuple[int, Account]] = []
    for account in accounts:
        length = networks.longest_match(client, account.client_networks)
        if length is not None and networks.allowed(client, account.tenant.client_networks):
            found.append((length, account))
    if len({account.tenant_id for _, account in found}) > 1:
        usernames = sorted(account.username for _, account in found)
        log.warning("several tenants claim a client address", client_ip=client_ip, accounts=usernames)
        return None
    return identity_of(max(found, key=lambda match: match[0])[1]) if found else None


def forget_network_accounts() -> None:
    """Drop what this process remembers; the next question is answered from the database."""
    with _known.lock:
        _known.forget()
