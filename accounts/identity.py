"""Who a client has shown to be, and what it may send as."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field

from accounts import domains, networks
from accounts.models import Account, Tenant


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a client has shown to be: one account of one tenant, and what it may put in MAIL FROM and From.

    `proof` is of the password it signed in with, empty where it was known otherwise; nothing outside of this process.
    """

    account_id: uuid.UUID
    tenant_id: uuid.UUID
    username: str
    allowed_senders: tuple[str, ...]
    may_send_bounces: bool
    proof: str = field(default="", repr=False, compare=False)


class AuthenticationFailed(Exception):
    """Not let in. `code` says why, for the log only: the client is never told which it was."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


def identity_of(account: Account) -> Identity:
    return Identity(
        account.pk, account.tenant_id, account.username, tuple(account.allowed_senders), account.may_send_bounces
    )


def refusal(account: Account, client_ip: str | None) -> str:
    """Why this account may not be used now, or from there; "" when it may."""
    if account.status != Account.Status.ACTIVE:
        return "account_suspended"
    if account.tenant.status != Tenant.Status.ACTIVE:
        return "tenant_suspended"
    client = networks.address(client_ip)
    if not networks.allowed(client, account.client_networks):
        return "network_not_allowed"
    if not networks.allowed(client, account.tenant.client_networks):
        return "network_not_allowed"
    return ""


def sender_allowed(identity: Identity, address: str) -> bool:
    """Whether the account may send as `address` (`local@domain`); "" is the empty envelope sender (SMTP-6).

    No listed domain at all means no address at all.
    """
    if not address:
        return identity.may_send_bounces
    local, _, domain = address.rpartition("@")
    return bool(local) and any(domains.covers(pattern, domain) for pattern in identity.allowed_senders)
