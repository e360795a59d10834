"""What has become of a message when all calls of one claim are done: delivered, again later, held, or over."""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import datetime, timedelta

from django.conf import settings
from django.utils import timezone

from accounts.models import Tenant
from delivery import events, provider_health, retry
from delivery.attempts import NOT_LOSSLESS, UNREADABLE, clean
from delivery.jobs import Job, Work
from delivery.metrics import DEAD_LETTERS
from delivery.models import (
    PENDING_STATUSES,
    DeliveryLog,
    Event,
    EventType,
    Message,
    MessageStatus,
    Recipient,
    RecipientStatus,
)
from delivery.suppressions import SUPPRESSED
from providers.exceptions import PermanentFailure, TooLarge

WAIT_FOR_PROVIDER = timedelta(seconds=60)
"""About how long a message that only waits for a provider is left alone (RET-6)."""
LONGEST_WAIT = timedelta(minutes=10)
REJECTED_BY_RULE = "rejected_by_rule"
DISCARDED_BY_RULE = "discarded_by_rule"

_EVENTS = {
    MessageStatus.DELIVERED: EventType.DELIVERED,
    MessageStatus.PARTIAL: EventType.PARTIAL,
    MessageStatus.FAILED: EventType.FAILED,
    MessageStatus.REJECTED: EventType.REJECTED,
    MessageStatus.DISCARDED: EventType.DISCARDED,
    MessageStatus.RETRYING: EventType.RETRYING,
    MessageStatus.HELD: EventType.HELD,
    MessageStatus.DLQ: EventType.DEAD_LETTER,
}
_SERVED = (
    RecipientStatus.DELIVERED,
    RecipientStatus.CONFIRMED,
    RecipientStatus.BOUNCED,
    RecipientStatus.COMPLAINED,
)


def conclude(work: Work) -> Event | None:
    """Set the message's status, reason and next time from its recipients; returns the event that tells of it.

    No event when nothing has happened since the last one: the message still waits for the same reason.
    """
    now = timezone.now()
    for job in work.jobs:
        _give_up_permanently(job)
    message, recipients = work.message, work.claimed.recipients
    before, tries = message.status_reason, message.tries
    pending = [recipient for recipient in recipients if recipient.status in PENDING_STATUSES]
    message.lease, message.claims, message.rung_at = None, 0, None
    if pending:
        _wait_or_give_up(work, pending, now)
    else:
        _finish(message, recipients, now)
    waits_on = message.status == MessageStatus.RETRYING and message.tries == tries and message.status_reason == before
    return None if waits_on and before else _event(work, now)


def put_off(work: Work) -> Event:
    """Look at the message again later, whatever was wrong with concluding it; what recipients have got is kept.

    After as many times as the schedule has waits it is a dead letter: something must be mended first.
    """
    now, message = timezone.now(), work.message
    message.lease, message.claims, message.rung_at, message.finished_at = None, 0, None, None
    message.status_reason = "The outcome could not be worked out; see the log."
    message.tries += 1
    if message.tries > len(settings.DELIVERY_RETRY_SCHEDULE):
        DEAD_LETTERS.labels("outcome_unclear").inc()
        message.status, message.next_attempt_at, message.finished_at = MessageStatus.DLQ, None, now
    else:
        message.status, message.next_attempt_at = MessageStatus.RETRYING, now + WAIT_FOR_PROVIDER
    return _event(work, now)


def _event(work: Work, now: datetime) -> Event:
    message = work.message
    return events.about(
        message,
        _EVENTS[MessageStatus(message.status)],
        now,
        reason=message.status_reason,
        tries=message.tries,
        next_attempt_at=message.next_attempt_at.isoformat() if message.next_attempt_at else None,
        passed_over=provider_health.passed_over(work.jobs),
        # Large lists are left to the rows.
        recipients={recipient.address: str(recipient.status) for recipient in work.claimed.recipients[:50]},
    )


