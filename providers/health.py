"""Whether a provider may be called, and what its answers say of it (PRV-10).

All workers know together, through `providers.breaker`; people see the row and its events, through
`providers.health_rows`. While the row says healthy nobody asks the shared store before a call, and a process tells of
its successes once a second at most. When the store is away each process counts for itself and the row alone says who
may call and who may probe: mail goes on.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import structlog
from django.conf import settings
from django.utils import timezone

from accounts import shared_state
from providers import breaker, health_rows
from providers.breaker import Answer, Failure
from providers.models import Provider

log = structlog.get_logger(__name__)

TELL_AFTER = 1.0
"""Seconds between two successes of a provider that a process tells the others of."""
LOOK_AGAIN = 1.0
"""Seconds for which a process believes what the shared store said of a pause."""
STORE_AWAY = 15.0
"""Seconds for which a shared store that did not answer is not asked again: each try may cost two seconds."""
TELL_SKIPS_AFTER = 60.0
"""Seconds between two log lines of a process about calls that a provider's pause has cost."""
MOST_PROVIDERS = 10_000
NOT_REACHED = frozenset({"connection_failed", "connect_timeout", "tls"})
"""Codes of failures in which the service has seen nothing of the message, so that it cannot be to blame."""
ROW = "row"
"""The right to probe as the row gives it, while the shared store is away."""


@dataclass(frozen=True, slots=True)
class Admission:
    """Whether a call may begin. `probe` is not empty when it is to show whether the provider is back: then it is told
    of with the outcome, or given back. When it may not, `reason`, `since` and `until` say why."""

    allowed: bool
    probe: str = ""
    reason: str = ""
    since: datetime | None = None
    until: datetime | None = None


_FREELY = Admission(allowed=True)


@dataclass(slots=True)
class _Known:
    """What this process knows of one version of a provider's row. `success` is one not yet told of, `on_row` whether
    the row has been seen to tell of the pause; `failures` and `pauses` count only while the shared store is away."""

    version: datetime
    told_at: float = float("-inf")
    success: float | None = None
    pause: Admission | None = None
    looked_at: float = 0.0
    on_row: bool = False
    written: datetime | None = None
    failures: set[str] = field(default_factory=set)
    pauses: int = 0
    skips: int = 0
    skips_told_at: float = float("-inf")


_lock = threading.Lock()
_known: dict[uuid.UUID, _Known] = {}
_store_away_until = float("-inf")


def admit(provider: Provider) -> Admission:
    """Whether a call may begin now. Of all workers, one may probe a provider whose pause is over."""
    known = _of(provider)
    pause = known.pause
    if provider.unhealthy_until is None and (pause is None or known.on_row):
        # Healthy; or unhealthy when this process saw the row last, and no longer.
        known.pause, known.on_row = None, False
        return _FREELY
    known.on_row = provider.unhealthy_until is not None
    if pause is not None and _waits(pause) and time.monotonic() - known.looked_at < LOOK_AGAIN:
        return _skipped(provider, known, pause)
    answer = _ask(lambda: breaker.admit(provider))
    if answer is None:
        return _admit_by_row(provider, known)
    if answer.word in ("closed", "probe"):
        known.pause = None
        return Admission(allowed=True, probe=answer.opening) if answer.word == "probe" else _FREELY
    reason = provider.unhealthy_reason or (pause.reason if pause else "")
    # While another message probes, it may be back any moment.
    until = answer.until if answer.word == "open" else timezone.now()
    known.pause = Admission(allowed=False, reason=reason, since=answer.since, until=until)
    known.looked_at = time.monotonic() if answer.word == "open" else 0.0
    return _skipped(provider, known, known.pause)


def paused(provider: Provider) -> bool:
    """Whether this process knows that nothing is to go through the provider now; asks nobody."""
    return paused_until(provider) is not None


def note_success(provider: Provider, probe: str = "") -> None:
    """The service answered, whatever it said to the message."""
    known = _of(provider)
    now = time.monotonic()
    known.failures.clear()
    quiet = not probe and provider.unhealthy_until is None and known.pause is None
    if quiet and now - known.told_at < TELL_AFTER:
        known.success = now
        return
    answer = _ask(lambda: breaker.succeeded(provider, "" if probe == ROW else probe))
    if answer is None:
        if probe or (provider.unhealthy_until is not None and not paused(provider)):
            _closed(provider, known, None)
        return
    known.told_at, known.success = now, None
    if answer.word == "restored":
        _closed(provider, known, answer.until)
    elif answer.word == "closed":
        known.pause = None
        if provider.unhealthy_until is not None:
            # Closed by another worker, which may not have come to writing it down.
            _closed(provider, known, provider.unhealthy_until)


def paused_until(provider: Provider) -> datetime | None:
    """When the pause that this process knows of ends; asks nobody."""
    pause = _of(provider).pause
    return pause.until if pause is not None and _waits(pause) else None


def note_silence(
    provider: Provider,
    reason: str,
    *,
    message_id: str,
    code: str = "",
    retry_after: float | None = None,
    probe: str = "",
) -> None:
    """The service did not answer, or broke down. The third failure in a row over all workers gives it a pause, of
    `retry_after` seconds at least.

    Failures of one message count once, unless `code` tells that the service saw nothing of it.
    """
    failure = breaker.Failure(
        what=message_id if code not in NOT_REACHED else f"{message_id}:{uuid.uuid4()}",
        at_least=retry_after or 0.0,
    )
    _failed(provider, reason, failure, probe)


