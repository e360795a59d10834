"""The only writer of Event: what happened, beside the state it tells of, in the same transaction (EVT-4)."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from delivery import rows
from delivery.models import Event, EventType, Message


def about(message: Message, type_: EventType, when: datetime, **data: Any) -> Event:
    """An event not yet written; `data` is what its readers need beyond the message itself, never a body."""
    return Event(
        tenant_id=message.tenant_id,
        message_id=message.pk,
        type=type_,
        occurred_at=when,
        data={key: value for key, value in data.items() if value not in (None, "", [], {})},
    )


def record(events: Iterable[Event]) -> None:
    """Write events; to be called inside the transaction that changes the state they report."""
    rows.insert_all(list(events))
