"""Calls that wait in memory for their moment, a few seconds at most (DEL-2), and the permissions for them (PRV-9)."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from delivery import provider_health
from delivery.attempts import pass_over
from delivery.jobs import Job, Work
from providers import health, limits
from providers.base import Backend, Slot
from providers.exceptions import Limited
from providers.limits import Permit, Wait
from providers.models import Provider

PATIENCE = 2.0
"""Seconds a call waits in memory for another to end, before its message is put off."""
LONG = 300.0
"""Seconds a message waits for its provider's day, or for a service that wants to be left alone, though there is
another; for its turn in the provider's pace it waits however long it takes."""
SOON = 0.005
"""Seconds before its time at which a call may be set down."""


@dataclass(eq=False, slots=True)
class Turn:
    """A job's next call, before it is begun. `cost` is how many recipients it counts for; `split` says whether the job
    has been cut to what one call takes already."""

    work: Work
    job: Job
    provider: Provider
    backend: Backend
    probe: str
    cost: int
    split: bool = False
    permit: Permit | None = None
    since: float = field(default_factory=time.monotonic)
    due: float = 0.0
    waits_for: tuple[object, ...] = ()


def limited(turn: Turn, wait: Wait) -> bool:
    """The provider's limits do not let the call begin; returns whether the job goes on to its next provider."""
    health.give_back(turn.provider, turn.probe)
    job, failure = turn.job, Limited(wait.text, code="limited")
    job.failures.append(failure)
    job.failed_at = turn.provider.name
    job.come_back(wait.seconds)
    pass_over(job, failure)
    if job.repeats(turn.provider) or not job.candidates:
        return False
    return wait.seconds > LONG and wait.reason in {"day", "blocked"}


class Line:
    """The turns of one delivery that wait, and the permissions it has got and not used yet."""

    def __init__(self) -> None:
        self.turns: list[Turn] = []
        self._unused: set[Permit] = set()
        self._full: set[tuple[object, ...]] = set()

    def ask(self, turn: Turn, slots: Sequence[Slot]) -> Permit | Wait | None:
        """Permission to begin now, or how long the message has to stay away; None when the turn waits in this line."""
        if turn.permit is None:
            patience = max(0.0, PATIENCE - (time.monotonic() - turn.since))
            if patience and turn.waits_for in self._full:
                return self._hold(turn, 0.1)  # behind another, which has just been told to wait
            answer = limits.ask(
                turn.provider,
                turn.backend,
                tenant_id=turn.job.message.tenant_id,
                cost=turn.cost,
                slots=slots,
                patience=patience,
            )
            if isinstance(answer, Wait):
                if not answer.held:
                    return answer
                turn.waits_for = (turn.provider.pk, answer.reason, *slots)
                self._full.add(turn.waits_for)
                return self._hold(turn, answer.seconds)
            turn.permit = answer
            self._unused.add(answer)
        left = turn.permit.start - time.monotonic()
        return turn.permit if left < SOON else self._hold(turn, left)

    def _hold(self, turn: Turn, seconds: float) -> Permit | Wait | None:
        turn.due = time.monotonic() + seconds
        self.turns.append(turn)
        return None

    def wake(self, provider: Provider) -> None:
        """A call has ended: one that waits for this provider may have its place."""
        for turn in self.turns:
            if turn.waits_for and turn.waits_for[0] == provider.pk:
                turn.due = 0.0

    def next_in(self) -> float:
        """Seconds until the first turn of the line is due."""
        return max(0.0, min(turn.due for turn in self.turns) - time.monotonic())

    def take_due(self) -> list[Turn]:
        """The turns whose time has come, in the order they came; they are no longer in the line."""
        self._full.clear()
        now = time.monotonic() + SOON
        due = [turn for turn in self.turns if turn.due <= now]
        self.turns = [turn for turn in self.turns if turn.due > now]
        return due

    @contextmanager
    def permit_back(self, turn: Turn) -> Iterator[None]:
        """Preparing a call: when that fails, what it was to occupy is free again."""
        try:
            yield
        except Exception:
            if turn.permit is not None:
                self.give_back([turn.permit])
                turn.permit = None
            raise

    def used(self, permits: Iterable[Permit]) -> None:
        """These calls are on their way; who makes them gives back what they occupy."""
        self._unused.difference_update(permits)

    def give_back(self, permits: Iterable[Permit]) -> None:
        """Those calls of these that are not on their way are not made."""
        for permit in self._unused.intersection(permits):
            self._unused.discard(permit)
            limits.done(permit)

    def close(self) -> None:
        """Whatever happened: nothing stays occupied by calls that were never made."""
        for turn in self.turns:
            provider_health.give_back(turn.provider, turn.probe)
        self.give_back(list(self._unused))
