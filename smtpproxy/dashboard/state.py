"""How things stand now: what waits, what was given up, whose health and quotas want a look."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone

from accounts import quotas
from accounts.models import Account, Tenant, User
from accounts.quotas import Period
from accounts.tenancy import Area, Verb, permits, visible_to
from delivery import queue_states
from delivery.models import DEAD_LETTERS, DUE_STATUSES, DeadLetter, Message
from providers.models import Provider
from smtpproxy.dashboard.links import to_list

MOST_COUNTED = 10_000
"""Rows counted at most; more are told as "10,000+"."""
SHOWN = 10
"""Providers or quotas shown at most."""


@dataclass(frozen=True, slots=True)
class Number:
    """A figure with its name, an address of the rows behind it ("" for none), and the tone it is shown in."""

    name: str
    value: str
    link: str = ""
    note: str = ""
    tone: str = ""


def counted(rows: QuerySet[Any]) -> str:
    found = rows.order_by()[: MOST_COUNTED + 1].count()
    return f"{MOST_COUNTED:,}+" if found > MOST_COUNTED else f"{found:,}"


def waiting(request: HttpRequest, user: User) -> list[Number]:
    """What is in the queues, what is on hold and what was given up, of the person's tenant or of the platform."""
    if not user.is_superuser and user.tenant_id is None:
        return []
    states = queue_states.messages(None if user.is_superuser else user.tenant)
    due = sum(sum(one.by_status.values()) for one in states.values())
    oldest = max((one.oldest for one in states.values()), default=0.0)
    mine, pending = visible_to(user, Message), ",".join(DUE_STATUSES)
    held, dead = (counted(mine.filter(status__in=statuses)) for statuses in (("held",), DEAD_LETTERS))
    return [
        Number(
            "Waiting",
            counted(mine.filter(status__in=DUE_STATUSES)),
            to_list(request, Message, {"status__in": pending}),
            f"{due:,} due or under way now",
        ),
        Number("Oldest is late by", ago(oldest), to_list(request, Message, {"status__in": pending, "o": "1"})),
        Number(
            "On hold", held, to_list(request, Message, {"status__exact": "held"}), tone="" if held == "0" else "warning"
        ),
        Number("Dead letters", dead, to_list(request, DeadLetter, {}), tone="" if dead == "0" else "bad"),
    ]


def ago(seconds: float) -> str:
    """`40 s`, `12 min`, `3 h`, `2 d`."""
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:,.0f} {unit}"
    return f"{seconds:,.0f} s"


@dataclass(frozen=True, slots=True)
class Health:
    name: str
    type: str
    link: str
    word: str
    why: str = ""


def health(user: User) -> list[Health]:
    """The enabled providers this person may see, those in trouble first."""
    if not permits(user, Area.PROVIDERS, Verb.READ):
        return []
    now = timezone.now()
    rows = visible_to(user, Provider).filter(enabled=True).select_related("tenant").defer("config")
    found = []
    for row in _troubled_first(rows):
        word = "healthy" if row.unhealthy_until is None else "unhealthy" if row.unhealthy_until > now else "probing"
        link = reverse("admin:providers_provider_change", args=[row.pk])
        name = f"{row.tenant or 'shared'}: {row.name}" if user.is_superuser else row.name
        found.append(Health(name, row.type, link, word, "" if word == "healthy" else row.unhealthy_reason))
    return found


def _troubled_first(rows: QuerySet[Provider]) -> Sequence[Provider]:
    troubled = list(rows.exclude(unhealthy_until=None).order_by("-unhealthy_until")[:SHOWN])
    return [*troubled, *rows.filter(unhealthy_until=None).order_by("name")[: SHOWN - len(troubled)]]


@dataclass(frozen=True, slots=True)
class QuotaUse:
    name: str
    link: str
    used: int | None
    most: int
    percent: int | None


def quota_use(user: User) -> list[QuotaUse]:
    """What is used of this month's quotas: for a tenant its own and those of its accounts, for operators of tenants;
    the fullest first."""
    found = []
    pairs: tuple[tuple[Area, type[Tenant] | type[Account]], ...] = ((Area.TENANT, Tenant), (Area.ACCOUNTS, Account))
    for area, model in pairs:
        if not permits(user, area, Verb.READ) or (user.is_superuser and model is Account):
            continue
        rows: QuerySet[Any] = visible_to(user, model)
        for row in rows.exclude(messages_per_month=None).order_by("pk")[:SHOWN]:
            month = next((one for one in quotas.usages(row) if one.quota.period is Period.MONTH), None)
            if month is not None:
                link = reverse(f"admin:accounts_{model._meta.model_name}_change", args=[row.pk])
                found.append(QuotaUse(str(row), link, month.used, month.quota.most, month.percent))
    return sorted(found, key=lambda one: -(one.percent or 0))
