"""Addresses that a tenant must not be mailed again: who is on the list, and how one gets there (EVT-2)."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta

import structlog
from django.db.models import F
from django.db.models.functions import Lower
from django.utils import timezone

from delivery.models import Event, EventType, Recipient, Suppression
from providers.envelope import same
from providers.webhooks.contract import ProviderEvent, Told

log = structlog.get_logger(__name__)

SUPPRESSED = "on_suppression_list"
"""Error code of recipients that were skipped because they are on the list."""
SOFT_BOUNCES = 3
SOFT_BOUNCE_DAYS = timedelta(days=7)
_PAGE = 5000
"""Addresses in one query, so that a claim of a few messages with a thousand recipients each is still one or two."""

Reason = Suppression.Reason
# The stronger reason stays, whatever order they come in. What a person has entered is that person's.
_RANKS = {
    Reason.UNSUBSCRIBED.value: 1,
    Reason.SOFT_BOUNCES.value: 2,
    Reason.BOUNCED.value: 3,
    Reason.COMPLAINED.value: 4,
    Reason.MANUAL.value: 5,
}


def reasons(wanted: Iterable[tuple[uuid.UUID, str]]) -> dict[tuple[uuid.UUID, str], str]:
    """Which of these (tenant, address) are not to be mailed, and why, in words."""
    keys = {(tenant, address): same(address) for tenant, address in wanted}
    folded = sorted(set(keys.values()))
    tenants = {tenant for tenant, _ in keys}
    found: dict[tuple[uuid.UUID, str], str] = {}
    for start in range(0, len(folded), _PAGE):
        # The expression of the unique index, so that it is used.
        rows = Suppression.objects.alias(folded=Lower("address")).order_by()
        rows = rows.filter(tenant__in=tenants, folded__in=folded[start : start + _PAGE])
        found |= {(row.tenant_id, row.address.lower()): _in_words(row) for row in rows}
    return {key: found[key[0], address] for key, address in keys.items() if (key[0], address) in found}


def _in_words(row: Suppression) -> str:
    label = Reason(row.reason).label
    text = f"The address is suppressed since {row.created_at:%Y-%m-%d}: {label}"
    return f"{text} ({row.text})"[:1000] if row.text else f"{text}."


@dataclass(frozen=True, slots=True)
class Ground:
    """Why an address goes on the list of the tenant whose message it was."""

    recipient: Recipient
    reason: str
    text: str


def ground(recipient: Recipient, event: ProviderEvent) -> Ground | None:
    """What this event means for the list; to be asked after the event is written, with the message loaded."""
    if event.type is Told.COMPLAINED:
        return Ground(recipient, Reason.COMPLAINED, event.text)
    if event.type is Told.UNSUBSCRIBED and event.hard:
        return Ground(recipient, Reason.UNSUBSCRIBED, event.text)
    if event.type is Told.BOUNCED and event.hard:
        return Ground(recipient, Reason.BOUNCED, event.text)
    if event.type is Told.BOUNCED and _soft_bounces(recipient) >= SOFT_BOUNCES:
        return Ground(recipient, Reason.SOFT_BOUNCES, event.text)
    return None


def _soft_bounces(recipient: Recipient) -> int:
    """How often mail of this tenant to the address has bounced softly within the last days."""
    spellings = {recipient.address, recipient.address.lower(), same(recipient.address)}
    return Event.objects.filter(
        tenant_id=recipient.message.tenant_id,
        type=EventType.BOUNCED,
        occurred_at__gte=timezone.now() - SOFT_BOUNCE_DAYS,
        recipient__address__in=spellings,
        message_id=F("recipient__message_id"),  # lets the database go from the address by indexes alone
        data__hard=False,
    ).count()


def add(grounds: Sequence[Ground], provider_id: uuid.UUID) -> None:
    """Put addresses on the lists of their tenants; to be called inside the transaction of the events."""
    strongest: dict[tuple[uuid.UUID, str], Ground] = {}
    for one in grounds:
        key = (one.recipient.message.tenant_id, same(one.recipient.address))
        if key not in strongest or _RANKS[one.reason] > _RANKS[strongest[key].reason]:
            strongest[key] = one
    # In one order, so that two writers never wait for each other in a circle.
    keys = sorted(strongest)
    now = timezone.now()
    Suppression.objects.bulk_create(
        [
            Suppression(
                tenant_id=tenant_id,
                address=address,
                reason=strongest[tenant_id, address].reason,
                text=strongest[tenant_id, address].text[:1000],
                provider_id=provider_id,
                message_id=strongest[tenant_id, address].recipient.message_id,
                created_at=now,
            )
            for tenant_id, address in keys
        ],
        ignore_conflicts=True,
    )
    for tenant_id, address in keys:
        one = strongest[tenant_id, address]
        weaker = [reason for reason, rank in _RANKS.items() if rank < _RANKS[one.reason]]
        known = Suppression.objects.alias(folded=Lower("address")).filter(tenant_id=tenant_id, folded=address)
        known.filter(reason__in=weaker).update(
            reason=one.reason, text=one.text[:1000], provider_id=provider_id, message_id=one.recipient.message_id
        )
        log.info(
            "address suppressed",
            tenant_id=str(tenant_id),
            reason=str(one.reason),
            message_id=str(one.recipient.message_id),
        )
