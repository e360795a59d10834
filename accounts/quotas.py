"""How many messages tenants and accounts may send in a minute, an hour and a month (LIM-1).

Counters are shared by all processes and may be lost: a month's figure is then counted from the rows in the database.
While the shared store is away nothing is counted and nothing refused: see docs/quotas.md for why.
"""

from __future__ import annotations

import time
import uuid
from collections import Counter as Tally
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum

import structlog
from django.db import DatabaseError
from django.utils import timezone

from accounts import quota_store, shared_state
from accounts.models import Account, Tenant
from accounts.quota_store import Counter, Group, Missing, Taken

log = structlog.get_logger(__name__)

Owner = Tenant | Account
Count = Callable[[Owner, datetime], int]

AWAY = 5.0
"""Seconds for which a store that did not answer is not asked again: nobody's mail waits for it each time."""
MINUTE, HOUR = 60.0, 3600.0
BUCKETS = 60
"""Parts of a window; room comes back in such parts."""
ATTEMPTS = 3
"""Times figures are given to a store that forgets them at once, before it counts as away."""


class Period(StrEnum):
    MINUTE = "minute"
    HOUR = "hour"
    MONTH = "month"


@dataclass(frozen=True, slots=True)
class Quota:
    """`most` messages of one tenant or account in a period; `key` names its counter."""

    owner: Owner
    period: Period
    most: int
    key: str

    @property
    def counter(self) -> Counter:
        if self.period is Period.MONTH:
            return Counter(self.key, self.most)
        return Counter(self.key, self.most, (MINUTE if self.period is Period.MINUTE else HOUR) / BUCKETS, BUCKETS)


@dataclass(frozen=True, slots=True)
class Refusal:
    """A message for which there is no room, and the seconds until there is; `quota` is None when nobody can say."""

    quota: Quota | None
    retry_after: float


@dataclass(frozen=True, slots=True)
class Usage:
    """What is used of a quota; None when the shared store is away."""

    quota: Quota
    used: int | None

    @property
    def percent(self) -> int | None:
        return None if self.used is None else self.used * 100 // self.quota.most


@dataclass(slots=True)
class Receipt:
    """What was counted for some messages: `refusals` has one entry each, in order, None for what may come in."""

    refusals: list[Refusal | None]
    usages: list[Usage] = field(default_factory=list)
    counted: list[Sequence[tuple[str, int]]] = field(default_factory=list)

    def give_back(self, numbers: Sequence[int]) -> None:
        """Undo the count of these messages: they did not come in after all."""
        units = Tally(place for n in numbers if self.counted for place in self.counted[n])
        if not units:
            return
        try:
            quota_store.give_back([(key, bucket, many) for (key, bucket), many in units.items()])
        except shared_state.Unavailable as error:
            _note_away(error)
            _uncounted.update(key for key, bucket in units if bucket == 0)  # the month's, to be counted anew
            return
        returned = Tally({key: many for (key, _), many in units.items()})
        self.usages = [Usage(u.quota, (u.used or 0) - returned[u.quota.key]) for u in self.usages]


_count: Count | None = None
_away_until = 0.0
_uncounted: set[str] = set()


def count_with(count: Count) -> None:
    """Say how messages are counted that an owner has sent since a moment: the floor that keeps them knows."""
    global _count  # noqa: PLW0603
    _count = count


def limited(account: Account) -> bool:
    """Whether the account or its tenant (which must be loaded) has any quota."""
    return any(
        owner.messages_per_minute or owner.messages_per_hour or owner.messages_per_month
        for owner in (account, account.tenant)
    )


def quotas_of(owner: Owner) -> list[Quota]:
    """The quotas that are set for this very row."""
    month = timezone.now().astimezone(UTC).strftime("%Y-%m")
    limits = {  # where several are used up, the first of them is told: the longest
        Period.MONTH: (owner.messages_per_month, month),
        Period.HOUR: (owner.messages_per_hour, "hour"),
        Period.MINUTE: (owner.messages_per_minute, "minute"),
    }
    return [
        Quota(owner, period, most, shared_state.key("quota", owner.pk, name))
        for period, (most, name) in limits.items()
        if most
    ]


def charge(accounts: Sequence[Account]) -> Receipt:
    """Count one message for each entry, as far as there is room for it in every quota of its account and tenant.

    One round trip. Of one account's messages the first get what room there is. Never raises for the store's sake.
    """
    owned = {pk: [*quotas_of(a), *quotas_of(a.tenant)] for pk, a in {a.pk: a for a in accounts}.items()}
    quotas = list({quota.key: quota for each in owned.values() for quota in each}.values())
    try:
        return _charge(accounts, owned, quotas)
    except shared_state.Unavailable as error:
        _note_away(error)
        _uncounted.update(quota.key for quota in quotas if quota.period is Period.MONTH)
        log.error("messages not counted", messages=len(accounts), accounts=[str(pk) for pk in owned])
        return Receipt([None] * len(accounts))


