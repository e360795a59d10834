"""Live backends of this process, one per provider row (PRV-11), and the rows' health."""

from __future__ import annotations

import threading
import uuid
from datetime import datetime, timedelta

import structlog
from django.conf import settings
from django.utils import timezone

from accounts.crypto import DecryptionError
from providers import registry
from providers.base import Backend
from providers.exceptions import Misconfigured
from providers.models import Provider

log = structlog.get_logger(__name__)

_lock = threading.Lock()
_live: dict[uuid.UUID, tuple[datetime, Backend]] = {}


def backend_for(provider: Provider) -> Backend:
    """The backend of this row, made on first use and again when the row has changed.

    Raises Misconfigured when the row's settings are wrong or cannot be decrypted.
    """
    with _lock:
        known = _live.get(provider.pk)
        if known and known[0] == provider.updated_at:
            return known[1]
        try:
            config = provider.config
        except DecryptionError as error:
            raise Misconfigured(str(error), code="undecryptable") from error
        backend = registry.connect(provider.type, config or {}, timeout=settings.PROVIDER_TIMEOUT)
        _live[provider.pk] = (provider.updated_at, backend)
    if known:
        known[1].close()
    return backend


def forget_all() -> None:
    """Close every live backend; the next use makes new ones."""
    with _lock:
        backends = [backend for _, backend in _live.values()]
        _live.clear()
    for backend in backends:
        backend.close()


def mark_unhealthy(provider: Provider, reason: str) -> None:
    """Nothing goes through this provider until the pause is over or somebody saves it (PRV-7)."""
    until = timezone.now() + timedelta(seconds=settings.DELIVERY_UNHEALTHY_PAUSE)
    log.error("provider unhealthy", provider_id=str(provider.pk), provider=provider.name, reason=reason)
    # Not through save(): `updated_at` stays, so that the live backend is not made anew.
    Provider.objects.filter(pk=provider.pk).update(unhealthy_until=until, unhealthy_reason=reason[:500])
    provider.unhealthy_until, provider.unhealthy_reason = until, reason[:500]


def mark_healthy(provider: Provider) -> None:
    """A send went through."""
    if provider.unhealthy_until is None:
        return
    log.info("provider healthy", provider_id=str(provider.pk), provider=provider.name)
    Provider.objects.filter(pk=provider.pk).update(unhealthy_until=None, unhealthy_reason="")
    provider.unhealthy_until, provider.unhealthy_reason = None, ""
