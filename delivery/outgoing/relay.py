"""Hands the entries of the outbox on: to the exchange of EVENTS_URL, and as deliveries to tenants' webhooks (EVT-4).

An entry is deleted once the broker has confirmed it, or in the transaction that records the deliveries. So each is
handed on at least once, and more often when a worker dies in between: consumers know it again by its id.
"""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

import structlog
from django.conf import settings
from django.db import transaction
from django.db.models import Q, QuerySet
from django.utils import timezone

from accounts import shared_state
from accounts.ids import uuid7
from delivery import chores, queues
from delivery.exceptions import ExchangeUnavailable
from delivery.models import Event, OutboxEntry, Webhook, WebhookDelivery
from delivery.outbox import name_of
from delivery.outgoing import exchange, payloads
from delivery.outgoing.exchange import Exchange, Outgoing

log = structlog.get_logger(__name__)

PAGE = 250
LEASE = timedelta(minutes=2)
"""How long a page belongs to the relay that publishes it."""
LONGEST_PAUSE = 60
"""Seconds until a broker that is away is tried again, at most."""


def publish(turn: chores.Turn) -> None:
    """Publish what waits for the exchange, in the order of its entries, until nothing is left or time is up.

    While the broker is away the entries stay, and it is tried again after 2, 4, 8 … 60 seconds.
    """
    page = _leased()
    if not page:
        return
    try:
        with exchange.opened() as channel:
            while page:
                _publish(channel, page)
                page = [] if turn.out_of_time() else _leased()
    except ExchangeUnavailable as error:
        _let_go(page)
        log.error("events not published", pause=_pause(), error=str(error))
    else:
        _forget_pause()


def fan_out(turn: chores.Turn) -> None:
    """Record a delivery for every webhook that wants an event, until nothing is left or time is up."""
    while _fan_out_page() and not turn.out_of_time():
        pass


def _broker_due() -> bool:
    return bool(settings.EVENTS_URL) and not _paused() and _free(timezone.now()).exists()


def _webhooks_due() -> bool:
    return _of(OutboxEntry.Channel.WEBHOOKS).exists()


PUBLISH = chores.Chore(name="outbox-broker", queue=queues.EVENTS, due=_broker_due, run=publish)
FAN_OUT = chores.Chore(name="outbox-webhooks", queue=queues.EVENTS, due=_webhooks_due, run=fan_out)


def _of(channel: OutboxEntry.Channel) -> QuerySet[OutboxEntry]:
    return OutboxEntry.objects.filter(channel=channel).order_by("id")


# --- The exchange -------------------------------------------------------------------------------------------------
def _free(now: datetime) -> QuerySet[OutboxEntry]:
    return _of(OutboxEntry.Channel.BROKER).filter(Q(lease_until=None) | Q(lease_until__lt=now))


def _leased() -> list[OutboxEntry]:
    """The next page, which nobody else publishes for as long as LEASE."""
    now = timezone.now()
    with transaction.atomic():
        page = list(_free(now).select_for_update(skip_locked=True)[:PAGE])
        if page:
            OutboxEntry.objects.filter(pk__in=[entry.pk for entry in page]).update(lease_until=now + LEASE)
    return page


def _publish(channel: Exchange, page: Sequence[OutboxEntry]) -> None:
    refused = channel.publish(_outgoing(page))
    done = [entry for entry in page if str(entry.event_id or entry.delivery_log_id) not in refused]
    OutboxEntry.objects.filter(pk__in=[entry.pk for entry in done]).delete()
    if refused:
        raise ExchangeUnavailable(f"The broker refused {len(refused)} events.")


def _outgoing(page: Sequence[OutboxEntry]) -> Iterator[Outgoing]:
    told = payloads.of_events([entry.event_id for entry in page if entry.event_id])
    told |= payloads.of_attempts([entry.delivery_log_id for entry in page if entry.delivery_log_id])
    for entry in page:
        payload = told.get(entry.event_id or entry.delivery_log_id or entry.pk)
        if payload is not None:  # else its message is gone, and nobody is to be told of it
            yield Outgoing(payload["id"], payload["type"], payloads.as_json(payload))


def _let_go(page: Sequence[OutboxEntry]) -> None:
    """Whoever tries next need not wait for the lease to end."""
    OutboxEntry.objects.filter(pk__in=[entry.pk for entry in page]).update(lease_until=None)


_PAUSED, _FAILED = shared_state.key("outbox-paused"), shared_state.key("outbox-failed")


def _pause() -> int | None:
    """Leave the broker alone for a while, longer each time; returns the seconds, None when that could not be noted."""
    try:
        server = shared_state.client()
        failed = int(server.incr(_FAILED))
        seconds = min(LONGEST_PAUSE, 2 ** min(failed, 10))
        server.expire(_FAILED, 10 * LONGEST_PAUSE)
        server.set(_PAUSED, 1, ex=seconds)
    except shared_state.Unavailable:
        return None
    return seconds


def _paused() -> bool:
    try:
        return bool(shared_state.client().exists(_PAUSED))
    except shared_state.Unavailable:
        return False


def _forget_pause() -> None:
    try:
        shared_state.client().delete(_FAILED, _PAUSED)
    except shared_state.Unavailable as error:
        log.warning("pause not forgotten", error=str(error))


# --- Webhooks -----------------------------------------------------------------------------------------------------
def _fan_out_page() -> bool:
    """One page in one transaction; whether there was one."""
    now = timezone.now()
    with transaction.atomic():
        page = dict(
            _of(OutboxEntry.Channel.WEBHOOKS).select_for_update(skip_locked=True).values_list("pk", "event_id")[:PAGE]
        )
        if page:
            record_deliveries([event_id for event_id in page.values() if event_id], now)
            OutboxEntry.objects.filter(pk__in=page).delete()
    return bool(page)


def record_deliveries(event_ids: Sequence[uuid.UUID], now: datetime, only: Sequence[Webhook] | None = None) -> None:
    """A delivery of each event to each enabled webhook that wants it (or each of `only`), where there is none yet."""
    found = Event.objects.filter(pk__in=event_ids).order_by("pk")
    events = list(found.values_list("pk", "tenant_id", "type", "message__account_id"))
    webhooks: dict[uuid.UUID, list[Webhook]] = defaultdict(list)
    tenants = {tenant_id for _, tenant_id, _, _ in events}
    enabled = Webhook.objects.filter(tenant__in=tenants, enabled=True).defer("secrets")
    for webhook in enabled if only is None else only:
        webhooks[webhook.tenant_id].append(webhook)
    WebhookDelivery.objects.bulk_create(
        [
            WebhookDelivery(
                id=uuid7(),
                tenant_id=tenant_id,
                webhook=webhook,
                event_id=event_id,
                next_attempt_at=now,
                created_at=now,
            )
            for event_id, tenant_id, type_, account_id in events
            for webhook in webhooks[tenant_id]
            if wants(webhook, type_, account_id)
        ],
        ignore_conflicts=True,
    )


def wants(webhook: Webhook, type_: str, account_id: uuid.UUID) -> bool:
    """Whether a webhook is to be told of an event of this type of a message of this account."""
    if webhook.account_id is not None and webhook.account_id != account_id:
        return False
    return not webhook.event_types or name_of(type_) in webhook.event_types
