"""What happened in each hour, added up, so that it is known when the rows are gone (STO-5).

A total is of one hour (UTC), tenant, account and provider, and of one `what`:

- `accepted`: messages that came in, and by the word of its event what has become of a message: `delivered`, `partial`,
  `failed`, `rejected`, `discarded`, `cancelled`, `dlq`, `storage_error`, `enqueue_failed`. They have no provider. A
  message that failed, was tried again and then delivered has done both, each in its hour.
- `attempt_` and the status of a delivery log: calls to a provider, in the hour in which they began.
- `told_` and the word of a provider's event: `told_confirmed`, `told_bounced` and so on.

An hour is made when it is over, and again when the next one is, since what happens in it may be recorded later.
Making an hour twice, or twice at once, makes it once. `delivery.totals` reads statistics from them.
"""

from __future__ import annotations

import math
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias

import structlog
from django.db import connection, transaction
from django.db.models import Case, CharField, Count, F, FloatField, Func, IntegerField, Q, QuerySet, Sum, Value, When
from django.db.models.fields.json import KT
from django.db.models.functions import Cast, Concat, Floor, Greatest, Ln
from django.utils import timezone

from accounts.ids import first_at, time_of, uuid7
from accounts.models import Tenant
from delivery import chores, queues, rows
from delivery.models import DeliveryLog, Event, EventType, Total

log = structlog.get_logger(__name__)

HOUR = timedelta(hours=1)
SLICE = timedelta(minutes=10)
"""Rows of so much time are added up in one query."""
OPEN_FOR = 23 * HOUR
"""An hour with attempts under way is made again for so long; no row as young as that is ever deleted
(`delivery.expiry`)."""
NAME = "totals"
EVERY = 600.0
"""Seconds between two looks."""
STEPS = 4
"""Bounds of durations in one doubling: the bound number n is 2 ** (n / STEPS) milliseconds."""
ACCEPTED = "accepted"
ATTEMPT = "attempt_"
TOLD = "told_"
ENDED = (
    "delivered",
    "partial",
    "failed",
    "rejected",
    "discarded",
    "cancelled",
    "dlq",
    "storage_error",
    "enqueue_failed",
)

_PER_BOUND = STEPS / math.log(2)
_LOCK = 0x70_74_61_6C
"""Of the making of an hour, among PostgreSQL's advisory locks."""
_OF_A_MESSAGE = (
    EventType.RECEIVED,
    EventType.DELIVERED,
    EventType.PARTIAL,
    EventType.FAILED,
    EventType.REJECTED,
    EventType.DISCARDED,
    EventType.CANCELLED,
    EventType.DEAD_LETTER,
)

Key: TypeAlias = tuple[uuid.UUID, uuid.UUID, uuid.UUID | None, str, str]
"""Tenant, account, provider, its name, what."""


@dataclass(slots=True)
class Sums:
    """What is added up under one key; `durations` has the count for each bound."""

    count: int = 0
    recipients: int = 0
    octets: int = 0
    duration_ms: int = 0
    durations: list[int] = field(default_factory=list)

    def note_durations(self, number: int, count: int) -> None:
        self.durations += [0] * (number + 1 - len(self.durations))
        self.durations[number] += count


def bound_of(duration_ms: int) -> int:
    """The number of the bound a duration has reached; the database works it out in the same way."""
    return math.floor(math.log(max(duration_ms, 1)) * _PER_BOUND)


class _Length(Func):
    """How many entries a JSON list has."""

    function = "JSONB_ARRAY_LENGTH"
    output_field = IntegerField()

    def as_sqlite(self, compiler: Any, connection: Any, **context: Any) -> Any:
        return self.as_sql(compiler, connection, function="JSON_ARRAY_LENGTH", **context)


