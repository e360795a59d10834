"""Quotas at acceptance (LIM-1): what is counted, what a client is told, and what the rows say of a month."""

from __future__ import annotations

import math
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

from django.utils import timezone

from accounts import quota_warnings, quotas
from accounts.ids import first_at
from accounts.models import Account
from accounts.quotas import Owner, Period, Refusal
from delivery.admitted import Admitted
from delivery.exceptions import Deferred
from delivery.models import Message, MessageStatus, Notice
from delivery.submission import Accepted, Answer

LONGEST_NOTICE = timedelta(days=7)
"""How long before its message a notice may have been written; an older one is counted after all."""
PIECE = timedelta(days=1)
"""What one statement counts, so that none runs into the database's time limit: a tenth of a second a million rows
where they are vacuumed, some times that where they are not."""


def count(owner: Owner, since: datetime) -> int:
    """The messages of an owner that came in since then, by index alone; those their client was to send again aside, and
    those we wrote ourselves."""
    if isinstance(owner, Account):
        mine, tenant_id = Message.objects.filter(account_id=owner.pk), owner.tenant_id
    else:
        mine, tenant_id = Message.objects.filter(tenant_id=owner.pk), owner.pk
    total, start = 0, since
    while (end := start + PIECE) < timezone.now():
        total += mine.filter(id__gte=first_at(start), id__lt=first_at(end)).count()
        start = end
    total += mine.filter(id__gte=first_at(start)).count()
    # The status is in the tenant's index only.
    given_up = mine.filter(tenant_id=tenant_id, status=MessageStatus.ENQUEUE_FAILED, id__gte=first_at(since))
    # What we wrote ourselves is found by the notices it told of, which are few: no index knows the source.
    told = Notice.objects.filter(tenant_id=tenant_id, id__gte=first_at(since - LONGEST_NOTICE), sent__isnull=False)
    ours = mine.filter(id__gte=first_at(since), pk__in=told.values("sent"))
    return max(0, total - given_up.count() - ours.count())


@contextmanager
def charged(admitted: Sequence[Admitted], answers: dict[int, Answer]) -> Iterator[list[Admitted]]:
    """Those of the messages for which there is room; the others are answered.

    What is not newly accepted by the answers at the end gives its count back. A batch in which nobody has a quota costs
    nothing.
    """
    if not any(quotas.limited(one.account) for one in admitted):
        yield list(admitted)
        return
    limited = [one for one in admitted if quotas.limited(one.account)]
    receipt = quotas.charge([one.account for one in limited])
    for one, refusal in zip(limited, receipt.refusals, strict=True):
        if refusal is not None:
            answers[id(one.submission)] = deferred(refusal)
    try:
        yield [one for one in admitted if id(one.submission) not in answers]
    finally:
        receipt.give_back([n for n, one in enumerate(limited) if not _new(answers.get(id(one.submission)))])
        quota_warnings.warn(receipt.usages)


def _new(answer: Answer | None) -> bool:
    return isinstance(answer, Accepted) and not answer.repeated


def withdrawn(message_id: uuid.UUID) -> None:
    """A message of which its client was not told was taken back; windows, which pass, keep it."""
    message = Message.objects.select_related("account__tenant").get(pk=message_id)
    if quotas.limited(message.account):
        quotas.give_back_month(message.account)


def deferred(refusal: Refusal) -> Deferred:
    """What a client is told: which limit it is, whose, and when there is room again (SMTP-14)."""
    quota = refusal.quota
    if quota is None:
        text = "Whether this account's quota has room cannot be told now; please try again."
        return Deferred(text, code="quota_unknown", status="4.3.0", retry_after=refusal.retry_after)
    who = "This account" if isinstance(quota.owner, Account) else "This tenant"
    many = f"{quota.most:,} message{'' if quota.most == 1 else 's'} a {quota.period}"
    if quota.period is Period.MONTH:
        until = timezone.now() + timedelta(seconds=refusal.retry_after)
        when = f"the next month begins on {until.astimezone(UTC):%Y-%m-%d} at 00:00 UTC"
        status = "4.2.2"
    else:
        when, status = f"try again in {max(1, math.ceil(refusal.retry_after))} s", "4.7.1"
    text = f"{who} may send {many}; {when}"
    return Deferred(text, code=f"quota_{quota.period}", status=status, retry_after=refusal.retry_after)
