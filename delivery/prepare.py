"""From a claimed message and its bytes to the jobs of this claim: which recipients go to which candidates."""

from __future__ import annotations

from collections.abc import Sequence

from django.utils import timezone

from accounts.models import Tenant
from delivery import events, mime, routing
from delivery.claims import Claimed
from delivery.jobs import Job, Work
from delivery.models import DeliveryLog, EventType, Message, Recipient, RecipientStatus
from delivery.outcome import DISCARDED_BY_RULE, REJECTED_BY_RULE
from delivery.suppressions import SUPPRESSED
from providers import conditions, connections
from providers.base import OutboundMessage
from providers.exceptions import Misconfigured
from providers.models import Provider, RoutingRule

HOLD_UNKNOWN = "The provider's answer was lost; it may have taken the message. Release sends it again."


def outbound(claimed: Claimed, stored: bytes) -> OutboundMessage:
    """The message as it may leave us: what was stored, without the headers nobody else may see (SMTP-8, PRV-3)."""
    message = claimed.message
    raw, removed = as_sent(stored)
    return OutboundMessage(
        message_id=str(message.pk),
        idempotency_key="",
        mail_from=message.mail_from,
        recipients=(),
        envelope_recipients=tuple(recipient.address for recipient in claimed.recipients),
        raw=raw,
        removed=removed,
        smtputf8=message.smtputf8,
        parse=mime.parse,
    )


def as_sent(stored: bytes) -> tuple[bytes, tuple[str, ...]]:
    """The octets that leave us, from those that were stored, and what was removed: the same at every call."""
    return mime.without_headers(stored)


def plan(claimed: Claimed, message: OutboundMessage) -> Work:
    """The jobs of this claim; recipients that get none are settled or say why they wait."""
    work = Work(claimed)
    table = routing.table_for(claimed.message.tenant)
    if claimed.message.source == Message.Source.NOTICE:
        table = routing.without_refusals(table)
    facts = _Facts(claimed, message, with_headers=bool(table.rules))
    open_recipients = _without_suppressed(work, _after_lost_answers(work, table, facts))
    for group in _routes(claimed, table, open_recipients, facts):
        _apply(work, group)
    return work


def _routes(
    claimed: Claimed, table: routing.Table, recipients: Sequence[Recipient], facts: _Facts
) -> list[routing.Group]:
    """As a person has chosen, else as the rules say (DEL-9, RTE-3)."""
    message = claimed.message
    if message.routed_to_id is None:
        return routing.plan(table, recipients, facts, released=message.released)
    return [routing.chosen(message.tenant, message.routed_to_id, recipients)] if recipients else []


def _apply(work: Work, group: routing.Group) -> None:
    match group.action:
        case RoutingRule.Action.SEND:
            unfinished = work.claimed.unfinished
            work.jobs.append(Job(work.message, group.recipients, list(group.providers), unfinished=unfinished))
        case RoutingRule.Action.HOLD:
            work.hold = group.reason
            work.held_by_rule = group.reason[:500] if group.by_rule else ""
        case RoutingRule.Action.REJECT:
            _settle(group, RecipientStatus.FAILED, REJECTED_BY_RULE)
        case RoutingRule.Action.DISCARD:
            _settle(group, RecipientStatus.SUPPRESSED, DISCARDED_BY_RULE)


def _settle(group: routing.Group, status: RecipientStatus, code: str) -> None:
    for recipient in group.recipients:
        recipient.status, recipient.error_code, recipient.error_text = status, code, group.reason
        recipient.updated_at = timezone.now()


