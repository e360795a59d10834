"""Between SMTP and the domain: who is it, may they, take this. Knows no tables and no protocol."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import structlog
from django.conf import settings

from accounts import credentials
from accounts.credentials import Identity
from delivery import intake, refused_rows, sizes
from delivery.exceptions import NotAccepted
from delivery.refused_rows import Kept
from delivery.submission import Submission
from relay.batching import Accept, Answer, Batcher
from relay.threads import Threads

log = structlog.get_logger(__name__)

COMMIT_WITHIN = 0.6
"""The part of SMTP_ACCEPT_TIMEOUT after which nothing is committed any more; the rest is for the ring (ACC-1)."""


def _accept_in_time(submissions: Sequence[Submission]) -> list[Answer]:
    return intake.accept(submissions, within=settings.SMTP_ACCEPT_TIMEOUT * COMMIT_WITHIN)


@dataclass(frozen=True, slots=True, kw_only=True)
class Domain:
    """What the listener asks of the floors below; all but `sender_allowed` block and are called in threads."""

    accept: Accept = _accept_in_time
    withdraw: Callable[[uuid.UUID], bool] = intake.withdraw
    verify: Callable[[str, str, str | None], Identity] = credentials.verify
    verify_again: Callable[[Identity, str | None], Identity] = credentials.verify_again
    identify_by_network: Callable[[str], Identity | None] = credentials.identify_by_network
    sender_allowed: Callable[[Identity, str], bool] = credentials.sender_allowed
    size_refusal: Callable[[uuid.UUID, int], NotAccepted | None] = intake.size_refusal
    keep_refusals: Callable[[Sequence[Kept]], None] = refused_rows.write


class Handler:
    """The listener calls these methods by name in its own code: a misspelt one is an error, never lost mail."""

    def __init__(self, domain: Domain, threads: Threads, batcher: Batcher) -> None:
        self._domain = domain
        self._threads = threads
        self._batcher = batcher

    async def authenticate(self, username: str, password: str, client_ip: str) -> Identity:
        """Raises AuthenticationFailed, or Unavailable when nobody can say."""
        return await self._threads.ask(self._domain.verify, username, password, client_ip)

    async def authenticated_still(self, identity: Identity, client_ip: str) -> Identity:
        """Who a session is by now. Raises AuthenticationFailed when it would not be let in any more, Unavailable."""
        return await self._threads.ask(self._domain.verify_again, identity, client_ip)

    async def identify(self, client_ip: str) -> Identity | None:
        """The account this client address alone stands for (SMTP-13). Raises Unavailable."""
        return await self._threads.ask(self._domain.identify_by_network, client_ip)

    def sender_allowed(self, identity: Identity, address: str) -> bool:
        return self._domain.sender_allowed(identity, address)

    async def size_refusal(self, identity: Identity, size: int) -> NotAccepted | None:
        """Why no provider of the account takes a message of `size` octets (PRV-8); None when one may, and when nobody
        can say: acceptance looks again."""
        if size <= sizes.ALWAYS_TAKEN:
            return None
        try:
            return await self._threads.ask(self._domain.size_refusal, identity.account_id, size)
        except Exception:
            log.exception("size not checked", account_id=str(identity.account_id), size=size)
            return None

    async def accept(self, submission: Submission, release: Callable[[], None]) -> Answer:
        """What became of the message; `release` is called when its body is needed no more."""
        return await self._batcher.accept(submission, release)

    async def drained(self) -> None:
        """Return when no message is being accepted."""
        await self._batcher.drained()
