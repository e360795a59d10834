"""Some recipients of a message on their way through their candidates, and the calls made for them."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TypeAlias

from django.utils import timezone

from delivery.claims import Claimed
from delivery.models import DeliveryLog, Event, Message, Recipient
from providers import connections, health
from providers.base import Backend, OutboundMessage, SendResult
from providers.exceptions import (
    Misconfigured,
    PermanentFailure,
    ProviderError,
    TemporaryFailure,
    TooLarge,
    Unfinished,
    Unsupported,
)
from providers.health import Admission
from providers.limits import Permit
from providers.models import Provider

Outcome: TypeAlias = SendResult | ProviderError


@dataclass(slots=True)
class Call:
    """One call: its attempt row is committed before `backend.send(outbound)` begins.

    `probe` is not empty when the call is to show whether an unhealthy provider is back. `continues` is the earlier
    attempt whose progress this one takes over; `repeats` says that it asks again what became of one whose answer was
    lost. `back` is set when the provider's limits, or its own "too much", have
    stopped the call: the seconds after which the message may come back.
    """

    provider: Provider
    backend: Backend
    outbound: OutboundMessage
    attempt: DeliveryLog
    permit: Permit
    probe: str = ""
    continues: DeliveryLog | None = None
    repeats: bool = False
    back: float | None = None


@dataclass(slots=True)
class Job:
    """Some recipients of one message on their way through their candidates, one call after the other.

    `failures` are those of this claim, newest last; `failed_at` names the provider of the newest, "" where it was
    nobody's. `key` is the idempotency key of an earlier attempt whose answer was lost, for its provider `key_of` only;
    while it is set the outcome of that attempt stays unknown, whatever others say. `until` is when the first of the
    candidates passed over as unhealthy may be asked again, None when none was; `passed_over` says of each, by name,
    why. `waiting` is True while nothing has happened that uses up a retry (RET-6). `paced` is when the limits of a
    provider let it come back. `unfinished` are earlier attempts of the message that have kept progress.
    """

    message: Message
    recipients: list[Recipient]
    candidates: list[Provider]
    key: uuid.UUID | None = None
    key_of: uuid.UUID | None = None
    last: Call | None = None
    failures: list[ProviderError] = field(default_factory=list)
    retry_after: float | None = None
    schedule: Sequence[int] | None = None
    until: datetime | None = None
    passed_over: dict[str, Admission] = field(default_factory=dict)
    failed_at: str = ""
    paced: datetime | None = None
    waiting: bool = True
    unfinished: Sequence[DeliveryLog] = ()

    def part(self, addresses: Sequence[str]) -> Job:
        """The same job for some of its recipients."""
        wanted = set(addresses)
        return replace(
            self,
            recipients=[recipient for recipient in self.recipients if recipient.address in wanted],
            candidates=list(self.candidates),
            failures=list(self.failures),
            passed_over=dict(self.passed_over),
        )

    def come_back(self, seconds: float) -> None:
        """Limits let it go on after so many seconds; of several providers the first counts."""
        when = timezone.now() + timedelta(seconds=seconds)
        self.paced = when if self.paced is None else min(when, self.paced)

    def repeats(self, provider: Provider) -> bool:
        """Whether a call to this provider repeats the one whose answer was lost."""
        return self.key is not None and provider.pk == self.key_of

    @property
    def skipped(self) -> bool:
        """Whether a candidate was passed over as unhealthy."""
        return self.until is not None

    @property
    def outcome_unknown(self) -> bool:
        """Whether nobody knows if a provider took the message: its answer was lost, now or earlier."""
        last = self.failures[-1] if self.failures else None
        return self.key is not None or (isinstance(last, TemporaryFailure) and last.outcome_unknown)

    @property
    def asks_again_safely(self) -> bool:
        """Whether the provider that may have taken the message recognises the same key when it is asked again."""
        if self.key is not None:
            return True
        return self.last is not None and (self.last.backend.idempotent or bool(self.last.attempt.progress))


@dataclass(slots=True)
class Work:
    """One claimed message with its jobs. `hold` says why recipients without a job wait for a person, `held_by_rule` the
    same where a rule of the tenant wants it so, `problem` what
    went wrong with us before any provider was called; our own `hiccup` uses up no try. `resumable` are the attempts of
    this claim that may keep progress. `events` tell of single recipients, and are written with the message's own."""

    claimed: Claimed
    jobs: list[Job] = field(default_factory=list)
    hold: str = ""
    held_by_rule: str = ""
    problem: str = ""
    hiccup: bool = False
    resumable: list[DeliveryLog] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)

    @property
    def message(self) -> Message:
        return self.claimed.message


def next_provider(job: Job, *, hold_unknown: bool) -> tuple[Provider, Backend, str] | None:
    """The candidate for the job's next call, with the right to probe it where that call is to (to be told of, or given
    back); None when there is none in this claim.

    After an unknown outcome another provider would risk a duplicate: not where the tenant wants such mail held, nor
    where the same provider recognises the same key when it is tried again (DEL-5).
    """
    if job.failures:
        if not passes_on(job.failures[-1]) or isinstance(job.failures[-1], Unfinished):
            return None
        if job.outcome_unknown and (hold_unknown or _asks_the_same_again(job)):
            return None
    while job.candidates:
        provider = job.candidates.pop(0)
        admission = health.admit(provider)
        if not admission.allowed:
            job.passed_over[provider.name] = admission
            job.until = min(filter(None, (job.until, admission.until)), default=None)
            continue
        try:
            backend = connections.backend_for(provider)
        except Misconfigured as failure:
            health.note_misconfigured(provider, failure.text, admission.probe)
            job.failures.append(failure)
            job.failed_at = provider.name
            continue
        except Exception:
            health.give_back(provider, admission.probe)
            raise
        if job.schedule is None:
            job.schedule = provider.retry_schedule
        return provider, backend, admission.probe
    return None


def _asks_the_same_again(job: Job) -> bool:
    """Whether the answer just lost is waited for. When it was lost again, others are asked as well."""
    failure, last = job.failures[-1], job.last
    lost = isinstance(failure, TemporaryFailure) and failure.outcome_unknown
    return lost and last is not None and not last.repeats and (last.backend.idempotent or bool(last.attempt.progress))


def passes_on(failure: ProviderError) -> bool:
    """Whether another provider may succeed where this one did not (RET-2): not when it is the message's own fault."""
    return not isinstance(failure, PermanentFailure) or isinstance(failure, TooLarge | Unsupported)
