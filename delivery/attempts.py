"""One call to one provider: the row before it, the call, the row after it (DEL-5, DEL-7)."""

from __future__ import annotations

import re
import time
from concurrent.futures import Future

import structlog
from django.db import DatabaseError
from django.utils import timezone

from accounts.ids import uuid7
from accounts.models import Tenant
from delivery import progress
from delivery.deadline import DeadlineExceeded
from delivery.jobs import Call, Job, Outcome, passes_on
from delivery.models import DeliveryLog, RecipientStatus
from providers import base, health, limits
from providers.base import Backend, OutboundMessage, SendResult
from providers.exceptions import (
    Limited,
    Misconfigured,
    Paused,
    PermanentFailure,
    ProviderError,
    TemporaryFailure,
    TooLarge,
    Unsupported,
)
from providers.fidelity import Fidelity
from providers.limits import Permit
from providers.models import Provider

log = structlog.get_logger(__name__)

UNREADABLE = "parse_timeout"
"""Code of a failure to take a message apart in time, for providers that do not take it whole."""

NOT_LOSSLESS = "not_lossless"
"""Code of a failure to find the message unchanged by a provider where the tenant demands that."""

_NOT_THE_SERVICE = frozenset({"internal", "not_recorded", "mailbox_full", "draft_gone"})
"""Codes of temporary failures that say nothing of the service: our own, and those of one mailbox."""
_UNFIT = re.compile(r"[\x00\ud800-\udfff]")


def clean(text: str, length: int) -> str:
    """What a provider has said, fit for every database: no NUL and no half of a surrogate pair."""
    return _UNFIT.sub("\ufffd", text)[:length]


def check_size(provider: Provider, backend: Backend, outbound: OutboundMessage) -> None:
    """Raise TooLarge, naming the provider, for what it would refuse for its size (PRV-8)."""
    try:
        backend.check_size(outbound)
    except TooLarge as failure:
        raise TooLarge(f"{provider.name}: {failure.text}", code=failure.code) from None


def begin(
    job: Job, provider: Provider, backend: Backend, outbound: OutboundMessage, permit: Permit, *, probe: str = ""
) -> Call:
    """The job's next call with its attempt row, which is yet to be written.

    Raises Unsupported where the tenant demands that mail goes out as it was written and this call would change it:
    what was true of all recipients together need not be of those of one call.
    """
    addresses = tuple(recipient.address for recipient in job.recipients)
    repeated = job.key if job.repeats(provider) else None
    earlier = progress.to_go_on_with(job.unfinished, provider, addresses, repeated) if backend.resumes else None
    key = repeated or (earlier.idempotency_key if earlier is not None else uuid7())
    outbound = outbound.for_call(addresses, str(key))
    verdict = backend.verdict(outbound)
    demanded = job.message.tenant.lossless == Tenant.Lossless.REQUIRED
    if demanded and verdict.fidelity is not Fidelity.LOSSLESS:
        raise Unsupported(f"{provider.name} would change the message ({verdict}).", code=NOT_LOSSLESS)
    job.message.attempts += 1
    attempt = DeliveryLog(
        message_id=job.message.pk,
        tenant_id=job.message.tenant_id,
        account_id=job.message.account_id,
        provider_id=provider.pk,
        provider_name=provider.name,
        provider_type=provider.type,
        attempt_number=job.message.attempts,
        idempotency_key=key,
        recipients=list(addresses),
        fidelity=verdict.fidelity,
        lost=[clean(text, 500) for text in verdict.lost],
        removed=list(outbound.removed),
        progress=earlier.progress if earlier is not None else None,
        created_at=timezone.now(),
    )
    if backend.resumes:
        outbound.progress = progress.Kept(attempt)
    job.last = Call(provider, backend, outbound, attempt, permit, probe, earlier, repeats=repeated is not None)
    if earlier is not None:
        earlier.progress = None  # as its row will say
    return job.last


