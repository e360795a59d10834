"""Who of a route's candidates carries a message as it was written, and what the tenant makes of that (PRV-4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import structlog
from django.conf import settings
from django.db import DatabaseError

from accounts.models import Tenant
from delivery import mime
from delivery.deadline import DeadlineExceeded, within
from delivery.jobs import Job, Work
from providers import connections
from providers.base import Backend, OutboundMessage
from providers.exceptions import Misconfigured
from providers.fidelity import Fidelity, Verdict
from providers.models import Provider

log = structlog.get_logger(__name__)

_UNREADABLE = "the message could not be taken apart in time"
_WORST = max(fidelity.rank for fidelity in Fidelity)


@dataclass(frozen=True, slots=True)
class Judged:
    """A candidate and what it would do to the message.

    `verdict` is None where nobody can say: `problem` tells why. A row whose settings are wrong (`unusable`) sends
    nothing, so that it keeps its place; it is passed over with a loud word when its turn comes.
    """

    provider: Provider
    verdict: Verdict | None
    problem: str = ""
    unusable: bool = False

    @property
    def rank(self) -> int:
        """0 for the best."""
        if self.verdict is None:
            return 0 if self.unusable else _WORST + 1
        return self.verdict.fidelity.rank

    @property
    def lossless(self) -> bool:
        """Whether it may be asked where nothing but lossless will do."""
        return self.unusable or (self.verdict is not None and self.verdict.fidelity is Fidelity.LOSSLESS)

    @property
    def told(self) -> str:
        return self.problem if self.verdict is None else str(self.verdict)


def arrange(work: Work, message: OutboundMessage) -> None:
    """Put the candidates of each job in the order the tenant wants, or take away those it does not allow.

    A candidate that must say what became of an earlier attempt stays the first. A job that is left without a candidate
    goes, and its recipients are held with a reason (DEL-8). Nobody is connected to; messages are looked into only
    where there is a choice.
    """
    mode = work.message.tenant.lossless
    for job in list(work.jobs):
        first = 1 if job.key else 0
        asked, others = job.candidates[:first], job.candidates[first:]
        if not others or not wanted(mode, message, len(others)):
            continue
        judged = judge(others, message, [recipient.address for recipient in job.recipients])
        chosen = choose(mode, judged)
        job.candidates = [*asked, *(one.provider for one in chosen)]
        if not job.candidates:
            work.jobs.remove(job)
            work.hold = refusal(judged)
            _log_refusal(job, judged)


def wanted(mode: str, message: OutboundMessage, candidates: int) -> bool:
    """Whether the verdicts of so many candidates matter for this message."""
    if mode == Tenant.Lossless.REQUIRED:
        return True
    return candidates > 1 and (mode == Tenant.Lossless.PREFERRED or bool(mime.special_kind(message.raw)))


def choose(mode: str, judged: Sequence[Judged]) -> list[Judged]:
    """Those the tenant allows, the best verdict first and otherwise in the order they came in."""
    allowed = [one for one in judged if one.lossless] if mode == Tenant.Lossless.REQUIRED else judged
    return sorted(allowed, key=lambda one: one.rank)


def judge(candidates: Sequence[Provider], message: OutboundMessage, recipients: Sequence[str]) -> list[Judged]:
    """What each would do to the message for these recipients. Raises DatabaseError.

    Taking the message apart has DELIVERY_PREPARE_TIMEOUT seconds, once; of one that takes longer only those can say
    anything that take it whole.
    """
    judged: list[Judged] = []
    readable = True
    for provider in candidates:
        try:
            backend = connections.backend_for(provider)
        except Misconfigured as failure:
            judged.append(Judged(provider, None, failure.text, unusable=True))
            continue
        if not readable and not backend.takes_raw:
            judged.append(Judged(provider, None, _UNREADABLE))
            continue
        one = _judged(provider, backend, message, recipients)
        readable = readable and one.problem != _UNREADABLE
        judged.append(one)
    return judged


def _judged(provider: Provider, backend: Backend, message: OutboundMessage, recipients: Sequence[str]) -> Judged:
    try:
        with within(settings.DELIVERY_PREPARE_TIMEOUT):
            if not backend.takes_raw:
                message.parsed()  # before it is copied, so that nobody has to do it again
            return Judged(provider, backend.verdict(message.for_call(recipients, "")))
    except DeadlineExceeded:
        return Judged(provider, None, _UNREADABLE)
    except DatabaseError:
        raise
    except Exception as error:
        log.exception("verdict not known", message_id=message.message_id, provider=provider.name)
        return Judged(provider, None, f"its verdict is not known ({type(error).__name__})")


def refusal(judged: Sequence[Judged]) -> str:
    """Why nobody is left."""
    told = "; ".join(f"{one.provider.name}: {one.told}" for one in judged)
    return f"This tenant's mail must go out as it was written, and no provider of the route does that ({told})."


def _log_refusal(job: Job, judged: Sequence[Judged]) -> None:
    log.error(
        "no lossless provider",
        message_id=str(job.message.pk),
        tenant_id=str(job.message.tenant_id),
        recipients=len(job.recipients),
        verdicts={one.provider.name: one.told for one in judged},
    )