def _give_up_permanently(job: Job) -> None:
    """Every candidate said that it can never carry this: nobody will (RET-4)."""
    ours = (UNREADABLE, NOT_LOSSLESS)
    permanent = [isinstance(failure, PermanentFailure) and failure.code not in ours for failure in job.failures]
    if not permanent or not all(permanent) or job.candidates or job.skipped:
        return
    large = [failure.text for failure in job.failures if isinstance(failure, TooLarge)]
    for recipient in job.recipients:
        if recipient.status in PENDING_STATUSES:
            recipient.status = RecipientStatus.FAILED
            if len(large) == len(job.failures) > 1:
                text = f"Too large for every provider of the route. {' '.join(dict.fromkeys(large))}"
                recipient.error_text = clean(text, 1000)


def _finish(message: Message, recipients: Sequence[Recipient], now: datetime) -> None:
    served = any(recipient.status in _SERVED for recipient in recipients)
    # Who is on the suppression list was not mailed, and whoever sent the message has to be told so: not `delivered`,
    # nor `discarded`, which a person has asked for.
    failed = [
        recipient
        for recipient in recipients
        if recipient.status == RecipientStatus.FAILED
        or (recipient.status == RecipientStatus.SUPPRESSED and recipient.error_code == SUPPRESSED)
    ]
    if served:
        message.status = MessageStatus.PARTIAL if failed else MessageStatus.DELIVERED
    elif not failed:
        message.status = MessageStatus.DISCARDED
    elif all(recipient.error_code == REJECTED_BY_RULE for recipient in failed):
        message.status = MessageStatus.REJECTED
    else:
        message.status = MessageStatus.FAILED
    reason = failed[0].error_text if failed else "" if served else recipients[0].error_text
    message.status_reason = reason[:500]
    message.next_attempt_at, message.finished_at = None, now


def _wait_or_give_up(work: Work, pending: Sequence[Recipient], now: datetime) -> None:
    open_jobs = _open(work)
    if unreadable := _unreadable(open_jobs):
        _dead_letter(work, pending, now, UNREADABLE, unreadable)
    elif _must_hold_unknown(work):
        _hold(work.message, "The provider's answer was lost; it may have taken the message. Release sends it again.")
    elif work.hiccup:
        _put_off(work, pending, now, work.problem, now + WAIT_FOR_PROVIDER)
    elif work.problem:
        _retry(work, pending, now, [retry.next_try(work.message.tries, settings.DELIVERY_RETRY_SCHEDULE, now, None)])
    elif any(not job.waiting for job in open_jobs):
        _retry(work, pending, now, [_next_try(job, now) for job in open_jobs if not job.waiting])
    elif changed := next(filter(None, map(_would_be_changed, open_jobs)), ""):
        _hold(work.message, changed)
    elif open_jobs:
        _wait_for_provider(work, pending, now)
    else:
        _hold(work.message, work.hold)


def _open(work: Work) -> list[Job]:
    """The jobs with recipients that still have to be served."""
    return [job for job in work.jobs if any(r.status in PENDING_STATUSES for r in job.recipients)]


def _unreadable(open_jobs: Sequence[Job]) -> str:
    """Why nobody will ever carry the message, "" while somebody may: whoever takes it whole may only have been busy."""
    for job in open_jobs:
        if job.skipped or job.candidates or not all(isinstance(failure, PermanentFailure) for failure in job.failures):
            return ""
        if not any(failure.code == UNREADABLE for failure in job.failures):
            return ""
    return next((f.text for job in open_jobs for f in job.failures if f.code == UNREADABLE), "")


def _would_be_changed(job: Job) -> str:
    """Why the job's recipients are held: whoever could be asked would change the message, and the tenant demands that
    nobody does. "" when there is another reason to wait."""
    if job.skipped or job.candidates or not all(isinstance(failure, PermanentFailure) for failure in job.failures):
        return ""
    return next((failure.text for failure in job.failures if failure.code == NOT_LOSSLESS), "")


def _next_try(job: Job, now: datetime) -> datetime | None:
    """When the job's recipients are tried again; when never, they have failed."""
    schedule = job.schedule or settings.DELIVERY_RETRY_SCHEDULE
    when = retry.next_try(job.message.tries, schedule, now, job.retry_after)
    if when is None:
        for recipient in job.recipients:
            if recipient.status in PENDING_STATUSES:
                recipient.status = RecipientStatus.FAILED
        _mark_given_up(job)
    return when