def not_begun(job: Job, error: Exception) -> None:
    """The candidate could not be asked; what stood in the way counts as its answer, and an unknown error as temporary.

    Nothing was sent, so no attempt is written.
    """
    failure: ProviderError
    if isinstance(error, ProviderError):
        failure = error
    elif isinstance(error, DatabaseError):
        log.error("call could not be prepared", message_id=str(job.message.pk), exc_info=error)
        failure = Paused("Our database did not answer.", code="database")
    elif isinstance(error, DeadlineExceeded):
        log.error("message not readable in time", message_id=str(job.message.pk))
        failure = Unsupported("The message could not be taken apart in time.", code=UNREADABLE)
    else:
        log.error("call could not be prepared", message_id=str(job.message.pk), exc_info=error)
        text = f"The message could not be prepared for this provider ({type(error).__name__})."
        failure = TemporaryFailure(text, code="internal")
    job.failures.append(failure)
    job.failed_at = ""
    if not isinstance(failure, Misconfigured | Paused | TooLarge | Unsupported):
        job.waiting = False
    pass_over(job, failure)


def pass_over(job: Job, failure: ProviderError) -> None:
    """Enter what stood in the way of a call at the recipients it was for."""
    now = timezone.now()
    for recipient in job.recipients:
        if job.key is None:
            recipient.status = RecipientStatus.DEFERRED if passes_on(failure) else RecipientStatus.FAILED
        recipient.error_code, recipient.error_text = clean(failure.code, 64), clean(failure.text, 1000)
        recipient.updated_at = now


def make(call: Call) -> tuple[Outcome, int]:
    """Call the provider; returns what came of it and the milliseconds it took. Runs in a thread and never raises:
    every failure is an outcome, and an unknown one is temporary."""
    late = limits.go(call.permit)
    started = time.monotonic()
    outcome: Outcome
    if late is not None:
        limits.done(call.permit)
        call.back = late.seconds
        return Limited(f"Not called. {late.text}", code="limited"), 0
    if health.paused(call.provider) and not call.probe:
        # It fell silent while this call waited for a thread.
        limits.done(call.permit)
        return Paused("Not called: the service does not answer.", code="paused"), 0
    try:
        outcome = call.backend.send(call.outbound)
    except ProviderError as failure:
        outcome = failure
    except Exception as error:
        log.exception("provider backend failed", message_id=call.outbound.message_id, provider_type=call.provider.type)
        outcome = TemporaryFailure(
            f"The {call.provider.type} backend failed ({type(error).__name__}).", code="internal", outcome_unknown=True
        )
    took = time.monotonic() - started
    limits.done(call.permit, took)
    if isinstance(outcome, ProviderError) and limits.is_throttled(outcome):
        tenant_id = call.attempt.tenant_id
        call.back = limits.throttled(call.provider, call.backend, outcome, tenant_id=tenant_id, age=took)
    return outcome, round(took * 1000)


def answer(call: Future[tuple[Outcome, int]]) -> tuple[Outcome, int]:
    """What `make` has returned. When it did raise after all, nobody knows what the provider has done."""
    error = call.exception()
    if not isinstance(error, Exception):
        return call.result()
    log.error("call broke off", exc_info=error)
    text = f"The call broke off ({type(error).__name__})."
    return TemporaryFailure(text, code="internal", outcome_unknown=True), 0


def is_silence(failure: TemporaryFailure) -> bool:
    """Whether the service itself did not answer or broke down, whatever message it was called for (PRV-10)."""
    return failure.code not in _NOT_THE_SERVICE and (failure.status_code is None or failure.status_code >= 500)


def settle(job: Job, call: Call, outcome: Outcome, duration_ms: int) -> None:
    """Enter the outcome into the attempt row and the recipients, in memory."""
    call.attempt.duration_ms = duration_ms
    call.attempt.finished_at = timezone.now()
    if isinstance(outcome, SendResult):
        _settle_result(job, call, outcome)
    else:
        _settle_failure(job, call, outcome)


_STATUS = {
    base.RecipientStatus.DELIVERED: RecipientStatus.DELIVERED,
    base.RecipientStatus.DEFERRED: RecipientStatus.DEFERRED,
    base.RecipientStatus.FAILED: RecipientStatus.FAILED,
}
# A backend that forgets a recipient breaks the contract. Nobody may guess; asking again is the lesser evil.
_NO_RESULT = base.RecipientResult(base.RecipientStatus.DEFERRED, code="no_result", text="No result was reported.")


