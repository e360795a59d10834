"""Live backends of this process, one per provider row (PRV-11)."""

from __future__ import annotations

import threading
import time
import uuid
from dataclasses import dataclass
from datetime import datetime

import structlog
from django.conf import settings
from django.db import DatabaseError

from accounts import changes
from accounts.crypto import DecryptionError
from providers import registry
from providers.base import Backend
from providers.exceptions import Misconfigured
from providers.models import Provider

log = structlog.get_logger(__name__)

FORGET_AFTER = 900.0
"""Seconds after which the connections of a provider nobody has used are closed."""


@dataclass(slots=True)
class _Live:
    version: datetime
    backend: Backend
    used_at: float


_lock = threading.Lock()
_live: dict[uuid.UUID, _Live] = {}


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
        backend = connect(provider)
        idle = [pk for pk, live in _live.items() if now - live.used_at > FORGET_AFTER]
        retired = [_live.pop(pk).backend for pk in idle if pk != provider.pk]
        _live[provider.pk] = _Live(provider.updated_at, backend, now)
    if known:
        retired.append(known.backend)
    for old in retired:
        old.close()
    return backend


def connect(provider: Provider, *, timeout: float | None = None) -> Backend:
    """A backend of this row that nobody else uses; the caller closes it. Raises as `backend_for`.

    `timeout` is in seconds for each network wait, PROVIDER_TIMEOUT when None.
    """
    try:
        seconds, shared = timeout or settings.PROVIDER_TIMEOUT, provider.tenant_id is None
        return registry.connect(provider.type, provider.config or {}, seconds, shared=shared)
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


def heard(change: changes.Change) -> None:
    """Close what is open for a provider that has changed or is gone; a call under way ends as such a call may."""
    if isinstance(change.row_id, uuid.UUID):
        with _lock:
            live = _live.pop(change.row_id, None)
        if live is not None:
            live.backend.close()


def forget_all() -> None:
    """Close every live backend; the next use makes new ones."""
    with _lock:
        backends = [live.backend for live in _live.values()]
        _live.clear()
    for backend in backends:
        backend.close()
