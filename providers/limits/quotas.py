"""What services say of themselves (SES: GetAccount): read by one process every few minutes, obeyed by all (PRV-9)."""

from __future__ import annotations

import threading
import time
import uuid
from dataclasses import dataclass
from typing import cast

import structlog

from accounts import shared_state
from providers.base import Backend, Quota
from providers.exceptions import ProviderError
from providers.limits import scripts
from providers.models import Provider

log = structlog.get_logger(__name__)

READ_EVERY = 300.0
"""Seconds between two readings of one provider row, over all processes."""
FIRST_READING = 60
"""Seconds one process has for a reading before another tries."""
KEPT = 3600
"""Seconds after which a quota that could not be read again is no longer believed."""
SETTLE = 10.0
"""Seconds in which what was sent has reached the service's own count, before it is read again."""
REMEMBERED = 2.0
"""Seconds a process goes without looking into the shared store."""
UNKNOWN = Quota(per_second=1.0)
"""Until the first answer; a service that does not answer is then held back by its own 429s only."""

_known: dict[uuid.UUID, _Known] = {}


@dataclass(slots=True)
class _Known:
    quota: Quota
    looked_at: float


def quota(provider: Provider, backend: Backend) -> Quota:
    """The service's own limits as they were read last. Never waits for the service: that is done in a thread.

    Raises shared_state.Unavailable.
    """
    now = time.monotonic()
    known = _known.get(provider.pk)
    if known is not None and now - known.looked_at < REMEMBERED:
        return known.quota
    stored = cast("dict[bytes, bytes]", shared_state.client().hgetall(key(provider.pk)))
    said = {name.decode(): float(value) for name, value in stored.items()}
    found = _quota(said) if said else UNKNOWN
    _known[provider.pk] = _Known(found, now if said else 0.0)
    lock = shared_state.key("limit", provider.pk, "reading")
    seconds = int(READ_EVERY) if said else FIRST_READING
    if (not said or time.time() - said["read_at"] >= READ_EVERY) and shared_state.client().set(
        lock, "1", nx=True, ex=seconds
    ):
        threading.Thread(target=_read, args=(provider.pk, provider.name, backend, said), daemon=True).start()
    return found


def key(provider_id: uuid.UUID) -> str:
    return shared_state.key("limit", provider_id, "quota")


def forget() -> None:
    """Look into the shared store again."""
    _known.clear()


def _quota(said: dict[str, float]) -> Quota:
    per_day = said.get("per_day")
    return Quota(said.get("per_second"), None if per_day is None else int(per_day), int(said.get("sent", 0)))


def _read(provider_id: uuid.UUID, name: str, backend: Backend, before: dict[str, float]) -> None:
    row = shared_state.key("limit", provider_id)
    try:
        # Of what we have sent lately the service may not know yet: it counts until the next reading.
        since = int(cast("bytes | None", shared_state.client().hget(row, "since")) or 0) if before else 0
        time.sleep(SETTLE if before else 0)
        fields, seconds = before, KEPT
        try:
            told = backend.quota()
        except ProviderError as error:
            log.warning("quota not read", provider_id=str(provider_id), provider=name, error=error.text)
            # What was known stays known, and no limit of the service's own is known where none was.
            since, seconds = 0, max(1, int(KEPT - (time.time() - before.get("told_at", time.time()))))
        else:
            named = {"per_second": told.per_second, "per_day": told.per_day, "sent": told.sent}
            fields = {name: float(value) for name, value in named.items() if value is not None}
            fields["told_at"] = time.time()
            log.info("quota read", provider_id=str(provider_id), provider=name, **named)
        pairs = [part for pair in {**fields, "read_at": time.time()}.items() for part in pair]
        scripts.QUOTA([key(provider_id), row], [seconds, since, *pairs])
    except Exception as error:  # noqa: BLE001 -- a thread of its own: the log is all that hears of it
        log.error("quota not read", provider_id=str(provider_id), provider=name, error=type(error).__name__)
    _known.pop(provider_id, None)
