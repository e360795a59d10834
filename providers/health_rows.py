"""The health of providers as people see it: the row's columns, the events, the log (PRV-10).

An event is written in the transaction that takes the row from healthy to unhealthy or back, with the row locked; so
there is one for each, whoever else has seen the same.
"""

from __future__ import annotations

from datetime import datetime

import structlog
from django.db import transaction
from django.utils import timezone

from providers.models import HealthEvent, Provider

log = structlog.get_logger(__name__)


def mark_unhealthy(provider: Provider, reason: str, until: datetime) -> None:
    """Nothing goes through the provider until then. No change when the row says so already, is gone, or has been
    saved since `provider` was read: what happened with the old settings says nothing of the new ones."""
    reason = reason[:500]
    with transaction.atomic():
        row = _locked(provider)
        if row is None or row.updated_at != provider.updated_at:
            return
        if row.unhealthy_until is not None and row.unhealthy_until >= until:
            return
        _write(provider, until, reason)
        if row.unhealthy_until is None:
            _record(provider, HealthEvent.State.UNHEALTHY, reason, until)
    if row.unhealthy_until is None:
        log.error("provider.unhealthy", **_named(provider), reason=reason, until=until.isoformat())
    else:
        log.warning("provider.still_unhealthy", **_named(provider), reason=reason, until=until.isoformat())


def mark_healthy(provider: Provider, until: datetime | None, reason: str = "") -> None:
    """The pause that ended, or would have ended, at `until` is over for good; a later one stays. None ends any."""
    with transaction.atomic():
        row = _locked(provider)
        if row is None or row.unhealthy_until is None:
            return
        if until is not None and row.unhealthy_until > until:
            return
        _write(provider, None, "")
        _record(provider, HealthEvent.State.HEALTHY, reason, None)
    log.info("provider.healthy", **_named(provider), reason=reason, was=row.unhealthy_reason)


def take_probe(provider: Provider, until: datetime) -> bool:
    """Without the shared store: whether this worker may probe, when the row's pause is over. The others wait until
    `until` for what comes of it."""
    seen = provider.unhealthy_until
    return bool(Provider.objects.filter(pk=provider.pk, unhealthy_until=seen).update(unhealthy_until=until))


def end_pause(provider: Provider) -> bool:
    """The pause is over now, though not the provider's being unhealthy; False when there was none to end."""
    now = timezone.now()
    return bool(Provider.objects.filter(pk=provider.pk, unhealthy_until__gt=now).update(unhealthy_until=now))


def _locked(provider: Provider) -> Provider | None:
    rows = Provider.objects.select_for_update(no_key=True).filter(pk=provider.pk)
    return rows.only("unhealthy_until", "unhealthy_reason", "updated_at").first()


def _write(provider: Provider, until: datetime | None, reason: str) -> None:
    # Not through save(): `updated_at` stays, so that the live backend is not made anew.
    Provider.objects.filter(pk=provider.pk).update(unhealthy_until=until, unhealthy_reason=reason)


def _record(provider: Provider, state: HealthEvent.State, reason: str, until: datetime | None) -> None:
    HealthEvent.objects.create(
        provider_id=provider.pk, state=state, reason=reason, until=until, occurred_at=timezone.now()
    )


def _named(provider: Provider) -> dict[str, str | None]:
    tenant = str(provider.tenant_id) if provider.tenant_id else None
    return {
        "provider_id": str(provider.pk),
        "provider": provider.name,
        "provider_type": provider.type,
        "tenant_id": tenant,
    }
