"""What providers tell of mail they took: matched to its recipient, applied once, in any order (EVT-1, EVT-2).

A service may be faster than our own commit: its event then names an id that no recipient has yet. While an attempt of
that provider is under way such events are kept, and matched once its outcome is recorded. The services are not asked
to send them again: some try three times and give up, some put a webhook out of use that refuses too often, and most
send events of other mail in the same request. An unknown id at any other time is mail of somebody else who uses the
same account, and is passed over.
"""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TypeAlias

import structlog
from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from delivery import events as log_of_events
from delivery import rows, suppressions, verdicts
from delivery.models import DeliveryLog, EarlyEvent, Event, EventType, Message, Recipient
from providers.envelope import same
from providers.webhooks.contract import ProviderEvent, Told

log = structlog.get_logger(__name__)

PAGE = 200
"""Events in one transaction."""
EARLY_KEPT = timedelta(hours=1)
EARLY_MOST = 10_000
"""Early events kept for one provider; with more, its webhook is asked to come again later."""

_WRITTEN = ("status", "error_code", "error_text", "delivered_at", "updated_at")
_LOUD = frozenset({Told.BOUNCED, Told.COMPLAINED, Told.FAILED})

Matches: TypeAlias = dict[str, list[Recipient]]


class TooManyEarly(Exception):
    """The provider's early events have filled their room."""


@dataclass(slots=True)
class Tally:
    """What became of the events of one call: counts, and those whose message is not known (yet)."""

    applied: int = 0
    repeated: int = 0
    early: int = 0
    strange: list[ProviderEvent] = field(default_factory=list)


def take(provider_id: uuid.UUID, events: Sequence[ProviderEvent]) -> Tally:
    """Apply what a provider has told; committed when it returns.

    Raises TooManyEarly, and Django's DatabaseError. What was committed before either is recognised when it is told
    again.
    """
    tally = Tally()
    for page in _pages(events):
        with transaction.atomic():
            # Asked before the recipients are looked for: what is no longer under way by then has its ids in them.
            early = _under_way(provider_id)
            strange = _apply(provider_id, page, tally)
            if early and strange:
                _keep(provider_id, strange)
                tally.early += len(strange)
            else:
                tally.strange += strange
    log.info(
        "webhook",
        provider_id=str(provider_id),
        applied=tally.applied,
        repeated=tally.repeated,
        early=tally.early,
        strange=len(tally.strange),
    )
    for event in tally.strange:
        log.debug("event of an unknown message", provider_id=str(provider_id), ids=event.ids, type=str(event.type))
    return tally


def apply_early() -> int:
    """Apply the early events whose message is known by now, and forget those that have waited too long; returns how
    many were applied. Two at once do no harm."""
    tally = Tally()
    for provider_id in list(EarlyEvent.objects.order_by().values_list("provider_id", flat=True).distinct()):
        after: uuid.UUID | None = None
        while page := _after(provider_id, after):
            after = page[-1].pk
            told = {row.pk: ProviderEvent.from_json(row.told) for row in page}
            with transaction.atomic():
                strange = {event.event_id for event in _apply(provider_id, list(told.values()), tally)}
                done = [pk for pk, event in told.items() if event.event_id not in strange]
                EarlyEvent.objects.filter(pk__in=done).delete()
    forgotten, _ = EarlyEvent.objects.filter(received_at__lt=timezone.now() - EARLY_KEPT).delete()
    if tally.applied or forgotten:
        log.info("early events", applied=tally.applied, forgotten=forgotten)
    return tally.applied


def _after(provider_id: uuid.UUID, after: uuid.UUID | None) -> list[EarlyEvent]:
    kept = EarlyEvent.objects.filter(provider_id=provider_id).order_by("pk")
    return list((kept if after is None else kept.filter(pk__gt=after))[:PAGE])


def _pages(events: Sequence[ProviderEvent]) -> Iterator[Sequence[ProviderEvent]]:
    for start in range(0, len(events), PAGE):
        yield events[start : start + PAGE]


def _under_way(provider_id: uuid.UUID) -> bool:
    """Whether a call to this provider has not been recorded yet: it is being made, or its answer was lost and it may
    be asked again."""
    lost = Q(status=DeliveryLog.Status.UNKNOWN, created_at__gt=timezone.now() - EARLY_KEPT)
    calls = DeliveryLog.objects.filter(Q(status=DeliveryLog.Status.SENDING) | lost, provider_id=provider_id)
    return calls.exists()


