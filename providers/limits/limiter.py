"""Asking the shared store for permission, and telling it what services have answered."""

from __future__ import annotations

import random
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import structlog
from django.conf import settings

from accounts import shared_state
from accounts.ids import uuid7
from providers.base import Backend, Limits, Quota, Slot
from providers.exceptions import ProviderError, TemporaryFailure
from providers.limits import leases, quotas, scripts
from providers.limits.answers import Permit, Wait
from providers.models import Provider

log = structlog.get_logger(__name__)

LOOK_EVERY = 0.25
"""Seconds after which a process finds out that another was told to slow down, for rows without limits."""
STORE_AWAY = 5.0
"""Seconds for which the shared store is not asked again after it did not answer."""
LATE = 1.5
"""Seconds after which a permission that was counted in a minute is asked for again."""
LONGEST_WAIT = 5.0
"""Seconds a thread waits for the moment of a call that was held up on its way."""
QUOTA_PAUSE = 60.0
"""Seconds of the first pause after an answer that a quota is used up, when the service names no time."""


@dataclass(slots=True)
class _Known:
    """What this process knows of a row without asking; times by the monotonic clock."""

    look_at: float = 0.0
    calls: int = 0
    braked: bool = False
    blocked_until: float = 0.0


_known: dict[uuid.UUID, _Known] = {}
_away_until = 0.0


def forget() -> None:
    """Forget what this process knows by itself; for tests and for starting afresh."""
    global _away_until  # noqa: PLW0603
    _known.clear()
    quotas.forget()
    leases.forget()
    _away_until = 0.0


def limits_of(provider: Provider, backend: Backend) -> Limits:
    """The row's own limits, and where it names none those of its type."""
    of_type = backend.limits
    return Limits(
        provider.per_second or of_type.per_second,
        provider.per_minute or of_type.per_minute,
        provider.per_day or of_type.per_day,
        provider.concurrency or of_type.concurrency,
    )


def horizon() -> float:
    """Seconds for which permissions are given ahead, so that there is always one left between two sweeps."""
    return min(settings.SWEEP_INTERVAL + 1.0, 5.0)


def ask(
    provider: Provider,
    backend: Backend,
    *,
    tenant_id: uuid.UUID,
    cost: int,
    slots: Sequence[Slot] = (),
    patience: float = 0.0,
) -> Permit | Wait:
    """Permission for one call to `cost` recipients. `patience` is how many seconds the caller may hold the message.

    One round trip to the shared store; none for a row without limits, quota or slots that nobody was told to slow
    down for. Never raises.
    """
    known = _known.setdefault(provider.pk, _Known())
    limits = limits_of(provider, backend)
    limited = bool(slots) or backend.reads_quota or limits != Limits()
    if not limited and not _braked(provider, known):
        known.calls += 1
        return Permit(provider.pk)
    if time.monotonic() < _away_until:
        return _unchecked(provider, known) if not limited else _away_wait()
    try:
        quota = quotas.quota(provider, backend) if backend.reads_quota else Quota()
        return _ask(provider, limits, quota, tenant_id=tenant_id, cost=cost, slots=slots, patience=patience)
    except shared_state.Unavailable as error:
        _note_away(error)
        return _unchecked(provider, known) if not limited else _away_wait()


def _ask(
    provider: Provider,
    limits: Limits,
    quota: Quota,
    *,
    tenant_id: uuid.UUID,
    cost: int,
    slots: Sequence[Slot],
    patience: float,
) -> Permit | Wait:
    row = shared_state.key("limit", provider.pk)
    tenant = tenant_scope(provider, tenant_id)
    lease = uuid7().hex
    slot_keys = [f"{row}:slot:{slot.name}" for slot in slots]
    own = [limits.per_second, limits.per_minute, limits.per_day, limits.concurrency]
    plain = ["" if value is None else value for value in (*own, quota.per_second, quota.per_day)]
    rest = [quota.sent, lease, leases.SECONDS, horizon(), patience, str(tenant_id) if tenant else ""]
    args: list[Any] = [cost, *plain, *rest, *(slot.at_most for slot in slots)]
    verdict, seconds, reason, freed = _told(scripts.ASK([row, tenant, *slot_keys], args))
    _note_freed(provider, freed)
    if verdict != "go":
        # A day's end is the same moment for all who wait for it.
        spread = random.uniform(0, 300) if reason == "day" else 0.0
        return Wait(min(float(seconds), 3600.0) + spread, reason, held=verdict == "hold")
    keys: list[str] = []
    if limits.concurrency:
        keys += [f"{row}:calls", f"{tenant}:calls"] if tenant else [f"{row}:calls"]
    keys += slot_keys
    if keys:
        leases.hold(lease, keys)
    # A few seconds later it is another minute, but the same day: what is counted there is not counted twice.
    again = ([row, tenant], [cost, "", limits.per_minute, *[""] * 4, *args[7:13]]) if limits.per_minute else None
    paced = (cost, plain[0], plain[4]) if reason == "1" else ()
    return Permit(provider.pk, time.monotonic() + float(seconds), lease, tuple(keys), paced, again)