def _without_suppressed(work: Work, recipients: Sequence[Recipient]) -> list[Recipient]:
    """Settle those who must not be mailed (EVT-2); returns the others.

    A call whose answer was lost is repeated as it was, with all its recipients: the provider may have mailed them.
    """
    claimed, now = work.claimed, timezone.now()
    if not claimed.suppressed:
        return list(recipients)
    for recipient in recipients:
        if recipient.pk not in claimed.suppressed:
            continue
        recipient.status, recipient.error_code = RecipientStatus.SUPPRESSED, SUPPRESSED
        recipient.error_text, recipient.updated_at = claimed.suppressed[recipient.pk], now
        told = events.about(
            claimed.message, EventType.SUPPRESSED, now, recipient=recipient.address, reason=recipient.error_text
        )
        told.recipient_id = recipient.pk
        work.events.append(told)
    return [recipient for recipient in recipients if recipient.pk not in claimed.suppressed]


def _after_lost_answers(work: Work, table: routing.Table, facts: _Facts) -> list[Recipient]:
    """Deal with recipients whose last attempt has no known outcome (DEL-5); returns those to be routed as usual.

    Where the provider recognises the key of that attempt, it is asked again with the same key and the same recipients.
    Otherwise the tenant's setting decides: send again, or hold.
    """
    claimed = work.claimed
    unknown = {r.address: r for r in claimed.pending if r.status == RecipientStatus.UNKNOWN}
    for attempt in reversed(claimed.unknown):
        provider = _recognising(attempt)
        if provider is None or not set(attempt.recipients) <= set(unknown):
            continue
        if claimed.message.routed_to_id not in (None, provider.pk):
            continue  # a person would rather not ask this one
        recipients = [unknown.pop(address) for address in attempt.recipients]
        # Only this provider can say what became of that attempt.
        others = [other for other in _others(claimed, table, recipients, facts) if other.pk != provider.pk]
        again = Job(work.message, recipients, [provider, *others], attempt.idempotency_key, provider.pk)
        again.unfinished = claimed.unfinished
        work.jobs.append(again)
    asked_again = {recipient.address for job in work.jobs for recipient in job.recipients}
    if unknown and _holds_unknown(claimed):
        work.hold = HOLD_UNKNOWN
        asked_again |= set(unknown)
    return [recipient for recipient in claimed.pending if recipient.address not in asked_again]


def _others(
    claimed: Claimed, table: routing.Table, recipients: Sequence[Recipient], facts: _Facts
) -> Sequence[Provider]:
    """Who may serve the recipients of a call whose answer was lost besides the provider that was called: the others
    of their route, where the tenant would rather have a message twice than wait; nobody where that would mail
    somebody who is suppressed by now, or where their routes are no longer the same."""
    if _holds_unknown(claimed) or any(recipient.pk in claimed.suppressed for recipient in recipients):
        return ()
    groups = _routes(claimed, table, recipients, facts)
    return groups[0].providers if len(groups) == 1 else ()


def _holds_unknown(claimed: Claimed) -> bool:
    return claimed.message.tenant.unknown_outcome == Tenant.UnknownOutcome.HOLD


def _recognising(attempt: DeliveryLog) -> Provider | None:
    """The attempt's provider, when it is still usable and recognises a repeated key, or what this attempt has kept."""
    if attempt.provider_id is None:
        return None
    provider = Provider.objects.filter(pk=attempt.provider_id, enabled=True).defer("config").first()
    try:
        if provider is None:
            return None
        backend = connections.backend_for(provider)
        return provider if backend.idempotent or (backend.resumes and attempt.progress) else None
    except Misconfigured:
        return None


class _Facts:
    """Facts for conditions, per recipient; the headers are read once and only where a rule may ask for them."""

    def __init__(self, claimed: Claimed, message: OutboundMessage, *, with_headers: bool) -> None:
        self._claimed = claimed
        self._now = timezone.now()
        self._headers = mime.header_items(message.raw) if with_headers else ()

    def __call__(self, recipient: Recipient) -> conditions.Facts:
        message = self._claimed.message
        return conditions.Facts(
            account=message.account.username,
            sender=message.mail_from,
            recipient=recipient.address,
            headers=self._headers,
            subject=message.subject,
            size=message.size,
            has_attachments=message.has_attachments,
            message_id=str(message.pk),
            now=self._now,
        )
