"""Issue and verify every secret: SMTP passwords and API keys both come here (SMTP-4, SMTP-5, SEC-3)."""

from __future__ import annotations

import uuid
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a client has shown to be: one account of one tenant, and what it may put in MAIL FROM and From."""

    account_id: uuid.UUID
    tenant_id: uuid.UUID
    username: str
    allowed_senders: tuple[str, ...]
    may_send_bounces: bool


class AuthenticationFailed(Exception):
    """Not let in. `code` says why, for the log only: the client is never told which it was."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


def verify(username: str, password: str, client_ip: str | None) -> Identity:
    """The account these credentials belong to; blocks on database and hashing, so call it from a thread.

    Raises AuthenticationFailed with code `unknown_account`, `wrong_password`, `account_suspended`,
    `tenant_suspended` or `network_not_allowed`, after the same time whichever it was.
    """
    raise NotImplementedError


def identify_by_network(client_ip: str) -> Identity | None:
    """The account that is authenticated by this client address alone, or None (SMTP-13)."""
    raise NotImplementedError


def sender_allowed(identity: Identity, address: str) -> bool:
    """Whether the account may send as `address` (`local@domain`); "" is the empty envelope sender (SMTP-6)."""
    raise NotImplementedError
