"""Statistics over any span of time: from the totals of the hours that are made, and from the rows of the others.

What is counted as `sent`, `delivered`, `failed` and so on are calls to providers (delivery logs): a message that is
taken at the third try was sent three times and delivered once. Beside them stand the messages that came in and what
became of them. The words are those of `delivery.hours`.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from django.db.models import Sum
from django.utils import timezone

from accounts.models import Tenant
from delivery import hours
from delivery.hours import ACCEPTED, ATTEMPT, ENDED, HOUR, STEPS, TOLD
from delivery.models import Total


class Group(StrEnum):
    """What a statistic is broken down by."""

    HOUR = "hour"
    DAY = "day"
    PROVIDER = "provider"
    ACCOUNT = "account"
    TENANT = "tenant"
    STATUS = "status"


@dataclass(slots=True)
class Figures:
    """One line of a statistic.

    `key` is the hour or day (its beginning, UTC), the id of the provider or account (None for what has been deleted: a
    provider is still named by `label`, accounts are one line), or the status; None where nothing is broken down.
    `attempts` counts calls by status, `ended` messages by what became of them, `told` what providers have told since.
    `recipients` and `octets` are of the calls.
    """

    key: Any = None
    label: str = ""
    attempts: dict[str, int] = field(default_factory=dict)
    accepted: int = 0
    ended: dict[str, int] = field(default_factory=dict)
    told: dict[str, int] = field(default_factory=dict)
    recipients: int = 0
    octets: int = 0
    duration_ms: int = 0
    durations: list[int] = field(default_factory=list, repr=False)

    @property
    def sent(self) -> int:
        return sum(self.attempts.values())

    @property
    def delivered(self) -> int:
        """Calls whose message the provider took, for some of its recipients at least."""
        return self.attempts.get("delivered", 0) + self.attempts.get("partial", 0)

    @property
    def failed(self) -> int:
        return self.attempts.get("failed", 0)

    @property
    def dlq(self) -> int:
        """Calls that were the last try of a dead letter."""
        return self.attempts.get("dlq", 0)

    @property
    def delivery_rate(self) -> float | None:
        """The share of calls with a last word that were delivered; those tried again count when they are."""
        known = self.delivered + self.failed + self.dlq
        return self.delivered / known if known else None

    @property
    def mean_ms(self) -> float | None:
        timed = sum(self.durations)
        return self.duration_ms / timed if timed else None

    @property
    def p95_ms(self) -> int | None:
        return percentile(self.durations, 0.95)

    def count(self, what: str, count: int) -> None:
        for prefix, counts in ((ATTEMPT, self.attempts), (TOLD, self.told)):
            if what.startswith(prefix):
                counts[what.removeprefix(prefix)] = counts.get(what.removeprefix(prefix), 0) + count
        if what == ACCEPTED:
            self.accepted += count
        elif what in ENDED:
            self.ended[what] = self.ended.get(what, 0) + count

    def add_durations(self, durations: list[int]) -> None:
        self.durations += [0] * (len(durations) - len(self.durations))
        for number, count in enumerate(durations):
            self.durations[number] += count


@dataclass(slots=True)
class _Line:
    """What an hour, or several together, bring to a line of the statistic. Fields nobody asked for are None."""

    hour: datetime | None
    tenant: uuid.UUID | None
    account: uuid.UUID | None
    provider: uuid.UUID | None
    provider_name: str | None
    what: str
    count: int = 0
    recipients: int = 0
    octets: int = 0
    duration_ms: int = 0
    durations: list[int] = field(default_factory=list)


_ASKED: dict[Group | None, tuple[str, ...]] = {
    Group.HOUR: ("hour",),
    Group.DAY: ("hour",),
    Group.ACCOUNT: ("account_id",),
    Group.TENANT: ("tenant_id",),
    Group.PROVIDER: ("provider_id", "provider_name"),
    Group.STATUS: (),
    None: (),
}


def read(
    tenant: Tenant | None,
    start: datetime,
    end: datetime,
    group_by: Group | None = None,
    *,
    account: uuid.UUID | None = None,
    provider: uuid.UUID | None = None,
) -> list[Figures]:
    """The figures of a tenant, or of all, from the hour of `start` to that of `end`, in the order of their keys; of one
    account, or of one provider, where that is asked for.

    Whole hours: the one in which `start` lies counts, and so does the one in which `end` lies unless it is its first
    moment. Nothing lies in the future. Broken down by provider there are no messages, and by status calls alone.
    """
    first, last = hours.hour_of(start), hours.hour_of(end)
    last = min(last if last == end else last + HOUR, hours.hour_of(timezone.now()) + HOUR)
    figures: dict[Any, Figures] = {} if group_by else {None: Figures()}
    of = {name: key for name, key in (("account_id", account), ("provider_id", provider)) if key is not None}
    for line in _lines(tenant, first, last, _ASKED[group_by], of):
        place = _place(line, group_by)
        if place is None:
            continue
        key, label = place
        one = figures.setdefault(key or label or None, Figures(key, label))
        one.count(line.what, line.count)
        if line.what.startswith(ATTEMPT):
            one.recipients += line.recipients
            one.octets += line.octets
            one.duration_ms += line.duration_ms
            one.add_durations(line.durations)
    return sorted(figures.values(), key=lambda one: (str(one.key or ""), one.label))


def _place(line: _Line, group_by: Group | None) -> tuple[Any, str] | None:
    """Key and label of the figures the line belongs to; None when it belongs to none."""
    attempt, message = line.what.startswith(ATTEMPT), not line.what.startswith((ATTEMPT, TOLD))
    match group_by:
        case Group.HOUR if line.hour:
            return line.hour, f"{line.hour:%Y-%m-%d %H:00}"
        case Group.DAY if line.hour:
            return line.hour.replace(hour=0), f"{line.hour:%Y-%m-%d}"
        case Group.ACCOUNT | Group.TENANT:
            return line.account if group_by is Group.ACCOUNT else line.tenant, ""
        case Group.PROVIDER:
            return None if message else (line.provider, line.provider_name or "")
        case Group.STATUS:
            status = line.what.removeprefix(ATTEMPT)
            return (status, status) if attempt else None
    return None, ""


def _lines(
    tenant: Tenant | None, first: datetime, last: datetime, asked: tuple[str, ...], of: dict[str, uuid.UUID]
) -> Iterator[_Line]:
    made = hours.made_until()
    if made is not None:
        yield from _of_totals(tenant, first, min(last, made), asked, of)
    hour = hours.next_with_rows(first if made is None else max(first, made))
    while hour is not None and hour < last:
        for (owner, account, provider, name, what), one in hours.add_up(hour, hour + HOUR, tenant).items():
            if of.get("account_id", account) != account or of.get("provider_id", provider) != provider:
                continue
            yield _Line(
                hour,
                owner,
                account,
                provider,
                name,
                what,
                one.count,
                one.recipients,
                one.octets,
                one.duration_ms,
                one.durations,
            )
        hour = hours.next_with_rows(hour + HOUR)


def _of_totals(
    tenant: Tenant | None, first: datetime, last: datetime, asked: tuple[str, ...], of: dict[str, uuid.UUID]
) -> Iterator[_Line]:
    totals = Total.objects.filter(hour__gte=first, hour__lt=last, **of).order_by()
    if tenant is not None:
        totals = totals.filter(tenant=tenant)

    def line(*values: Any) -> _Line:
        known = dict(zip(asked, values, strict=False))
        place = [known.get(name) for name in ("hour", "tenant_id", "account_id", "provider_id", "provider_name")]
        return _Line(*place, *values[len(asked) :])  # type: ignore[arg-type]

    sums = [Sum(name) for name in ("count", "recipients", "octets", "duration_ms")]
    for values in totals.values_list(*asked, "what").annotate(*sums):
        yield line(*values)
    timed = totals.filter(what__startswith=ATTEMPT).exclude(durations=[])
    for *values, durations in timed.values_list(*asked, "what", "durations").iterator(chunk_size=5000):
        yield line(*values, 0, 0, 0, 0, durations)


def percentile(durations: list[int], share: float) -> int | None:
    """Milliseconds below which this share of the durations lies, to within a tenth; None when there are none."""
    wanted = sum(durations) * share
    if not wanted:
        return None
    passed = 0.0
    for number, count in enumerate(durations):
        if count and passed + count >= wanted:
            # Durations between two bounds are taken to be spread evenly on the scale of the bounds.
            return round(2 ** ((number + (wanted - passed) / count) / STEPS))
        passed += count
    raise AssertionError("unreachable")