def hour_of(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


def made_until() -> datetime | None:
    """The end of the last hour that has totals; hours before it without any had nothing to add up. None when no hour
    has been made yet."""
    last = Total.objects.order_by("-hour").values_list("hour", flat=True).first()
    return None if last is None else last + HOUR


def settled_until() -> datetime | None:
    """Before this, rows are no longer needed for totals; None when nothing is settled yet."""
    made = made_until()
    return None if made is None else made - HOUR


def made_again_from(now: datetime) -> datetime:
    """Hours that began earlier are never made again for the attempts that were under way in them."""
    return hour_of(now - OPEN_FOR)


def make_due(turn: chores.Turn | None = None) -> int:
    """Make every hour that is over and not made, oldest first, the last one that is made already again, and those in
    which attempts were still under way. Returns how many were made; stops when the turn is over."""
    begun = 0
    for hour in _due():
        if turn is not None and turn.out_of_time():
            chores.again(NAME)
            break
        make(hour)
        begun += 1
    return begun


def _due() -> Iterator[datetime]:
    now, made = timezone.now(), made_until()
    if made is not None:
        yield from _open(now, made - HOUR)
    fresh = next_with_rows(made)
    if fresh is None or fresh + HOUR > now:
        return
    if made is not None:
        yield made - HOUR
    while fresh is not None and fresh + HOUR <= now:
        yield fresh
        fresh = next_with_rows(fresh + HOUR)


def _open(now: datetime, before: datetime) -> list[datetime]:
    """Hours with attempts of which nobody knew the outcome when they were made."""
    under_way = Total.objects.filter(hour__gte=made_again_from(now), hour__lt=before, what=f"{ATTEMPT}sending")
    return list(under_way.order_by("hour").values_list("hour", flat=True).distinct())


def next_with_rows(since: datetime | None) -> datetime | None:
    """The first hour, from `since` on, in which anything has happened."""
    found = [
        time_of(pk)
        for model in (Event, DeliveryLog)
        if (pk := _since(model, since).order_by("pk").values_list("pk", flat=True).first()) is not None
    ]
    return hour_of(min(found)) if found else None


def _since(model: type[Any], since: datetime | None) -> QuerySet[Any]:
    return model._default_manager.filter(**({} if since is None else {"pk__gte": first_at(since)}))


def make(hour: datetime) -> None:
    """Add the hour up anew, in one transaction; two at once are one after the other."""
    with transaction.atomic():
        if connection.vendor == "postgresql":
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_advisory_xact_lock(%s, %s)", [_LOCK, int(hour.timestamp()) // 3600])
        sums = add_up(hour, hour + HOUR)
        Total.objects.filter(hour=hour).delete()
        rows.insert_all([_total(hour, key, one) for key, one in sums.items()])
    log.debug("totals made", hour=hour.isoformat(), rows=len(sums))


def _total(hour: datetime, key: Key, one: Sums) -> Total:
    tenant_id, account_id, provider_id, provider_name, what = key
    return Total(
        id=uuid7(),
        hour=hour,
        tenant_id=tenant_id,
        account_id=account_id,
        provider_id=provider_id,
        provider_name=provider_name,
        what=what,
        count=one.count,
        recipients=one.recipients,
        octets=one.octets,
        duration_ms=one.duration_ms,
        durations=one.durations,
    )


def add_up(start: datetime, end: datetime, tenant: Tenant | None = None) -> dict[Key, Sums]:
    """What has happened from `start` until before `end`, from the rows themselves, of one tenant or of all."""
    sums: dict[Key, Sums] = {}
    while start < end:
        until = min(start + SLICE, end)
        _add_events(sums, _between(Event, start, until, tenant))
        _add_attempts(sums, _between(DeliveryLog, start, until, tenant))
        start = until
    return sums


def _between(model: type[Any], start: datetime, end: datetime, tenant: Tenant | None) -> QuerySet[Any]:
    """By key, which is the time: so the rows that were written one after the other are read one after the other."""
    found = model._default_manager.filter(pk__gte=first_at(start), pk__lt=first_at(end)).order_by()
    return found if tenant is None else found.filter(tenant=tenant)


def _add_events(sums: dict[Key, Sums], events: QuerySet[Event]) -> None:
    dead = Q(type=EventType.DEAD_LETTER)
    ours = Case(
        When(type=EventType.RECEIVED, then=Value(ACCEPTED)),
        When(dead & Q(reason__in=["storage_error", "enqueue_failed"]), then=F("reason")),
        When(dead, then=Value("dlq")),
        default=F("type"),
        output_field=CharField(),
    )
    reason = Cast(KT("data__reason"), CharField())  # as it is, SQLite would read what it is compared with as JSON
    by_us = events.filter(provider_event_id="", type__in=_OF_A_MESSAGE).annotate(reason=reason, what=ours)
    _add_messages(sums, by_us, "tenant_id", "message__account_id")
    told = events.exclude(provider_event_id="").annotate(what=Concat(Value(TOLD), F("type")))
    _add_messages(sums, told, "tenant_id", "message__account_id", "provider_id", "provider__name")


def _add_messages(sums: dict[Key, Sums], events: QuerySet[Event], *by: str) -> None:
    counted = events.values_list(*by, "what").annotate(
        Count("pk"), Sum("message__recipient_count"), Sum("message__size")
    )
    for tenant_id, account_id, *provider, what, count, recipients, octets in counted:
        provider_id, name = provider or (None, "")
        one = sums.setdefault((tenant_id, account_id, provider_id, name or "", what), Sums())
        one.count += count
        if provider_id is None:
            one.recipients += recipients
            one.octets += octets
        else:
            one.recipients += count  # what a provider tells is of one recipient


def _add_attempts(sums: dict[Key, Sums], attempts: QuerySet[DeliveryLog]) -> None:
    timed = Cast(Greatest(F("duration_ms"), Value(1)), FloatField())
    # Greatest of nothing and 1 is nothing on SQLite and 1 on PostgreSQL.
    bound = Case(
        When(duration_ms=None, then=Value(-1)), default=Cast(Floor(Ln(timed) * Value(_PER_BOUND)), IntegerField())
    )
    counted = (
        attempts.annotate(bound=bound, taken=_Length("recipients"))
        .values_list("tenant_id", "account_id", "provider_id", "provider_name", "status", "bound")
        .annotate(Count("pk"), Sum("taken"), Sum("message__size"), Sum("duration_ms", default=0))
    )
    for tenant_id, account_id, provider_id, name, status, number, count, recipients, octets, duration in counted:
        one = sums.setdefault((tenant_id, account_id, provider_id, name, f"{ATTEMPT}{status}"), Sums())
        one.count += count
        one.recipients += recipients
        one.octets += octets
        one.duration_ms += duration
        if number >= 0:
            one.note_durations(number, count)


def run(turn: chores.Turn) -> None:
    """Make the hours that are due; see `delivery.chores`."""
    make_due(turn)


CHORE = chores.Chore(name=NAME, queue=queues.MAINTENANCE, due=chores.every(EVERY, NAME), run=run)
