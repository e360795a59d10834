"""Live backends of this process, one per provider row (PRV-11), and the rows' health."""

from __future__ import annotations

import threading
import time
import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog
from django.conf import settings
from django.db import DatabaseError
from django.utils import timezone

from accounts.crypto import DecryptionError
from providers import registry
from providers.base import Backend
from providers.exceptions import Misconfigured
from providers.models import Provider

log = structlog.get_logger(__name__)

FORGET_AFTER = 900.0
"""Seconds after which the connections of a provider nobody has used are closed."""
UNHEALTHY_AFTER = 3
"""Failures in a row, of the service's own making, after which it gets a pause (PRV-10)."""
FIRST_PAUSE = 30.0
"""Seconds of the first such pause."""


@dataclass(slots=True)
class _Live:
    version: datetime
    backend: Backend
    used_at: float


@dataclass(slots=True)
class _Failures:
    """In a row, since the last success: calls without an answer, and the pauses they led to."""

    calls: int = 0
    pauses: int = 0


_lock = threading.Lock()
_live: dict[uuid.UUID, _Live] = {}
_failures: dict[uuid.UUID, _Failures] = {}


def backend_for(provider: Provider) -> Backend:
    """The backend of this row, made on first use and again when the row has changed.

    Raises Misconfigured when the row is gone, or its settings are wrong or cannot be decrypted.
    """
    now = time.monotonic()
    with _lock:
        known = _live.get(provider.pk)
        if known and known.version == provider.updated_at:
            known.used_at = now
            return known.backend
        backend = _connect(provider)
        idle = [pk for pk, live in _live.items() if now - live.used_at > FORGET_AFTER]
        retired = [_live.pop(pk).backend for pk in idle if pk != provider.pk]
        _live[provider.pk] = _Live(provider.updated_at, backend, now)
    if known:
        retired.append(known.backend)
    for old in retired:
        old.close()
    return backend


def _connect(provider: Provider) -> Backend:
    try:
        return registry.connect(provider.type, provider.config or {}, timeout=settings.PROVIDER_TIMEOUT)
    except Misconfigured:
        raise
    except DecryptionError as error:
        raise Misconfigured(str(error), code="undecryptable") from error
    except Provider.DoesNotExist as error:
        raise Misconfigured("The provider has been deleted.", code="deleted") from error
    except DatabaseError:
        raise
    except Exception as error:
        # Settings nobody thought of: the row is wrong, and the mail waits until it is mended.
        log.exception("provider settings not understood", provider_id=str(provider.pk), provider_type=provider.type)
        raise Misconfigured(f"The settings cannot be used ({type(error).__name__}).", code="bad_config") from error


def forget_all() -> None:
    """Close every live backend; the next use makes new ones."""
    with _lock:
        backends = [live.backend for live in _live.values()]
        _live.clear()
        _failures.clear()
    for backend in backends:
        backend.close()


def paused(provider: Provider) -> bool:
    """Whether nothing is to go through this provider now (PRV-10)."""
    return provider.unhealthy_until is not None and provider.unhealthy_until > timezone.now()


def may_call(provider: Provider) -> bool:
    """Whether a call may be begun. When a pause is over one worker may probe; the others go on waiting for it."""
    before = provider.unhealthy_until
    if before is None:
        return True
    if paused(provider):
        return False
    until = timezone.now() + timedelta(seconds=settings.PROVIDER_TIMEOUT * 2)
    probing = Provider.objects.filter(pk=provider.pk, unhealthy_until=before).update(unhealthy_until=until)
    provider.unhealthy_until = until
    return bool(probing)


def note_misconfigured(provider: Provider, reason: str) -> None:
    """The row is wrong: nothing goes through it until the pause is over or somebody saves it (PRV-7)."""
    _pause(provider, reason, settings.DELIVERY_UNHEALTHY_PAUSE)


def note_silence(provider: Provider, reason: str, *, probing: bool = False) -> None:
    """The service did not answer, or broke down. After three times in a row it gets a pause, longer each time, so
    that calls to a service that is down do not use up the time of everybody else's (PRV-10)."""
    with _lock:
        if paused(provider) and not probing:
            return  # a call begun before the pause
        row = _failures.setdefault(provider.pk, _Failures())
        row.calls += 1
        if row.calls < UNHEALTHY_AFTER:
            return
        seconds = min(FIRST_PAUSE * 2**row.pauses, settings.DELIVERY_UNHEALTHY_PAUSE)
        row.pauses += 1
    _pause(provider, reason, seconds)


def note_success(provider: Provider) -> None:
    """A send went through."""
    with _lock:
        _failures.pop(provider.pk, None)
    if provider.unhealthy_until is None:
        return
    log.info("provider healthy", provider_id=str(provider.pk), provider=provider.name)
    Provider.objects.filter(pk=provider.pk).update(unhealthy_until=None, unhealthy_reason="")
    provider.unhealthy_until, provider.unhealthy_reason = None, ""


def _pause(provider: Provider, reason: str, seconds: float) -> None:
    until = timezone.now() + timedelta(seconds=seconds)
    log.error("provider unhealthy", provider_id=str(provider.pk), provider=provider.name, reason=reason, until=until)
    # Not through save(): `updated_at` stays, so that the live backend is not made anew.
    Provider.objects.filter(pk=provider.pk).update(unhealthy_until=until, unhealthy_reason=reason[:500])
    provider.unhealthy_until, provider.unhealthy_reason = until, reason[:500]
