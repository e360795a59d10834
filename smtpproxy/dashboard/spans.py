"""Spans of time people look at, and the figures of a person's tenant in them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from django.core.cache import cache
from django.utils import timezone
from django.utils.dateparse import parse_date, parse_datetime
from django.utils.http import urlencode

from accounts.ids import first_at
from accounts.models import User
from delivery import hours, totals
from delivery.totals import Figures, Group

RANGES = {
    "1h": ("1 hour", timedelta(hours=1)),
    "24h": ("24 hours", timedelta(hours=24)),
    "7d": ("7 days", timedelta(days=7)),
    "30d": ("30 days", timedelta(days=30)),
}
USUAL = "24h"
BY_DAY_FROM = timedelta(days=4)
"""Longer spans are told by day."""
LONGEST = timedelta(days=366)
KEPT = 10
"""Seconds figures are remembered; those of long spans six times as long."""


@dataclass(frozen=True, slots=True)
class Span:
    """From `start` until before `end`, in whole hours (UTC); `problem` says what was wrong with what was asked for."""

    name: str
    start: datetime
    end: datetime
    problem: str = ""

    @property
    def by(self) -> Group:
        return Group.DAY if self.end - self.start >= BY_DAY_FROM else Group.HOUR

    @property
    def step(self) -> timedelta:
        return timedelta(days=1) if self.by is Group.DAY else hours.HOUR

    @property
    def first(self) -> datetime:
        """The key of its first hour or day."""
        return self.start.replace(hour=0) if self.by is Group.DAY else self.start

    @property
    def query(self) -> str:
        """What an address says of it."""
        if self.name != "custom":
            return urlencode({"range": self.name})
        return urlencode(
            {"range": "custom", "from": f"{self.start:%Y-%m-%dT%H:%M}", "until": f"{self.end:%Y-%m-%dT%H:%M}"}
        )

    @property
    def keys(self) -> dict[str, str]:
        """The rows of this time, as a list filters: their keys are times. Nothing bounds it that is still to come."""
        open_end = self.end > timezone.now()
        return {"id__gte": str(first_at(self.start))} | ({} if open_end else {"id__lt": str(first_at(self.end))})


def read(asked: Mapping[str, str]) -> Span:
    """The span an address asks for; the usual one where it cannot be read, with the problem."""
    name = asked.get("range", USUAL)
    if name in RANGES:
        return _until_now(name)
    start, end = _moment(asked.get("from", "")), _moment(asked.get("until", ""))
    if name == "custom" and start and end and start < end:
        if end - start > LONGEST:
            return _until_now(USUAL, "A span has at most 366 days.")
        first, last = hours.hour_of(start), hours.hour_of(end)
        return Span("custom", first, last if last == end else last + hours.HOUR)
    return _until_now(USUAL, "Give a beginning and a later end.")


def _until_now(name: str, problem: str = "") -> Span:
    now = timezone.now()
    return Span(name, hours.hour_of(now - RANGES[name][1]), hours.hour_of(now) + hours.HOUR, problem)


def _moment(text: str) -> datetime | None:
    try:
        day = parse_date(text)
        moment = datetime.combine(day, datetime.min.time()) if day else parse_datetime(text)
    except ValueError:
        return None
    if moment is None or not 1971 <= moment.year < 9999:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def figures(user: User, span: Span, group: Group | None = None) -> list[Figures]:
    """The figures of the person's tenant, or of the whole platform for an operator; remembered for some seconds."""
    if not user.is_superuser and user.tenant_id is None:
        return []
    whose = "all" if user.is_superuser else str(user.tenant_id)
    key = f"figures:{whose}:{group or 'all'}:{span.start:%Y%m%d%H}:{span.end:%Y%m%d%H}"
    found: list[Figures] | None = cache.get(key)
    if found is None:
        found = totals.read(None if user.is_superuser else user.tenant, span.start, span.end, group)
        cache.set(key, found, KEPT if span.by is Group.HOUR else 6 * KEPT)
    return found


def summed(lines: list[Figures]) -> Figures:
    """All the lines as one."""
    whole = Figures()
    for line in lines:
        whole.accepted += line.accepted
        whole.recipients += line.recipients
        whole.octets += line.octets
        whole.duration_ms += line.duration_ms
        whole.add_durations(line.durations)
        for into, what in ((whole.attempts, line.attempts), (whole.ended, line.ended), (whole.told, line.told)):
            for name, count in what.items():
                into[name] = into.get(name, 0) + count
    return whole
