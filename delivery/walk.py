"""Going through the messages a filter means, oldest first and a window of an index at a time: however many messages
there are and however few match, each question costs the database milliseconds (DEL-9, ADM-5)."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta

from django.db.models import QuerySet

from accounts.ids import first_at
from delivery.filters import MessageFilter
from delivery.models import Message

WINDOW = 5000
"""Messages of an index that one question looks at."""
MOST_COUNTED = 100_000
COUNT_SECONDS = 5.0
_SLACK = timedelta(hours=1)
"""A message's id is made when it begins to come in, its `accepted_at` at its end."""


@dataclass(frozen=True, slots=True)
class Count:
    """How many there are, or were found until it took too long (`more`)."""

    number: int
    more: bool = False

    def __str__(self) -> str:
        if not self.more:
            return f"{self.number:,}"
        return f"more than {self.number:,}" if self.number >= MOST_COUNTED else f"at least {self.number:,}"


def count(rows: QuerySet[Message], wanted: MessageFilter) -> Count:
    """How many of `rows` match, as far as MOST_COUNTED and COUNT_SECONDS reach."""
    if wanted.by_index:
        number = wanted.narrow(rows).order_by()[: MOST_COUNTED + 1].count()
        return Count(min(number, MOST_COUNTED), number > MOST_COUNTED)
    deadline, number = time.monotonic() + COUNT_SECONDS, 0
    for found, _ in windows(rows, wanted, None, None):
        number += found.count()
        if number > MOST_COUNTED:
            return Count(MOST_COUNTED, more=True)
        if time.monotonic() > deadline:
            return Count(number, more=True)
    return Count(number)


def newest(rows: QuerySet[Message]) -> uuid.UUID | None:
    """The id of the newest of `rows`, None when there is none."""
    return rows.order_by("-pk").values_list("pk", flat=True).first()


def windows(
    rows: QuerySet[Message], wanted: MessageFilter, after: uuid.UUID | None, until: uuid.UUID | None
) -> Iterator[tuple[QuerySet[Message], uuid.UUID]]:
    """Those of `rows` that match, window by window: after one id, up to and with another. Each window, which may be
    empty, comes with the id it ends with, from where another walk may go on."""
    rows = bounded(rows, wanted)
    rows = rows if until is None else rows.filter(pk__lte=until)
    while True:
        ahead = rows if after is None else rows.filter(pk__gt=after)
        last = _end(ahead, wanted)
        if last is None:
            return
        yield wanted.narrow(ahead.filter(pk__lte=last)), last
        after = last


def bounded(rows: QuerySet[Message], wanted: MessageFilter) -> QuerySet[Message]:
    """Ids follow the time, so that a filter by time bounds the walk."""
    if wanted.tenant is not None:
        rows = rows.filter(tenant=wanted.tenant)
    if wanted.accepted_from is not None:
        rows = rows.filter(pk__gte=first_at(wanted.accepted_from - _SLACK))
    if wanted.accepted_until is not None:
        rows = rows.filter(pk__lt=first_at(wanted.accepted_until + _SLACK))
    return rows


def _end(ahead: QuerySet[Message], wanted: MessageFilter) -> uuid.UUID | None:
    """Where the next window ends, along the index that fits best: by status, account or tenant; None when nothing is
    left. The index by status is in the order of ids within one status only, so each is asked for itself."""
    if wanted.status:
        parts = [ahead.filter(status=status) for status in wanted.status]
    else:
        parts = [ahead.filter(account=wanted.account) if wanted.account is not None else ahead]
    ids = [part.order_by("pk").values_list("pk", flat=True) for part in parts]
    full = [key for part in ids for key in part[WINDOW - 1 : WINDOW]]
    if full:
        return min(full)
    return max((key for part in ids for key in part.reverse()[:1]), default=None)