def go(permit: Permit) -> Wait | None:
    """Wait, in the thread that makes the call, until it may leave; or say why it may not any more. Never raises.

    Whatever was late in between, calls leave one after the other at the pace of the row.
    """
    known = _known.setdefault(permit.provider_id, _Known())
    blocked = known.blocked_until - time.monotonic()
    if blocked > 0:
        return Wait(blocked, "blocked")
    try:
        if permit.again is not None and time.monotonic() - permit.start > LATE:
            verdict, seconds, reason, _ = _told(scripts.ASK(*permit.again))
            if verdict != "go":
                return Wait(float(seconds), reason)
            permit.start = time.monotonic() + float(seconds)
        early = permit.start - time.monotonic()
        if early > 0:  # a sleep of nothing still costs the timer's slack
            time.sleep(early)
        if permit.paced:
            row = shared_state.key("limit", permit.provider_id)
            verdict, seconds, reason, _ = _told(scripts.GO([row], [*permit.paced, LONGEST_WAIT]))
            if verdict != "go":
                return Wait(float(seconds), reason)
            time.sleep(float(seconds))
            if float(seconds) > LOOK_EVERY:  # the service may have asked for quiet meanwhile
                blocked = float(_told(scripts.LOOK([row], [0]))[0])
                if blocked > 0:
                    return Wait(blocked, "blocked")
    except shared_state.Unavailable as error:
        _note_away(error)
        return _away_wait()
    return None


def done(permit: Permit, took: float | None = None) -> None:
    """The call has ended after `took` seconds, or was not made (None). Never raises."""
    if permit.keys:
        leases.release(shared_state.key("limit", permit.provider_id), permit.lease, permit.keys, took)


def is_throttled(failure: ProviderError) -> bool:
    """Whether the service said that this was too much, and not that anything is wrong with the message."""
    return isinstance(failure, TemporaryFailure) and (
        failure.status_code == 429 or failure.code in {"throttled", "quota"}
    )


def throttled(
    provider: Provider, backend: Backend, failure: ProviderError, *, tenant_id: uuid.UUID, age: float
) -> float:
    """The service said that it was too much for a call begun `age` seconds ago: everybody waits as long as it asked
    for, and goes on at half the rate. Returns the seconds after which this message may come back. Never raises.
    """
    known = _known.setdefault(provider.pk, _Known())
    asked = failure.retry_after
    first = QUOTA_PAUSE if failure.code == "quota" else 1.0
    known.blocked_until = max(known.blocked_until, time.monotonic() + (first if asked is None else asked))
    known.braked, known.look_at = True, time.monotonic() + LOOK_EVERY
    row = shared_state.key("limit", provider.pk)
    rate = limits_of(provider, backend).per_second
    try:
        _flush(row, known)
        args = ["" if asked is None else asked, first, age, "" if rate is None else rate]
        answer = scripts.THROTTLED([row, tenant_scope(provider, tenant_id) or row], args)
    except shared_state.Unavailable as error:
        _note_away(error)
        return (first if asked is None else asked) + random.uniform(0, 30)
    back, blocked, allowed, braked = _told(answer)
    known.blocked_until = max(known.blocked_until, time.monotonic() + float(blocked))
    if braked == "1":
        log.warning(
            "provider slowed down",
            provider_id=str(provider.pk),
            provider=provider.name,
            provider_type=provider.type,
            code=failure.code,
            wait=round(float(blocked), 1),
            per_second=round(float(allowed), 2),
        )
    return max(float(back), asked or 0.0)


def tenant_scope(provider: Provider, tenant_id: uuid.UUID) -> str:
    """The key of a tenant's share of a shared row; "" for a row of one tenant."""
    return "" if provider.tenant_id is not None else shared_state.key("limit", provider.pk, "tenant", tenant_id)


def _braked(provider: Provider, known: _Known) -> bool:
    """Whether a row without limits is slowed down. Looks into the shared store a few times a second at most."""
    now = time.monotonic()
    if now < known.look_at:
        return known.braked
    known.look_at = now + LOOK_EVERY
    try:
        blocked, braked, freed = _told(_flush(shared_state.key("limit", provider.pk), known))
    except shared_state.Unavailable as error:
        # Without limits nothing has to be known; what this process was told itself it keeps to.
        log.warning("shared store away", error=str(error))
        known.look_at, known.braked = now + 10.0, known.blocked_until > now
        return known.braked
    _note_freed(provider, freed)
    if float(blocked) > 0:
        known.blocked_until = max(known.blocked_until, now + float(blocked))
    known.braked = braked == "1" or float(blocked) > 0
    return known.braked


def _flush(row: str, known: _Known) -> Any:
    calls, known.calls = known.calls, 0
    return scripts.LOOK([row], [calls])


def _told(answer: Any) -> list[str]:
    return [part.decode() for part in answer]


def _unchecked(provider: Provider, known: _Known) -> Permit | Wait:
    """A row without limits whose brake cannot be asked for: only what this process was told itself counts."""
    blocked = known.blocked_until - time.monotonic()
    return Wait(blocked + random.uniform(0, 30), "blocked") if blocked > 0 else Permit(provider.pk)


def _away_wait() -> Wait:
    return Wait(random.uniform(30, 90), "away")


def _note_away(error: Exception) -> None:
    global _away_until  # noqa: PLW0603
    _away_until = time.monotonic() + STORE_AWAY
    log.warning("limits cannot be checked", error=f"{type(error).__name__}: {error}")


def _note_freed(provider: Provider, freed: str) -> None:
    if freed == "1":
        log.info("provider at full speed again", provider_id=str(provider.pk), provider=provider.name)