def _keep(provider_id: uuid.UUID, events: Sequence[ProviderEvent]) -> None:
    if EarlyEvent.objects.filter(provider_id=provider_id).count() + len(events) > EARLY_MOST:
        raise TooManyEarly
    now = timezone.now()
    EarlyEvent.objects.bulk_create(
        [
            EarlyEvent(provider_id=provider_id, provider_event_id=event.event_id, told=event.as_json(), received_at=now)
            for event in events
        ],
        ignore_conflicts=True,
    )


def _apply(provider_id: uuid.UUID, events: Sequence[ProviderEvent], tally: Tally) -> list[ProviderEvent]:
    """Apply what is new, inside a transaction; returns the events of unknown messages."""
    by_id = _locked(provider_id, events)
    known = set(
        Event.objects.filter(
            provider_id=provider_id, provider_event_id__in=[event.event_id for event in events]
        ).values_list("provider_event_id", flat=True)
    )
    strange: list[ProviderEvent] = []
    fresh: list[tuple[ProviderEvent, list[Recipient], Event]] = []
    changed: dict[uuid.UUID, Recipient] = {}
    for event in events:
        candidates = [recipient for id_ in event.ids for recipient in by_id.get(id_, ())]
        if event.event_id in known:
            tally.repeated += 1
        elif not candidates:
            strange.append(event)
        else:
            known.add(event.event_id)
            meant = _meant(event, candidates)
            fresh.append((event, meant, _row(provider_id, event, candidates[0].message, meant)))
            changed |= {recipient.pk: recipient for recipient in meant if _tell(recipient, event)}
    log_of_events.record(row for _, _, row in fresh)
    rows.update_each(list(changed.values()), _WRITTEN)
    grounds = [suppressions.ground(recipient, event) for event, meant, _ in fresh for recipient in meant]
    suppressions.add([ground for ground in grounds if ground is not None], provider_id)
    tally.applied += len(fresh)
    return strange


def _locked(provider_id: uuid.UUID, events: Sequence[ProviderEvent]) -> Matches:
    """Recipients by provider message id, locked in the order in which a worker locks: messages first."""
    ids = {id_ for event in events for id_ in event.ids}
    ours = Recipient.objects.filter(provider_id=provider_id, provider_message_id__in=ids)
    found = dict(ours.values_list("pk", "message_id"))
    if not found:
        return {}
    messages = {
        message.pk: message
        for message in Message.objects.select_for_update(no_key=True)
        .filter(pk__in=set(found.values()))
        .order_by("pk")
        .only("pk", "tenant_id")
    }
    by_id: Matches = defaultdict(list)
    for recipient in Recipient.objects.select_for_update(no_key=True).filter(pk__in=found).order_by("pk"):
        if recipient.message_id in messages:
            recipient.message = messages[recipient.message_id]
            by_id[recipient.provider_message_id].append(recipient)
    return by_id


def _meant(event: ProviderEvent, candidates: Sequence[Recipient]) -> list[Recipient]:
    """Of the recipients under one id, the one the event is about; none when the service does not say which."""
    if event.recipient:
        return [recipient for recipient in candidates if same(recipient.address) == same(event.recipient)]
    return list(candidates) if len(candidates) == 1 else []


def _tell(recipient: Recipient, event: ProviderEvent) -> bool:
    if not verdicts.apply(recipient, event):
        return False
    recipient.updated_at = timezone.now()
    recipient.delivered_at = recipient.delivered_at or event.occurred_at  # who tells of it had taken it
    return True


def _row(provider_id: uuid.UUID, event: ProviderEvent, message: Message, meant: Sequence[Recipient]) -> Event:
    row = log_of_events.about(
        message,
        EventType(event.type.value),
        event.occurred_at,
        recipient=meant[0].address if meant else event.recipient,
        provider_message_id=event.provider_message_id,
        code=event.code,
        text=event.text,
        hard=event.hard if event.type is Told.BOUNCED else None,
        url=event.url,
    )
    row.recipient_id = meant[0].pk if meant else None
    row.provider_id, row.provider_event_id = provider_id, event.event_id
    level = log.warning if event.type in _LOUD or not meant else log.info
    level(
        "provider told",
        type=str(event.type),
        message_id=str(message.pk),
        tenant_id=str(message.tenant_id),
        provider_id=str(provider_id),
        provider_message_id=event.provider_message_id,
        code=event.code,
        text=event.text,
        hard=event.hard,
        recipient_known=bool(meant),
    )
    return row
