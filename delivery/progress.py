"""What sends of several requests have done so far, kept with their attempts (PRV-6, DEL-5).

A backend saves its progress before each step that must not be taken twice. A later attempt for the same recipients
takes the progress over together with the key, in the transaction that writes it, so that one row alone holds it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import structlog
from django.db import DatabaseError, connection

from delivery.models import PENDING_STATUSES, DeliveryLog, Recipient
from providers import connections
from providers.base import Backend
from providers.exceptions import Misconfigured, ProviderError, TemporaryFailure
from providers.models import Provider

log = structlog.get_logger(__name__)


class Kept:
    """The progress of one attempt, in its row (`providers.progress.Progress`). Saved from threads that send."""

    def __init__(self, attempt: DeliveryLog) -> None:
        self._attempt = attempt
        self.state: Mapping[str, Any] = dict(attempt.progress or {})

    def save(self, state: Mapping[str, Any]) -> None:
        """Only while the attempt is under way: when its worker was thought dead and another one has taken over, the
        send must stop, and the other one's progress must not be overwritten."""
        kept = dict(state)
        try:
            written = DeliveryLog.objects.filter(pk=self._attempt.pk, status=DeliveryLog.Status.SENDING).update(
                progress=kept
            )
        except DatabaseError as error:
            log.error("progress not kept", attempt_id=str(self._attempt.pk), error=f"{type(error).__name__}: {error}")
            raise TemporaryFailure("The progress of the send could not be kept.", code="not_recorded") from error
        finally:
            # A thread that sends asks the database for nothing else, and may wait for hours for its next message.
            if not connection.in_atomic_block:
                connection.close()
        if not written:
            raise TemporaryFailure("Another worker has taken this send over.", code="not_recorded")
        self.state = self._attempt.progress = kept


def to_go_on_with(
    unfinished: Sequence[DeliveryLog], provider: Provider, recipients: Sequence[str], key: object
) -> DeliveryLog | None:
    """The newest of `unfinished` with the same provider and recipients, and with `key` unless that is None; none that
    the service has refused for good."""
    for attempt in reversed(unfinished):
        if attempt.status == DeliveryLog.Status.FAILED:
            continue
        if attempt.provider_id != provider.pk or set(attempt.recipients) != set(recipients):
            continue
        if attempt.progress and key in {None, attempt.idempotency_key}:
            return attempt
    return None


def no_longer_needed(attempts: Iterable[DeliveryLog], recipients: Iterable[Recipient]) -> list[DeliveryLog]:
    """Those of `attempts` with progress of which no recipient waits any more."""
    waiting = {recipient.address for recipient in recipients if recipient.status in PENDING_STATUSES}
    return [attempt for attempt in attempts if attempt.progress is not None and waiting.isdisjoint(attempt.recipients)]


def left_behind(attempt: DeliveryLog) -> tuple[Backend, Mapping[str, Any]] | None:
    """What an attempt that came to nothing has left at its service, with the backend that can take it away."""
    sent = attempt.status in {DeliveryLog.Status.DELIVERED, DeliveryLog.Status.PARTIAL}
    if sent or not attempt.progress or attempt.provider_id is None:
        return None
    try:
        provider = Provider.objects.filter(pk=attempt.provider_id).defer("config").first()
        backend = connections.backend_for(provider) if provider is not None else None
    except (Misconfigured, DatabaseError):
        return None
    return (backend, attempt.progress) if backend is not None and backend.resumes else None


def discard(backend: Backend, state: Mapping[str, Any]) -> None:
    """Take it away, as best we can: nobody waits for it. Runs in a thread."""
    try:
        backend.discard(state)
    except ProviderError as failure:
        log.warning("unfinished send not taken away", provider_type=backend.type, error=failure.text)
    except Exception:
        log.exception("unfinished send not taken away", provider_type=backend.type)
