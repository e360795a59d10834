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
from django.db.models import Min, Q, QuerySet
from django.utils import timezone

from delivery import events as log_of_events
from delivery import notices, precedence, rows, suppressions
from delivery.models import DeliveryLog, EarlyEvent, Event, EventType, Message, Recipient
from providers.envelope import same
from providers.webhooks.contract import ProviderEvent, Told

log = structlog.get_logger(__name__)

PAGE = 200
"""Events in one transaction."""
EARLY_KEPT = timedelta(hours=1)
CLOCKS = timedelta(minutes=1)
"""How far the clocks of two of our machines may be apart."""
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
    """Apply the early events whose message is known by now, and forget those that nothing is to be waited for and
    those that have waited too long; returns how many were applied. Two at once do no harm."""
    tally = Tally()
    foreign = 0
    providers = list(EarlyEvent.objects.order_by().values_list("provider_id", flat=True).distinct())
    if not providers:
        return 0  # as nearly always; this is asked with each sweep
    for provider_id in providers:
        after: uuid.UUID | None = None
        # Asked before the recipients are looked for, as in `take`.
        settled = (_open(provider_id).aggregate(first=Min("created_at"))["first"] or timezone.now()) - CLOCKS
        while page := _after(provider_id, after):
            after = page[-1].pk
            told = {row.pk: ProviderEvent.from_json(row.told) for row in page}
            with transaction.atomic():
                strange = {event.event_id for event in _apply(provider_id, list(told.values()), tally)}
                done = [pk for pk, event in told.items() if event.event_id not in strange]
                # Every call that was under way when these came is recorded, and none has their id: other people's
                # mail, which must not use up the room for ours.
                late = [row.pk for row in page if row.received_at < settled and row.pk not in done]
                EarlyEvent.objects.filter(pk__in=done + late).delete()
                foreign += len(late)
    forgotten, _ = EarlyEvent.objects.filter(received_at__lt=timezone.now() - EARLY_KEPT).delete()
    if tally.applied or forgotten or foreign:
        log.info("early events", applied=tally.applied, foreign=foreign, forgotten=forgotten)
    return tally.applied


def _after(provider_id: uuid.UUID, after: uuid.UUID | None) -> list[EarlyEvent]:
    kept = EarlyEvent.objects.filter(provider_id=provider_id).order_by("pk")
    return list((kept if after is None else kept.filter(pk__gt=after))[:PAGE])


def _pages(events: Sequence[ProviderEvent]) -> Iterator[Sequence[ProviderEvent]]:
    for start in range(0, len(events), PAGE):
        yield events[start : start + PAGE]


def _under_way(provider_id: uuid.UUID) -> bool:
    return _open(provider_id).exists()


def _open(provider_id: uuid.UUID) -> QuerySet[DeliveryLog]:
    """Calls to this provider that have not been recorded yet: they are being made, or their answer was lost and they
    may be asked again."""
    lost = Q(status=DeliveryLog.Status.UNKNOWN, created_at__gt=timezone.now() - EARLY_KEPT)
    return DeliveryLog.objects.filter(Q(status=DeliveryLog.Status.SENDING) | lost, provider_id=provider_id).order_by()


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
    told = Event.objects.filter(provider_id=provider_id, provider_event_id__in=[event.event_id for event in events])
    # What the partial index asks for has to be said: of a long list PostgreSQL does not see that none of it is empty.
    known = set(told.exclude(provider_event_id="").values_list("provider_event_id", flat=True))
    strange: list[ProviderEvent] = []
    fresh: list[tuple[ProviderEvent, list[Recipient], Event]] = []
    changed: dict[uuid.UUID, Recipient] = {}
    for event in events:
        if event.event_id in known:
            tally.repeated += 1
            continue
        message, meant = _whose(event, by_id)
        if message is None:
            strange.append(event)
        else:
            known.add(event.event_id)
            fresh.append((event, meant, _row(provider_id, event, message, meant)))
            changed |= {recipient.pk: recipient for recipient in meant if _tell(recipient, event)}
    log_of_events.record(row for _, _, row in fresh)
    rows.update_each(list(changed.values()), _WRITTEN)
    notices.note({one.message_id for one in changed.values() if notices.has_failed(one)}, timezone.now())
    grounds = [suppressions.ground(recipient, event) for event, meant, _ in fresh for recipient in meant]
    suppressions.add([ground for ground in grounds if ground is not None], provider_id)
    tally.applied += len(fresh)
    return strange


def _locked(provider_id: uuid.UUID, events: Sequence[ProviderEvent]) -> Matches:
    """Recipients by provider message id, locked in the order in which a worker locks: messages first."""
    ids = {id_ for event in events for id_ in event.ids}
    ours = Recipient.objects.filter(provider_id=provider_id, provider_message_id__in=ids).exclude(
        provider_message_id=""  # as above
    )
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


def _whose(event: ProviderEvent, by_id: Matches) -> tuple[Message | None, list[Recipient]]:
    """The message an event is about, and its recipients of whom it tells; none when nobody can say whose it is.

    The likeliest id that is known decides: what follows may be a client's own Message-ID, in which it could name
    somebody else's mail. Where the service takes even its own ids from there (Mailgun), two tenants of a shared
    provider may have one in common; then neither is told what became of the other's mail.
    """
    candidates = next((by_id[id_] for id_ in event.ids if id_ in by_id), [])
    meant = _meant(event, candidates)
    tenants = {recipient.message.tenant_id for recipient in meant or candidates}
    if len(tenants) > 1:
        log.warning("event of an id that several tenants have", ids=event.ids, tenants=sorted(map(str, tenants)))
    if len(tenants) != 1:
        return None, []
    return (meant or candidates)[0].message, meant


def _meant(event: ProviderEvent, candidates: Sequence[Recipient]) -> list[Recipient]:
    """Of the recipients under one id, the one the event is about; none when the service does not say which."""
    if event.recipient:
        return [recipient for recipient in candidates if same(recipient.address) == same(event.recipient)]
    return list(candidates) if len(candidates) == 1 else []


def _tell(recipient: Recipient, event: ProviderEvent) -> bool:
    if not precedence.apply(recipient, event):
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
