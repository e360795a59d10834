"""What subscribers are to be told, written in the transaction of what it tells of, so that a subscriber who is down
loses nothing (EVT-4).

Subscribers are the exchange of EVENTS_URL, which is told of everything, and tenants' webhooks. Where there is neither
nothing is written. `delivery.outgoing.relay` hands the entries on.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable, Mapping, Sequence

from django.conf import settings

from accounts import changes
from accounts.ids import uuid7
from delivery import rows
from delivery.models import DeliveryLog, Event, EventType, OutboxEntry, Webhook

RESULT = "smtp.delivery.result"
"""What the outcome of an attempt is called; it goes to the exchange only."""
TEST = "test"
"""What a person sends to a webhook to see whether it works."""
REMEMBERED = 1.0
"""Seconds for which a process remembers who subscribes, where it hears of no change: a new webhook is told of what
happens after that."""

_FAILED = frozenset({EventType.FAILED, EventType.PARTIAL, EventType.REJECTED, EventType.DEAD_LETTER})
_entry = rows.Blank(OutboxEntry, "id", "tenant_id", "channel", "event_id", "delivery_log_id")

_known: tuple[float, int, Mapping[uuid.UUID, frozenset[str]]] = (float("-inf"), 0, {})


def name_of(type_: str) -> str:
    """What subscribers call an event: `mail.failed` where a recipient was not reached for good, else its own type."""
    return "mail.failed" if type_ in _FAILED else f"mail.{type_}"


NAMES = tuple(dict.fromkeys(name_of(type_) for type_ in EventType.values))
"""Everything a webhook may ask for."""


def add(events: Sequence[Event]) -> None:
    """Write an entry for each event and channel that wants it, inside the transaction that writes the events."""
    if not events:
        return
    wanted = _subscriptions()
    entries = _for_broker((event.tenant_id, event.pk, None) for event in events)
    entries += [
        _entry(uuid7(), event.tenant_id, OutboxEntry.Channel.WEBHOOKS, event.pk, None)
        for event in events
        if event.tenant_id in wanted and name_of(event.type) in wanted[event.tenant_id]
    ]
    rows.insert_all(entries)


def add_attempts(attempts: Iterable[DeliveryLog]) -> None:
    """As `add`, for attempts that have an outcome now."""
    rows.insert_all(_for_broker((attempt.tenant_id, None, attempt.pk) for attempt in attempts))


def forget() -> None:
    """Ask anew who subscribes."""
    global _known  # noqa: PLW0603
    _known = (float("-inf"), 0, {})


def _for_broker(told: Iterable[tuple[uuid.UUID, uuid.UUID | None, uuid.UUID | None]]) -> list[OutboxEntry]:
    if not settings.EVENTS_URL:
        return []
    broker = OutboxEntry.Channel.BROKER
    return [_entry(uuid7(), tenant_id, broker, event_id, log_id) for tenant_id, event_id, log_id in told]


def _subscriptions() -> Mapping[uuid.UUID, frozenset[str]]:
    """Tenant → the names its webhooks want."""
    global _known  # noqa: PLW0603
    # Several threads come here: each looks at what was set at once.
    asked_at, mark, known = _known
    if time.monotonic() - asked_at >= REMEMBERED or changes.since(mark, "webhook"):
        mark = changes.mark()
        found: dict[uuid.UUID, frozenset[str]] = {}
        enabled = Webhook.objects.filter(enabled=True).order_by().values_list("tenant_id", "event_types")
        for tenant_id, names in enabled:
            found[tenant_id] = found.get(tenant_id, frozenset()) | frozenset(names or NAMES)
        known = found
        _known = (time.monotonic(), mark, found)
    return known
