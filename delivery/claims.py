"""Who works on a message: a conditional update with a lease, so that no two workers send the same one (DEL-1)."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

import structlog
from django.conf import settings
from django.db import DatabaseError, transaction
from django.db.models import Count, F, Q
from django.utils import timezone

from delivery import caps, events, notices, outbox, queues, suppressions
from delivery.capped import Choice, choose, due
from delivery.caps import Place
from delivery.metrics import DEAD_LETTERS
from delivery.models import (
    PENDING_STATUSES,
    DeliveryLog,
    EventType,
    Message,
    MessageStatus,
    Recipient,
    RecipientStatus,
)

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Claimed:
    """A message this worker may send, its recipients still to be served, and attempts whose answer was lost.

    A recipient with status `unknown` is one whose last attempt is among `unknown`. `unfinished` are attempts with
    progress, which a later one may go on with, or which is to be taken away in the end. `suppressed` says why an
    address is not to be mailed, by recipient. `place` is what it occupies in queues that have a cap, until its outcome
    is recorded.
    """

    message: Message
    pending: list[Recipient]
    settled: list[Recipient] = field(default_factory=list)
    unknown: list[DeliveryLog] = field(default_factory=list)
    unfinished: list[DeliveryLog] = field(default_factory=list)
    suppressed: dict[uuid.UUID, str] = field(default_factory=dict)
    place: Place | None = None

    @property
    def recipients(self) -> list[Recipient]:
        return [*self.pending, *self.settled]


def claim(ids: Sequence[uuid.UUID], rung_in: str = queues.FRESH) -> list[Claimed]:
    """Claim those of `ids` that are due and nobody else has, and other fresh messages beside them as far as a list
    reaches; ids without a row are logged (QUE-8). `rung_in` is the queue they were rung in.

    Of a queue that is paused nothing is claimed, and of one with a cap what has a place (QUE-5).

    A message that was claimed before without an outcome is only taken when it comes alone, so that one which kills
    its worker takes no other down with it (QUE-6). One that has used up its claims is parked instead.
    """
    restricted = caps.restricted()
    choice = choose(ids, rung_in, restricted) if restricted else Choice(list(ids))
    claimed: list[Claimed] = []
    try:
        claimed = _claim(ids, choice, company=lambda name: name not in restricted)
    finally:
        choice.give_back_but([one.message.pk for one in claimed])
    return claimed


def _claim(ids: Sequence[uuid.UUID], choice: Choice, company: Callable[[str], bool]) -> list[Claimed]:
    if not choice.ids:
        _log_missing(ids, set())
        return []
    now = timezone.now()
    lease = uuid.uuid4()
    with transaction.atomic():
        free = Message.objects.select_for_update(skip_locked=True).filter(due(now), pk__in=choice.ids)
        if len(choice.ids) > 1:
            free = free.filter(claims=0)
        found = list(free.values_list("pk", "claims", "queue"))
        taken = [pk for pk, _, _ in found]
        if found and not any(claims for _, claims, _ in found) and company(found[0][2]):
            taken += _company(taken, found[0][2])
        Message.objects.filter(pk__in=taken).update(
            status=MessageStatus.PROCESSING,
            lease=lease,
            next_attempt_at=now + timedelta(seconds=settings.DELIVERY_LEASE),
            claims=F("claims") + 1,
            rung_at=None,
        )
    messages = list(
        Message.objects.select_related("tenant", "account").filter(
            pk__in=taken, lease=lease, status=MessageStatus.PROCESSING
        )
    )
    if not set(ids) <= {message.pk for message in messages}:
        _log_missing(ids, {message.pk for message in messages})
    poisoned = [message for message in messages if message.claims > settings.DELIVERY_MAX_CLAIMS]
    if poisoned:
        _mark_lost_attempts(poisoned)
    for message in poisoned:
        park(message, "poison", f"Claimed {message.claims - 1} times without an outcome.")
    claimed = _with_recipients([message for message in messages if message not in poisoned])
    for one in claimed:
        one.place = choice.places.get(one.message.pk)
    return claimed


def _company(taken: Sequence[uuid.UUID], name: str) -> list[uuid.UUID]:
    """Fresh messages of the same queue that nobody has, the oldest first, to fill the list of those `taken`.

    Under load a ring brings few ids at a time, and a worker that waited for a provider with each few would fall
    behind. The rings of those taken along find nothing left to do.
    """
    room = settings.DELIVERY_BATCH - len(taken)
    if room <= 0:
        return []
    free = Message.objects.select_for_update(skip_locked=True).exclude(pk__in=taken)
    fresh = free.filter(queue=name, status=MessageStatus.QUEUED, claims=0).order_by("pk")
    return list(fresh.values_list("pk", flat=True)[:room])


def _log_missing(ids: Sequence[uuid.UUID], claimed: set[uuid.UUID]) -> None:
    others = [id_ for id_ in ids if id_ not in claimed]
    known = set(Message.objects.filter(pk__in=others).values_list("pk", flat=True))
    for id_ in others:
        if id_ not in known:
            log.warning("rung for a message that does not exist", message_id=str(id_))


def _with_recipients(messages: Sequence[Message]) -> list[Claimed]:
    claimed = {message.pk: Claimed(message, []) for message in messages}
    tried = [message for message in messages if message.attempts or message.claims > 1]
    if tried:
        _mark_lost_attempts(tried)
    for recipient in Recipient.objects.filter(message__in=messages).order_by("pk"):
        one = claimed[recipient.message_id]
        (one.pending if recipient.status in PENDING_STATUSES else one.settled).append(recipient)
    if tried:
        ended = [DeliveryLog.Status.RETRYING, DeliveryLog.Status.FAILED]
        open_ = Q(status=DeliveryLog.Status.UNKNOWN) | Q(status__in=ended, progress__isnull=False)
        for attempt in DeliveryLog.objects.filter(open_, message__in=tried).order_by("pk"):
            if attempt.status == DeliveryLog.Status.UNKNOWN:
                claimed[attempt.message_id].unknown.append(attempt)
            if attempt.progress is not None:
                claimed[attempt.message_id].unfinished.append(attempt)
    _note_suppressed(list(claimed.values()))
    return list(claimed.values())


def _note_suppressed(claimed: Sequence[Claimed]) -> None:
    """One query for a whole claim (EVT-2)."""
    wanted = [(one.message.tenant_id, recipient.address) for one in claimed for recipient in one.pending]
    reasons = suppressions.reasons(wanted)
    if not reasons:
        return
    for one in claimed:
        for recipient in one.pending:
            reason = reasons.get((one.message.tenant_id, recipient.address))
            if reason is not None:
                one.suppressed[recipient.pk] = reason


def _mark_lost_attempts(messages: Sequence[Message]) -> None:
    """An attempt still `sending` belongs to a worker that is gone: its outcome is unknown (DEL-5)."""
    now = timezone.now()
    made = dict(
        DeliveryLog.objects.filter(message__in=messages).values_list("message").annotate(Count("pk")).order_by()
    )
    for message in messages:
        message.attempts = made.get(message.pk, 0)
    with transaction.atomic():
        sending = DeliveryLog.objects.filter(message__in=messages, status=DeliveryLog.Status.SENDING)
        lost = list(sending.order_by("pk"))
        outbox.add_attempts(lost)
        for attempt in lost:
            log.warning(
                "attempt without an outcome",
                message_id=str(attempt.message_id),
                attempt_id=str(attempt.pk),
                provider=attempt.provider_name,
            )
            Recipient.objects.filter(
                message_id=attempt.message_id, address__in=attempt.recipients, status__in=PENDING_STATUSES
            ).update(status=RecipientStatus.UNKNOWN, updated_at=now)
            DeliveryLog.objects.filter(pk=attempt.pk).update(
                status=DeliveryLog.Status.UNKNOWN,
                error_code="worker_lost",
                error_text="The worker died before the provider's answer was recorded.",
                finished_at=now,
            )


def renew(messages: Sequence[Message]) -> None:
    """Keep the leases of these for another full term (DEL-2); a database that is away costs the lease, not the send."""
    if not messages:
        return
    try:
        Message.objects.filter(
            pk__in=[message.pk for message in messages],
            lease=messages[0].lease,
            status=MessageStatus.PROCESSING,
        ).update(next_attempt_at=timezone.now() + timedelta(seconds=settings.DELIVERY_LEASE))
    except DatabaseError:
        log.exception("leases not renewed", messages=len(messages))


def park(message: Message, code: str, reason: str, status: MessageStatus = MessageStatus.DLQ) -> bool:
    """Make a dead letter of a message this worker holds; False when the lease was lost meanwhile.

    Its recipients still pending become `failed` and say why.
    """
    now = timezone.now()
    with transaction.atomic():
        held = Message.objects.filter(pk=message.pk, lease=message.lease, status=MessageStatus.PROCESSING).update(
            status=status,
            status_reason=reason[:500],
            next_attempt_at=None,
            lease=None,
            claims=0,
            attempts=message.attempts,
            finished_at=now,
        )
        if not held:
            return False
        Recipient.objects.filter(message=message, status__in=PENDING_STATUSES).update(
            status=RecipientStatus.FAILED, error_code=code, error_text=reason[:1000], updated_at=now
        )
        events.record([events.about(message, EventType.DEAD_LETTER, now, reason=code, text=reason)])
        notices.note([message.pk], now)
    DEAD_LETTERS.labels(code).inc()
    log.warning("dead letter", message_id=str(message.pk), tenant_id=str(message.tenant_id), reason=code)
    return True


def seize(message: Message) -> bool:
    """Take a message that waits or is held, whether it is due or not, so that it can be parked in the same transaction;
    False when a worker has it or it has ended."""
    now, lease = timezone.now(), uuid.uuid4()
    waiting = (MessageStatus.QUEUED, MessageStatus.RETRYING, MessageStatus.SCHEDULED, MessageStatus.HELD)
    taken = Message.objects.filter(pk=message.pk, status__in=waiting).update(
        status=MessageStatus.PROCESSING,
        lease=lease,
        next_attempt_at=now + timedelta(seconds=settings.DELIVERY_LEASE),
        rung_at=None,
    )
    message.lease = lease
    return bool(taken)
