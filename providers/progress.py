"""What a send that takes several requests must remember, so that a repetition goes on where it stopped (PRV-6)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol


class Progress(Protocol):
    """Kept with the attempt, encrypted: a repetition with the same idempotency key finds it again.

    `state` is what the last `save` of this attempt, or of the one it goes on with, was given; empty when there was
    none.
    """

    state: Mapping[str, Any]

    def save(self, state: Mapping[str, Any]) -> None:
        """Keep `state` (JSON) in place of what was kept; it survives this process when the call returns.

        Raises TemporaryFailure (`not_recorded`) when it cannot be kept; the send must stop then.
        """


class Unkept:
    """Progress of a send nobody will repeat: a test message."""

    def __init__(self, state: Mapping[str, Any] | None = None) -> None:
        self.state: Mapping[str, Any] = dict(state or {})

    def save(self, state: Mapping[str, Any]) -> None:
        self.state = dict(state)