def give_back_month(account: Account) -> None:
    """One message of the account that had come in was taken back."""
    both = [*quotas_of(account), *quotas_of(account.tenant)]
    Receipt([None], counted=[[(quota.key, 0) for quota in both if quota.period is Period.MONTH]]).give_back([0])


def usages(owner: Owner) -> list[Usage]:
    """What is used of the quotas set for this very row."""
    quotas = quotas_of(owner)
    if not quotas:
        return []
    try:
        known, taken = _take(quotas, lambda _: [])
    except shared_state.Unavailable as error:
        _note_away(error)
        return [Usage(quota, None) for quota in quotas]
    used = {quota.key: many for quota, many in zip(known, taken.used, strict=True)}
    return [Usage(quota, used.get(quota.key)) for quota in quotas]


def forget(owner: Owner) -> None:
    """Have the month's figure counted anew: it was not kept while there was no quota."""
    month = [quota.key for quota in quotas_of(owner) if quota.period is Period.MONTH]
    try:
        quota_store.forget(month)
    except shared_state.Unavailable as error:
        _note_away(error)
        _uncounted.update(month)


def forget_everything() -> None:
    """Ask the store again, and of it as if nothing had happened; for tests."""
    global _away_until  # noqa: PLW0603
    _away_until = 0.0
    _uncounted.clear()


def month_began() -> datetime:
    """When this calendar month began, in UTC."""
    return timezone.now().astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)


def _charge(accounts: Sequence[Account], owned: dict[uuid.UUID, list[Quota]], quotas: list[Quota]) -> Receipt:
    wanted = Tally(account.pk for account in accounts)
    asked: list[uuid.UUID] = []

    def groups(known: list[Quota]) -> list[Group]:
        number = {quota.key: n for n, quota in enumerate(known)}
        asked[:] = [pk for pk in wanted if all(quota.key in number for quota in owned[pk])]
        return [Group(wanted[pk], [number[quota.key] for quota in owned[pk]]) for pk in asked]

    known, taken = _take(quotas, groups)
    bucket = {quota.key: taken.buckets[n] for n, quota in enumerate(known)}
    granted = dict(zip(asked, taken.granted, strict=True))
    refusals = {pk: _refusal(known, taken, full) for pk, full in zip(asked, taken.full, strict=True)}
    receipt = Receipt([], [Usage(quota, used) for quota, used in zip(known, taken.used, strict=True)])
    for account in accounts:
        fits = granted.get(account.pk, 0) > 0
        granted[account.pk] = granted.get(account.pk, 0) - 1
        receipt.refusals.append(None if fits else refusals.get(account.pk, Refusal(None, 60.0)))
        receipt.counted.append([(quota.key, bucket[quota.key]) for quota in owned[account.pk]] if fits else ())
    return receipt


def _refusal(known: list[Quota], taken: Taken, full: int | None) -> Refusal | None:
    if full is None:
        return None
    if known[full].period is not Period.MONTH:
        return Refusal(known[full], taken.waits[full])
    next_month = (month_began() + timedelta(days=32)).replace(day=1)
    return Refusal(known[full], (next_month - timezone.now()).total_seconds())


def _take(quotas: list[Quota], groups: Callable[[list[Quota]], list[Group]]) -> tuple[list[Quota], Taken]:
    """Ask the store, after giving it the figures it lacks; returns the quotas it knows of, with its answer.

    A figure that cannot be counted now costs only those who need it. Raises shared_state.Unavailable.
    """
    if time.monotonic() < _away_until:
        raise shared_state.Unavailable("did not answer a moment ago")
    if again := list(_uncounted):
        quota_store.forget(again)
        _uncounted.difference_update(again)
    known = quotas
    for _ in range(ATTEMPTS):
        try:
            return known, quota_store.take([quota.counter for quota in known], groups(known))
        except Missing as missing:
            lacking = [known[n] for n in missing.counters]
        failed = [quota.key for quota in lacking if not _seed(quota)]
        known = [quota for quota in known if quota.key not in failed]
    raise shared_state.Unavailable("figures do not stay")


def _seed(quota: Quota) -> bool:
    if _count is None:
        raise RuntimeError("nobody counts messages")
    try:
        figure = _count(quota.owner, month_began())
    except DatabaseError:
        log.exception("messages of the month not counted", owner_id=str(quota.owner.pk))
        return False
    quota_store.seed(quota.key, figure)
    return True


def _note_away(error: Exception) -> None:
    global _away_until  # noqa: PLW0603
    if time.monotonic() >= _away_until:
        log.error("quotas cannot be looked up", error=f"{type(error).__name__}: {error}")
        _away_until = time.monotonic() + AWAY