def _must_hold_unknown(work: Work) -> bool:
    """DEL-5: the tenant wants a person to decide, and no provider would recognise a second call."""
    if work.message.tenant.unknown_outcome != Tenant.UnknownOutcome.HOLD:
        return False
    exhausted = work.message.tries >= len(settings.DELIVERY_RETRY_SCHEDULE)
    return any(
        job.outcome_unknown and ((exhausted and not job.waiting) or not job.asks_again_safely) for job in work.jobs
    )


def _hold(message: Message, reason: str) -> None:
    message.status = MessageStatus.HELD
    message.status_reason = reason[:500]
    message.next_attempt_at = None


def _wait_for_provider(work: Work, pending: Sequence[Recipient], now: datetime) -> None:
    """Nothing was tried, so no try is used up."""
    jobs = _open(work)
    otherwise = "Every provider of the route is unhealthy."
    if any(job.candidates for job in jobs):
        otherwise = "The worker had no time left for it."
    reason = next((failure.text for job in jobs for failure in job.failures), otherwise)
    until = min((_back(job, now) for job in jobs), default=now + WAIT_FOR_PROVIDER)
    _put_off(work, pending, now, reason, until)


def _back(job: Job, now: datetime) -> datetime:
    """When a job that waits for its providers looks at them again."""
    if job.paced is not None:
        return job.paced  # limits say when, and keep those that wait apart
    # Not all at the same moment: one of them probes, and the others would only find it still at it.
    soonest = max(job.until or now, now + WAIT_FOR_PROVIDER / 2) + random.random() * WAIT_FOR_PROVIDER
    return min(soonest, now + LONGEST_WAIT)


def _put_off(work: Work, pending: Sequence[Recipient], now: datetime, reason: str, until: datetime) -> None:
    """Look again later; no try is used up, so that such mail is given up by age only (RET-6)."""
    message = work.message
    if _too_old(message, now):
        _dead_letter(work, pending, now, "too_old", f"Given up by age. {reason}")
        return
    message.status = MessageStatus.RETRYING
    message.status_reason = reason[:500]
    message.next_attempt_at = until


def _too_old(message: Message, now: datetime) -> bool:
    """What a person has released or tried again counts from then on."""
    longest = timedelta(seconds=settings.DELIVERY_MAX_AGE)
    if now - max(message.accepted_at, message.scheduled_at or message.accepted_at) <= longest:
        return False
    released = Event.objects.filter(message_id=message.pk, type=EventType.RELEASED, occurred_at__gt=now - longest)
    return not released.exists()


def _retry(work: Work, pending: Sequence[Recipient], now: datetime, times: Sequence[datetime | None]) -> None:
    """Try again at the latest of `times`, so that no provider is asked before it said it may be."""
    message = work.message
    reason = work.problem or next((r.error_text for r in pending if r.error_text), "")
    later = [when for when in times if when is not None]
    if later:
        message.tries += 1
        message.status = MessageStatus.RETRYING
        message.status_reason = reason[:500]
        message.next_attempt_at = max(later)
    elif any(job.waiting for job in _open(work)):
        _wait_for_provider(work, pending, now)
    else:
        _dead_letter(work, pending, now, "retries_exhausted", f"Gave up after {message.tries} retries. {reason}")


def _dead_letter(work: Work, pending: Sequence[Recipient], now: datetime, code: str, reason: str) -> None:
    """Recipients that wait for a person go on waiting."""
    message = work.message
    served = {recipient.pk for job in work.jobs for recipient in job.recipients}
    held = {recipient.pk for recipient in pending} - served if work.hold else set()
    if held:
        _hold(message, work.hold)
    else:
        DEAD_LETTERS.labels(code).inc()
        message.status = MessageStatus.DLQ
        message.status_reason = reason[:500]
        message.next_attempt_at, message.finished_at = None, now
    for recipient in pending:
        if recipient.pk in held:
            continue
        if recipient.status in PENDING_STATUSES:
            recipient.status = RecipientStatus.FAILED
        recipient.error_code = recipient.error_code or code
        recipient.error_text = recipient.error_text or reason[:1000]
        recipient.updated_at = now
    for job in work.jobs:
        _mark_given_up(job)


def _mark_given_up(job: Job) -> None:
    """The last attempt's log says that it was the last (RET-3)."""
    if job.last is not None and job.last.attempt.status == DeliveryLog.Status.RETRYING:
        job.last.attempt.status = DeliveryLog.Status.DLQ