def _settle_result(job: Job, call: Call, result: SendResult) -> None:
    attempt = call.attempt
    job.waiting = False
    if call.repeats:
        job.key = None
    attempt.provider_message_id = clean(result.provider_message_id, 255)
    attempt.response_code = result.status_code
    for recipient in job.recipients:
        one = result.recipients.get(recipient.address, _NO_RESULT)
        recipient.status = _STATUS[one.status]
        recipient.provider_id = call.provider.pk
        recipient.provider_message_id = clean(one.provider_message_id, 255)
        recipient.error_code, recipient.error_text = clean(one.code, 64), clean(one.text, 1000)
        recipient.updated_at = attempt.finished_at or timezone.now()
        if recipient.status == RecipientStatus.DELIVERED:
            recipient.delivered_at = attempt.finished_at
        told = {
            "status": one.status.value,
            "code": recipient.error_code,
            "provider_message_id": recipient.provider_message_id,
        }
        attempt.results[recipient.address] = {key: value for key, value in told.items() if value}
    attempt.status = _status_of({recipient.status for recipient in job.recipients})
    refused = next((r for r in job.recipients if r.status != RecipientStatus.DELIVERED), None)
    if refused is not None:
        attempt.error_code, attempt.error_text = refused.error_code, refused.error_text


def _status_of(statuses: set[str]) -> DeliveryLog.Status:
    if statuses == {RecipientStatus.DELIVERED}:
        return DeliveryLog.Status.DELIVERED
    if RecipientStatus.DELIVERED in statuses:
        return DeliveryLog.Status.PARTIAL
    return DeliveryLog.Status.RETRYING if RecipientStatus.DEFERRED in statuses else DeliveryLog.Status.FAILED


def _uses_up_a_try(call: Call, failure: ProviderError) -> bool:
    """Whether the failure counts for the message: not when it only waits for the provider (RET-6).

    A probe that finds the provider as silent as before has waited, too; but one that may have been taken counts, since
    repeating it without end would repeat the mail.
    """
    if call.back is not None or isinstance(failure, Misconfigured | Paused | TooLarge | Unsupported):
        return False
    if not call.probe or not isinstance(failure, TemporaryFailure) or not is_silence(failure):
        return True
    return failure.outcome_unknown and not (call.backend.idempotent or call.attempt.progress)


def _settle_failure(job: Job, call: Call, failure: ProviderError) -> None:
    attempt = call.attempt
    # What a fallback refuses for good while the primary only had a hiccup is the fallback's own opinion.
    hiccup = any(isinstance(earlier, TemporaryFailure | Paused) for earlier in job.failures)
    job.failures.append(failure)
    job.failed_at = call.provider.name
    final = isinstance(failure, PermanentFailure) and not passes_on(failure) and not hiccup
    if _uses_up_a_try(call, failure):
        job.waiting = False
    if call.back is not None:
        job.come_back(call.back)
    if isinstance(failure, PermanentFailure) and call.repeats:
        job.key = None  # the provider has answered after all
    if failure.retry_after is not None:
        job.retry_after = max(failure.retry_after, job.retry_after or 0)
    attempt.response_code = failure.status_code
    attempt.error_code, attempt.error_text = clean(failure.code, 64), clean(failure.text, 1000)
    status = RecipientStatus.FAILED if final else RecipientStatus.DEFERRED
    if job.outcome_unknown:
        status = RecipientStatus.UNKNOWN
    if (call.repeats and job.key) or (isinstance(failure, TemporaryFailure) and failure.outcome_unknown):
        attempt.status = DeliveryLog.Status.UNKNOWN
    elif isinstance(failure, PermanentFailure):
        attempt.status = DeliveryLog.Status.FAILED
    else:
        attempt.status = DeliveryLog.Status.RETRYING
    for recipient in job.recipients:
        recipient.status = status
        recipient.error_code, recipient.error_text = attempt.error_code, attempt.error_text
        recipient.updated_at = attempt.finished_at or timezone.now()