def note_misconfigured(provider: Provider, reason: str, probe: str = "") -> None:
    """The row is wrong: nothing goes through it until the pause is over or somebody saves it (PRV-7)."""
    _failed(provider, reason, breaker.Failure("settings", at_once=True), probe)


def give_back(provider: Provider, probe: str) -> None:
    """A call that was to probe was not made, or its outcome says nothing of the provider; another one may probe."""
    if probe == ROW:
        provider.unhealthy_until = timezone.now()
        health_rows.end_pause(provider)
    elif probe:
        _ask(lambda: breaker.give_back(provider, probe))


def note_saved(provider: Provider) -> None:
    """Somebody is saving the row, to be called in that transaction before: it counts as mended from then on.

    The shared store learns of it from the row's `updated_at`.
    """
    health_rows.mark_healthy(provider, None, "The settings were saved.")
    provider.unhealthy_until, provider.unhealthy_reason = None, ""


def probe_now(provider: Provider) -> bool:
    """End the provider's pause: the next message probes it. False when there is no pause to end."""
    ended = health_rows.end_pause(provider)
    _ask(lambda: breaker.end_pause(provider))
    _of(provider).pause = None
    return ended


def forget_all() -> None:
    """Forget what this process knows."""
    global _store_away_until  # noqa: PLW0603
    with _lock:
        _known.clear()
    _store_away_until = float("-inf")


def _of(provider: Provider) -> _Known:
    with _lock:
        known = _known.get(provider.pk)
        if known is None or known.version < provider.updated_at:
            if len(_known) >= MOST_PROVIDERS:
                _known.clear()
            known = _known[provider.pk] = _Known(provider.updated_at)
        return known


def _waits(pause: Admission) -> bool:
    return pause.until is not None and pause.until > timezone.now()


def _ask(question: Callable[[], Answer | None]) -> Answer | None:
    """What the shared store says; None when it is away."""
    global _store_away_until  # noqa: PLW0603
    if time.monotonic() < _store_away_until:
        return None
    try:
        return question()
    except shared_state.Unavailable as error:
        _store_away_until = time.monotonic() + STORE_AWAY
        log.warning("health of providers not shared", error=f"{type(error).__name__}: {error}")
        return None


def _failed(provider: Provider, reason: str, failure: Failure, probe: str) -> None:
    known = _of(provider)
    success, known.success = known.success, None
    token = "" if probe == ROW else probe
    answer = _ask(lambda: breaker.failed(provider, failure, token, last_success=success))
    if answer is None:
        _failed_by_row(provider, known, reason, failure, probe)
    elif answer.until is not None and answer.word != "stale":
        _opened(provider, known, reason, answer.until, answer.since)


def _opened(provider: Provider, known: _Known, reason: str, until: datetime, since: datetime | None = None) -> None:
    known.pause = Admission(allowed=False, reason=reason, since=since, until=until)
    known.looked_at = time.monotonic()
    if known.written is None or known.written < until:
        health_rows.mark_unhealthy(provider, reason, until)
        known.written = until


def _closed(provider: Provider, known: _Known, until: datetime | None) -> None:
    known.pause, known.pauses = None, 0
    health_rows.mark_healthy(provider, until)
    provider.unhealthy_until, provider.unhealthy_reason = None, ""


# --- while the shared store is away ---------------------------------------------------------------------------------
def _admit_by_row(provider: Provider, known: _Known) -> Admission:
    pause = known.pause
    if pause is None or (provider.unhealthy_until or pause.until) != pause.until:
        pause = Admission(allowed=False, reason=provider.unhealthy_reason, until=provider.unhealthy_until)
    if not _waits(pause):
        if provider.unhealthy_until is None:
            return _FREELY
        until = timezone.now() + timedelta(seconds=settings.PROVIDER_TIMEOUT * 2)
        taken = health_rows.take_probe(provider, until)
        provider.unhealthy_until = until
        if taken:
            known.pause = None
            return Admission(allowed=True, probe=ROW)
        pause = Admission(allowed=False, reason=pause.reason, until=timezone.now())
    return _skipped(provider, known, pause)


def _failed_by_row(provider: Provider, known: _Known, reason: str, failure: Failure, probe: str) -> None:
    known.failures.add(failure.what)
    if paused(provider) and not probe:
        return  # a call begun before the pause
    if not (failure.at_once or probe or len(known.failures) >= breaker.FAILURES):
        return
    longest = settings.DELIVERY_UNHEALTHY_PAUSE
    seconds = longest if failure.at_once else min(breaker.FIRST_PAUSE * 2**known.pauses, longest)
    known.pauses = min(known.pauses + 1, 30)
    known.failures.clear()
    _opened(provider, known, reason, timezone.now() + timedelta(seconds=max(seconds, failure.at_least)))


# --- telling of it --------------------------------------------------------------------------------------------------
def _skipped(provider: Provider, known: _Known, pause: Admission) -> Admission:
    """Tell of it once a minute; the messages' own events tell of each."""
    known.skips += 1
    now = time.monotonic()
    if now - known.skips_told_at >= TELL_SKIPS_AFTER:
        log.warning(
            "provider.skipped",
            provider_id=str(provider.pk),
            provider=provider.name,
            tenant_id=str(provider.tenant_id) if provider.tenant_id else None,
            reason=pause.reason,
            since=pause.since.isoformat() if pause.since else None,
            calls=known.skips,
        )
        known.skips, known.skips_told_at = 0, now
    return pause
