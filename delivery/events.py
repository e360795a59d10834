"""The only writer of Event: what happened, beside the state it tells of, in the same transaction (EVT-4)."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from accounts.ids import uuid7
from delivery import outbox, rows
from delivery.models import Event, EventType, Message

_event = rows.Blank(Event, "id", "tenant_id", "message_id", "type", "data", "occurred_at")


def about(message: Message, type_: EventType, when: datetime, **data: Any) -> Event:
    """An event not yet written; `data` is what its readers need beyond the message itself, never a body."""
    told = {key: value for key, value in data.items() if value not in (None, "", [], {})}
    return _event(uuid7(), message.tenant_id, message.pk, type_, told, when)


def record(events: Iterable[Event]) -> None:
    """Write events, and what subscribers are to be told of them; to be called inside the transaction that changes the
    state they report."""
    written = list(events)
    rows.insert_all(written)
    outbox.add(written)
