"""What an operator may do with messages: hold, release, retry now, cancel (DEL-9).

The admin, the commands and the API call these and never set a status themselves.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from dataclasses import dataclass

from accounts.models import User


@dataclass(frozen=True, slots=True)
class Outcome:
    """How many messages an action changed, and those it did not, with the reason."""

    changed: int
    refused: dict[uuid.UUID, str]


def hold(ids: Iterable[uuid.UUID], *, actor: User | None, reason: str = "") -> Outcome:
    """Park waiting messages (queued, retrying, scheduled) until somebody releases them."""
    raise NotImplementedError


def release(ids: Iterable[uuid.UUID], *, actor: User | None) -> Outcome:
    """Queue held messages and `enqueue_failed` ones now."""
    raise NotImplementedError


def retry(ids: Iterable[uuid.UUID], *, actor: User | None) -> Outcome:
    """Try now: retrying, failed, partial and dead-lettered messages, with the retry counter reset."""
    raise NotImplementedError


def cancel(ids: Iterable[uuid.UUID], *, actor: User | None) -> Outcome:
    """End messages that wait; recipients already served stay served."""
    raise NotImplementedError
