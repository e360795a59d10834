"""What happened to a message, in one line from its receipt to its end: events and attempts merged (DEL-7, ADM-2)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from delivery.models import DeliveryLog, Event
from providers.fidelity import Fidelity, Verdict

MOST = 200
"""Entries of one timeline."""
NAMED = 5
"""Recipients an entry names; of the rest it tells how many there are."""

_OWN_PLACE = frozenset({"recipient", "recipients", "provider_message_id", "code", "reason", "text"})
"""What of an event's data has a place of its own in an entry."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One step. `since` is the time from the step before (None for the first), `took` how long an attempt lasted.

    `words` is what the provider, or we ourselves, said of it; `facts` is what else is known of it.
    """

    when: datetime
    label: str
    row: Event | DeliveryLog
    since: timedelta | None = None
    took: timedelta | None = None
    recipients: tuple[str, ...] = ()
    more_recipients: int = 0
    provider: str = ""
    provider_message_id: str = ""
    code: str = ""
    words: str = ""
    facts: Mapping[str, Any]

    @property
    def is_attempt(self) -> bool:
        return isinstance(self.row, DeliveryLog)


def entries(
    events: Iterable[Event], attempts: Iterable[DeliveryLog], providers: Mapping[Any, str], most: int = MOST
) -> list[Entry]:
    """The first `most` steps in the order they happened; `providers` are names by key, for what providers told."""
    steps = [(event.occurred_at, event.pk, event) for event in events]
    steps += [(attempt.created_at, attempt.pk, attempt) for attempt in attempts]  # type: ignore[misc]
    steps.sort(key=lambda step: step[:2])
    return list(_told((row for _, _, row in steps[:most]), providers))


def _told(rows: Iterable[Event | DeliveryLog], providers: Mapping[Any, str]) -> Iterator[Entry]:
    before: datetime | None = None
    for row in rows:
        when = row.created_at if isinstance(row, DeliveryLog) else row.occurred_at
        since = None if before is None else when - before
        yield _attempt(row, since) if isinstance(row, DeliveryLog) else _event(row, since, providers)
        before = when


def _attempt(row: DeliveryLog, since: timedelta | None) -> Entry:
    facts: dict[str, Any] = {}
    if row.fidelity:
        facts["fidelity"] = str(Verdict(Fidelity(row.fidelity), tuple(row.lost)))
    if row.removed:
        facts["headers left out"] = list(row.removed)
    code = " ".join(str(one) for one in dict.fromkeys((row.response_code or "", row.error_code)) if one)
    return Entry(
        when=row.created_at,
        label=f"attempt {row.attempt_number}",
        row=row,
        since=since,
        took=None if row.duration_ms is None else timedelta(milliseconds=row.duration_ms),
        recipients=tuple(row.recipients[:NAMED]),
        more_recipients=max(0, len(row.recipients) - NAMED),
        provider=f"{row.provider_name} ({row.provider_type})" if row.provider_type else row.provider_name,
        provider_message_id=row.provider_message_id,
        code=code,
        words=row.error_text,
        facts=facts,
    )


def _event(row: Event, since: timedelta | None, providers: Mapping[Any, str]) -> Entry:
    data = dict(row.data)
    named, more = _recipients(data)
    said = [str(data[name]) for name in ("reason", "text") if data.get(name)]
    return Entry(
        when=row.occurred_at,
        label=row.get_type_display(),
        row=row,
        since=since,
        recipients=named,
        more_recipients=more,
        provider=providers.get(row.provider_id, ""),
        provider_message_id=str(data.get("provider_message_id", "")),
        code=str(data.get("code", "")),
        words=": ".join(said),
        facts={name: value for name, value in data.items() if name not in _OWN_PLACE},
    )


def _recipients(data: Mapping[str, Any]) -> tuple[tuple[str, ...], int]:
    """The recipients an event names, and how many it has besides."""
    if data.get("recipient"):
        return (str(data["recipient"]),), 0
    match data.get("recipients"):
        case dict() as each:
            told = [f"{address}: {status}" for address, status in each.items()]
        case list() as each:
            told = [str(one) for one in each]
        case int() as number:
            return (), number
        case _:
            return (), 0
    return tuple(told[:NAMED]), max(0, len(told) - NAMED)
