"""What a process is told when it asks for permission."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from typing import Any

REASONS = {
    "second": "Waits for its turn: the provider's calls per second are used up.",
    "minute": "Waits for its turn: the provider's calls per minute are used up.",
    "day": "Waits: the provider's recipients per day are used up.",
    "concurrency": "Waits for its turn: the provider has as many calls at once as it may.",
    "slot": "Waits for its turn: the service takes no more calls at once for this mailbox.",
    "blocked": "Waits: the service asked us to slow down.",
    "away": "Waits: the provider's limits cannot be checked now.",
}


@dataclass(eq=False, slots=True)
class Permit:
    """One call may be made, from `start` on (monotonic clock). What it occupies is in `keys` until `done`."""

    provider_id: uuid.UUID
    start: float = 0.0
    lease: str = ""
    keys: tuple[str, ...] = ()
    paced: tuple[Any, ...] = ()
    again: tuple[list[str], list[Any]] | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Wait:
    """No call now. `held`: ask again after so many seconds; otherwise the message comes back after so many, which
    are spread so that those that wait do not come back together. `reason` is a key of REASONS."""

    seconds: float
    reason: str
    held: bool = False

    @property
    def text(self) -> str:
        return REASONS[self.reason]
