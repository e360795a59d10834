"""What is known of a client and of its mail transaction, on top of aiosmtpd's own classes."""

from __future__ import annotations

import asyncio
import secrets
import ssl

from aiosmtpd.smtp import Envelope, Session

from accounts import changes, hearing
from accounts.credentials import Identity

IDENTITY_KEPT = 30.0
"""Seconds for which a connection is believed to be who it has shown to be, as long as changes are heard of (SMTP-5)."""
IDENTITY_KEPT_UNHEARD = 5.0
"""The same where they are not, and for who is known by address alone: another account may claim that address."""
NEVER = float("-inf")


class ClientSession(Session):
    """One connection. Of aiosmtpd's: `host_name` (what HELO said), `extended_smtp` and `authenticated`."""

    def __init__(self, loop: asyncio.AbstractEventLoop, client_ip: str) -> None:
        super().__init__(loop)
        self.client_ip = client_ip
        self.session_id = secrets.token_hex(8)
        self.identity: Identity | None = None
        self.network_identity: Identity | None = None
        self.identified_at = NEVER
        self.mark = 0
        self.tls_description: str | None = None
        self.messages = 0
        self.errors = 0
        self.commands = 0

    def describe_tls(self, connection: ssl.SSLObject | None) -> None:
        if connection is not None:
            cipher = connection.cipher()
            self.tls_description = f"{connection.version()} {cipher[0] if cipher else ''}".strip()

    def forget_client(self) -> None:
        """After STARTTLS nothing the client said in clear counts (RFC 3207 §4.2)."""
        self.host_name = None
        self.extended_smtp = False
        self.identity = None
        self.authenticated = None
        self.identified_at = NEVER

    def identified(self, at: float, mark: int) -> None:
        """It was asked who this is: `at` by the loop's clock, what has changed after `mark` not yet looked at."""
        self.identified_at, self.mark = at, mark

    def must_ask(self, now: float) -> bool:
        """Whether it is time to ask again who this is; costs nothing outside of this process."""
        age = now - self.identified_at
        if self.identity is None:
            return age >= IDENTITY_KEPT_UNHEARD or changes.since(self.mark, "account", "tenant")
        if age >= (IDENTITY_KEPT if hearing.hearing() else IDENTITY_KEPT_UNHEARD):
            return True
        return changes.since(self.mark, self.identity.account_id, self.identity.tenant_id)

    @property
    def known(self) -> bool:
        """Whether we know who this is, by login or by address: the long timeout applies."""
        return self.identity is not None or self.network_identity is not None

    def protocol_keyword(self, *, smtputf8: bool) -> str:
        """How the message came, for the Received field (RFC 3848, RFC 6531 §4.3)."""
        base = "UTF8SMTP" if smtputf8 else "ESMTP" if self.extended_smtp else "SMTP"
        if base == "SMTP":
            return base
        return base + ("S" if self.tls_description else "") + ("A" if self.authenticated else "")


class Transaction(Envelope):
    """One mail transaction. `mail_from` is None before MAIL; "" is the empty reverse-path."""

    def __init__(self) -> None:
        super().__init__()
        self.identity: Identity | None = None
        self.recipient_commands = 0
