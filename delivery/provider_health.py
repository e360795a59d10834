"""What a delivery tells of the providers it calls, and of those it goes past (PRV-10, RET-2)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import structlog
from django.db import DatabaseError
from django.utils import timezone

from delivery.attempts import is_silence
from delivery.jobs import Call, Job, Outcome
from providers import health
from providers.base import SendResult
from providers.exceptions import Misconfigured, PermanentFailure, TemporaryFailure
from providers.models import Provider

log = structlog.get_logger(__name__)


def note(job: Job, call: Call, outcome: Outcome) -> None:
    """Tell what a call's outcome says of its provider. After a probe that failed the job waits for the next one."""
    try:
        _note(call, outcome)
    except Exception:
        # Whatever it is, what the provider has said of the message must be written down.
        log.exception("health of a provider not noted", provider=call.provider.name)
    until = health.paused_until(call.provider)
    if until is not None and call.probe and job.waiting:
        asked = timezone.now() + timedelta(seconds=job.retry_after or 0)
        job.until = min(filter(None, (job.until, max(until, asked))))


def _note(call: Call, outcome: Outcome) -> None:
    provider, probe = call.provider, call.probe
    if isinstance(outcome, Misconfigured):
        health.note_misconfigured(provider, outcome.text, probe)
    elif isinstance(outcome, SendResult | PermanentFailure):
        health.note_success(provider, probe)
    elif isinstance(outcome, TemporaryFailure) and is_silence(outcome):
        health.note_silence(
            provider,
            outcome.text,
            message_id=call.outbound.message_id,
            code=outcome.code,
            retry_after=outcome.retry_after,
            probe=probe,
        )
    elif isinstance(outcome, TemporaryFailure) and outcome.status_code is not None and not outcome.outcome_unknown:
        health.note_success(provider, probe)  # throttled, say: that is for the limits to deal with
    else:
        health.give_back(provider, probe)


@contextmanager
def returned_unless_used(provider: Provider, probe: str) -> Iterator[None]:
    """Preparing a call that is to probe: when that fails, another message may probe."""
    try:
        yield
    except Exception:
        give_back(provider, probe)
        raise


def give_back(provider: Provider, probe: str) -> None:
    """Another message may probe; never raises for the database's sake."""
    try:
        health.give_back(provider, probe)
    except DatabaseError:
        log.exception("right to probe not given back", provider=provider.name)


def tell_of_failover(job: Job, fallback: Provider) -> None:
    """A loud word when another provider is called than the one that has just failed (RET-2)."""
    if not job.failures or not job.failed_at:
        return
    log.warning(
        "failover",
        message_id=str(job.message.pk),
        tenant_id=str(job.message.tenant_id),
        provider=job.failed_at,
        error_code=job.failures[-1].code,
        reason=job.failures[-1].text,
        fallback=fallback.name,
    )


def give_back_unmade(begun: Iterable[tuple[Any, Job, Call]], made: Iterable[tuple[Any, Job, Call]]) -> None:
    """Calls that were begun and could not be made leave the right to probe to others."""
    still = {call.attempt.pk for _, _, call in made}
    for _, _, call in begun:
        if call.probe and call.attempt.pk not in still:
            give_back(call.provider, call.probe)


def passed_over(jobs: Iterable[Job]) -> list[dict[str, str]]:
    """The providers these jobs went past since they are unhealthy, for the message's event."""
    found = {name: why for job in jobs for name, why in job.passed_over.items()}
    return [
        {
            "provider": name,
            "reason": why.reason,
            "since": why.since.isoformat() if why.since else "",
            "until": why.until.isoformat() if why.until else "",
        }
        for name, why in found.items()
    ]
