"""Tell people that a month's quota goes to its end: 80, 90 and 100 % (LIM-1)."""

from __future__ import annotations

from collections.abc import Sequence

import structlog
from django.db import DatabaseError

from accounts.models import Account, QuotaWarning
from accounts.quotas import Period, Usage, month_began

log = structlog.get_logger(__name__)

PERCENTAGES = (80, 90, 100)
MOST_NOTED = 10_000

_noted: set[tuple[str, int, int]] = set()


def warn(usages: Sequence[Usage]) -> None:
    """Write a QuotaWarning and a line to the log for every percentage that is reached and not told of yet.

    The row's uniqueness makes it once over all processes, whatever the shared store has forgotten. Never raises for
    the database's sake: the next message tries again.
    """
    for usage in usages:
        if usage.quota.period is not Period.MONTH or usage.percent is None:
            continue
        for percent in PERCENTAGES:
            noted = (usage.quota.key, usage.quota.most, percent)
            if usage.percent < percent or noted in _noted:
                continue
            try:
                _write(usage, percent)
            except DatabaseError:
                log.exception("warning about a quota not written", owner_id=str(usage.quota.owner.pk))
                return
            if len(_noted) > MOST_NOTED:
                _noted.clear()
            _noted.add(noted)


def forget_noted() -> None:
    """Look at the rows again; for tests."""
    _noted.clear()


def _write(usage: Usage, percent: int) -> None:
    owner, most = usage.quota.owner, usage.quota.most
    account = owner if isinstance(owner, Account) else None
    tenant_id = owner.pk if account is None else account.tenant_id
    _, new = QuotaWarning.objects.get_or_create(
        tenant_id=tenant_id,
        account=account,
        month=month_began().date(),
        percent=percent,
        most=most,
        defaults={"used": usage.used or 0},
    )
    if new:
        log.warning(
            "quota nearly used up" if percent < 100 else "quota used up",
            tenant_id=str(tenant_id),
            account_id=str(account.pk) if account else None,
            percent=percent,
            used=usage.used,
            quota=most,
        )
