"""Somebody is to be told: written beside the outcome, in the same transaction, and worked off later (DEL-10).

A recipient is told of once. What fails again after a person has tried it again is no news, and what a person has ended
(cancelled, discarded) was never a failure. A notice that cannot be delivered makes no notice of its own: a report to
the sender becomes a line in the digest of the tenant's admins, and a digest ends here, with an error in the log.
"""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

import structlog
from django.db.models import Q

from delivery.models import PENDING_STATUSES, Message, MessageStatus, Notice, Recipient, RecipientStatus
from delivery.precedence import SOFT_BOUNCE
from delivery.suppressions import SUPPRESSED

log = structlog.get_logger(__name__)

SOFT_WAIT = timedelta(hours=1)
"""A soft bounce is told of after this long, unless the recipient is confirmed meanwhile: services go on trying after
some of them."""
CANCELLED = "cancelled"
"""Error code of recipients that a person has ended."""
_GIVEN_UP = (MessageStatus.DLQ, MessageStatus.STORAGE_ERROR)
_FAILED = (
    Q(status__in=(RecipientStatus.FAILED, RecipientStatus.BOUNCED)) & ~Q(error_code=CANCELLED)
    # Nobody else tells of those who were not mailed at all.
    | Q(status=RecipientStatus.SUPPRESSED, error_code=SUPPRESSED)
)


def has_failed(recipient: Recipient) -> bool:
    """Whether somebody is to be told of this recipient, as far as the row itself can say."""
    if recipient.status == RecipientStatus.SUPPRESSED:
        return recipient.error_code == SUPPRESSED
    return recipient.status in {RecipientStatus.FAILED, RecipientStatus.BOUNCED} and recipient.error_code != CANCELLED


def note(ids: Collection[uuid.UUID], now: datetime) -> None:
    """Write down who is to be told of the recipients of these messages that have failed for good.

    To be called inside the transaction of the outcome, when messages and recipients are written and the messages
    locked: two writers then never tell of the same recipient.
    """
    if not ids:
        return
    messages = list(
        Message.objects.filter(pk__in=ids)
        .select_related("account")
        .only("tenant_id", "status", "status_reason", "source", "mail_from", "account__failure_notice")
        .order_by("pk")
    )
    ours = [message for message in messages if message.source == Message.Source.NOTICE]
    if ours:
        _own_failures(ours, now)
    told = _told(ids)
    failed = _failed([message for message in messages if message not in ours])
    rows = []
    for message in messages:
        fresh = [entry for entry in failed.get(message.pk, ()) if entry["address"] not in told[message.pk]]
        for soft in (False, True):
            entries = [entry for entry in fresh if (entry["code"] == SOFT_BOUNCE) is soft]
            if entries:
                rows.append(_notice(message, entries, now, SOFT_WAIT if soft else timedelta(0)))
    Notice.objects.bulk_create(rows)
    for row in rows:
        log.info("notice", message_id=str(row.message_id), kind=str(row.kind), recipients=len(row.recipients))


def alarm(messages: Iterable[Message], now: datetime) -> None:
    """The tenants' admins are to be told that mail is held which nobody wanted held (DEL-8); one row for each tenant,
    as there may be very many such messages. To be called like `note`."""
    first: dict[uuid.UUID, Message] = {}
    for message in messages:
        if message.source != Message.Source.NOTICE:
            first.setdefault(message.tenant_id, message)
    rows = [
        Notice(
            tenant_id=message.tenant_id,
            message_id=message.pk,
            kind=Notice.Kind.EMAIL,
            recipients=[],
            text=message.status_reason[:500],
            next_attempt_at=next_minute(now),
            created_at=now,
        )
        for message in first.values()
    ]
    Notice.objects.bulk_create(rows)
    for message in first.values():
        log.error(
            "mail is held", message_id=str(message.pk), tenant_id=str(message.tenant_id), reason=message.status_reason
        )


def failed_now(messages: Sequence[Message]) -> dict[uuid.UUID, dict[str, dict[str, Any]]]:
    """Entries, by message and address, of the recipients that are as good as failed at this moment."""
    return {pk: {entry["address"]: entry for entry in entries} for pk, entries in _failed(messages).items()}


def next_minute(now: datetime) -> datetime:
    """When a digest is looked at: what fails within a minute comes to the same one."""
    return now.replace(second=0, microsecond=0) + timedelta(minutes=1)


def _told(ids: Collection[uuid.UUID]) -> dict[uuid.UUID, set[str]]:
    told: dict[uuid.UUID, set[str]] = defaultdict(set)
    for message_id, entries in Notice.objects.filter(message__in=ids).values_list("message_id", "recipients"):
        told[message_id] |= {entry["address"] for entry in entries}
    return told


def _failed(messages: Sequence[Message]) -> dict[uuid.UUID, list[dict[str, Any]]]:
    """What the rows say, and not who has just changed them: a provider may have told better meanwhile."""
    failed: dict[uuid.UUID, list[dict[str, Any]]] = defaultdict(list)
    given_up = [message.pk for message in messages if message.status in _GIVEN_UP]
    why = {message.pk: message.status_reason for message in messages}
    rows = (
        Recipient.objects.filter(message__in=messages)
        .filter(_FAILED | Q(message__in=given_up, status__in=PENDING_STATUSES))
        .order_by("pk")
        .values_list("message_id", "address", "status", "error_code", "error_text", "provider__type")
    )
    for message_id, address, status, code, text, provider in rows:
        entry = {"address": address, "status": status, "code": code, "text": text or why[message_id]}
        failed[message_id].append({**entry, "provider": provider} if provider else entry)
    return failed


def _notice(message: Message, entries: list[dict[str, Any]], now: datetime, wait: timedelta) -> Notice:
    kind = Notice.Kind(message.account.failure_notice)
    if kind is Notice.Kind.DSN and not message.mail_from:
        kind = Notice.Kind.EMAIL  # RFC 5321 §4.5.5: never a report of what has the empty sender
    return Notice(
        tenant_id=message.tenant_id,
        message_id=message.pk,
        kind=kind,
        recipients=entries,
        next_attempt_at=next_minute(now + wait) if kind is Notice.Kind.EMAIL else now + wait,
        created_at=now,
    )


def _own_failures(messages: Sequence[Message], now: datetime) -> None:
    """Notices whose mail reached nobody."""
    reached = set(
        Recipient.objects.filter(message__in=messages)
        .exclude(_FAILED)
        .exclude(status__in=PENDING_STATUSES, message__status__in=_GIVEN_UP)
        .values_list("message_id", flat=True)
    )
    for message in messages:
        log.error(
            "notice not delivered",
            message_id=str(message.pk),
            tenant_id=str(message.tenant_id),
            reason=message.status_reason,
            to_nobody=message.pk not in reached,
        )
        if message.pk in reached:
            continue
        why = f"Its mail {message.pk} could not be delivered. {message.status_reason}"[:500]
        told = Notice.objects.filter(sent=message.pk, status=Notice.Status.DONE)
        told.filter(kind=Notice.Kind.EMAIL).update(status=Notice.Status.FAILED, text=why)
        told.filter(kind=Notice.Kind.DSN).update(
            kind=Notice.Kind.EMAIL,
            status=Notice.Status.PENDING,
            text=why,
            tries=0,
            next_attempt_at=next_minute(now),
            finished_at=None,
        )
