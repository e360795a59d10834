"""Deliver messages whose ids a ring brought: claim, fetch, route, send, record.

The calls of a list run side by side in threads, since the time goes into waiting for providers. All database work and
all parsing happen in the calling thread: one connection, few transactions, and a bound on what only computes.
"""

from __future__ import annotations

import time
import uuid
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from concurrent.futures import ALL_COMPLETED, FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Any

import structlog
from django.conf import settings
from django.db import DatabaseError

from delivery import (
    attempts,
    caps,
    claims,
    fidelity,
    jobs,
    prepare,
    progress,
    provider_health,
    queues,
    store,
    sweeper,
)
from delivery.caps import Place
from delivery.claims import Claimed
from delivery.deadline import within
from delivery.exceptions import BodyNotFound, StoreUnavailable
from delivery.jobs import Call, Job, Outcome, Work
from delivery.models import MessageStatus, RecipientStatus
from delivery.record import Page, log_attempt
from delivery.turns import Line, Turn, limited
from providers.base import OutboundMessage
from providers.exceptions import ProviderError, TemporaryFailure
from providers.limits import Wait

log = structlog.get_logger(__name__)

FETCH_WAITS = (1.0, 2.0, 4.0)
"""Seconds before each further try to read a body (DEL-4)."""
GATHER = 0.02
"""Seconds to wait for neighbours once a call has come back, so that they are recorded in one transaction."""
MAX_BYTES = 128 * 1024 * 1024
"""Octets of raw messages a worker process holds at once; a larger single message travels alone."""

_pool: ThreadPoolExecutor | None = None


def deliver(ids: Sequence[uuid.UUID], rung_in: str = queues.FRESH) -> None:
    """Send what is due of these messages and record what became of each recipient. `rung_in` is their ring's queue.

    Running it twice, or beside another worker, sends nothing twice: what is not due or not free is left alone (DEL-6).
    """
    claimed = claims.claim(list(dict.fromkeys(ids)), rung_in)
    if claimed:
        Delivery(claimed).run()


def pool() -> ThreadPoolExecutor:
    """The threads of this process that wait for providers; made on first use, after the worker has forked."""
    global _pool  # noqa: PLW0603
    if _pool is None:
        _pool = ThreadPoolExecutor(settings.DELIVERY_THREADS, thread_name_prefix="send")
    return _pool


class Delivery:
    """The messages of one claim on their way."""

    def __init__(self, claimed: Sequence[Claimed]) -> None:
        self.waiting = deque(claimed)
        self.fetches: dict[Future[bytes | Exception], Claimed] = {}
        self.calls: dict[Future[tuple[Outcome, int]], tuple[Work, Job, Call]] = {}
        self.under_way: dict[uuid.UUID, Claimed] = {one.message.pk: one for one in claimed}
        self.calls_open: dict[uuid.UUID, int] = {}
        self.outbound: dict[uuid.UUID, OutboundMessage] = {}
        self.line = Line()
        self.bytes = 0
        self.left: list[Place] = []
        self.closing = False
        self.renewed_at = self.started_at = time.monotonic()

    def run(self) -> None:
        """Until every message is delivered, put off or given up; each step is committed before the next begins."""
        try:
            while self.under_way:
                self._fetch_some()
                self._step()
        except Exception:
            # Whatever it is, what providers are saying at this moment must still be written down.
            self.closing = True
            log.exception("delivery broke off", messages=[str(id_) for id_ in self.under_way])
            while self.calls:
                self._step()
            raise
        finally:
            self.line.close()
            self.left += [one.place for one in self.under_way.values() if one.place]
            self._leave_places()

    def _step(self) -> None:
        page = Page()
        try:
            self._look(page)
        except Exception:
            # What providers have said already must be written down; nothing more is begun.
            begun, page.calls = page.calls, []
            provider_health.give_back_unmade(begun, [])
            page.write()
            raise
        begun = list(page.calls)
        page.write()
        provider_health.give_back_unmade(begun, page.calls)
        self.line.used([call.permit for _, _, call in page.calls])
        self.line.give_back([call.permit for _, _, call in begun])
        for work, job, call in page.calls:
            self.calls[pool().submit(attempts.make, call)] = (work, job, call)
        for work in page.lost:
            self._lose(work)
        for attempt in page.given_up:
            left = progress.left_behind(attempt)
            if left is not None:
                pool().submit(progress.discard, *left)
        self._leave_places()

    def _leave_places(self) -> None:
        """What has ended makes room in its queues; whoever waits there is rung for."""
        if self.left:
            left, self.left = self.left, []
            caps.give_back(left)
            sweeper.ring_next(Counter(name for place in left for name in place.names))

    def _look(self, page: Page) -> None:
        """Enter on the page what has come back, and what may go on."""
        for future in self._wait():
            if future in self.fetches:
                self._fetched(self.fetches.pop(future), future.result(), page)
            else:
                self._answered(*self.calls.pop(future), attempts.answer(future), page)
        for turn in [] if self.closing else self.line.take_due():
            self._taken(turn, page)

    def _fetch_some(self) -> None:
        while self.waiting and (not self.bytes or self.bytes + self.waiting[0].message.size <= MAX_BYTES):
            one = self.waiting.popleft()
            self.bytes += one.message.size
            self.fetches[pool().submit(fetch, one.message.store_key)] = one

    def _wait(self) -> Iterable[Future[Any]]:
        futures: list[Future[Any]] = [*([] if self.closing else self.fetches), *self.calls]
        timeout = settings.DELIVERY_LEASE / 6
        if self.line.turns and not self.closing:
            timeout = min(timeout, self.line.next_in())
            if not futures:
                time.sleep(timeout)
        done, others = wait(futures, timeout=timeout, return_when=FIRST_COMPLETED)
        if done and others:
            done, _ = wait(futures, timeout=GATHER, return_when=ALL_COMPLETED)
        if time.monotonic() - self.renewed_at > settings.DELIVERY_LEASE / 4:
            claims.renew([one.message for one in self.under_way.values()])
            self.renewed_at = time.monotonic()
        return done

    def _fetched(self, claimed: Claimed, body: bytes | Exception, page: Page) -> None:
        message = claimed.message
        if isinstance(body, Exception):
            log.error("body not readable", message_id=str(message.pk), key=message.store_key, error=str(body))
            claims.park(message, "storage_error", f"The body cannot be read: {body}", MessageStatus.STORAGE_ERROR)
            self._forget(claimed)
            return
        try:
            with within(settings.DELIVERY_PREPARE_TIMEOUT):
                self.outbound[message.pk] = prepare.outbound(claimed, body)
                work = prepare.plan(claimed, self.outbound[message.pk])
            fidelity.arrange(work, self.outbound[message.pk])
        except Exception as error:
            # Nothing is known to be wrong with the message: it is tried again (and in the end given up).
            log.exception("message could not be prepared", message_id=str(message.pk))
            text = f"The message could not be prepared ({type(error).__name__})."
            work = Work(claimed, problem=text, hiccup=isinstance(error, DatabaseError))
        self.calls_open[message.pk] = 0
        for job in list(work.jobs):
            self._next_call(work, job, page)
        self._conclude_if_done(work, page)

    def _answered(self, work: Work, job: Job, call: Call, answer: tuple[Outcome, int], page: Page) -> None:
        outcome, duration_ms = answer
        try:
            attempts.settle(job, call, outcome, duration_ms)
        except Exception:
            log.exception("answer not understood", message_id=str(work.message.pk), attempt_id=str(call.attempt.pk))
            outcome = TemporaryFailure("The answer was not understood.", code="internal", outcome_unknown=True)
            attempts.settle(job, call, outcome, duration_ms)
        page.finished.append(call.attempt)
        page.recipients.extend(job.recipients)
        provider_health.note(job, call, outcome)
        log_attempt(work, job, call)
        self.line.wake(call.provider)
        self.calls_open[work.message.pk] -= 1
        failed = isinstance(outcome, ProviderError)
        if failed and any(recipient.status != RecipientStatus.FAILED for recipient in job.recipients):
            self._next_call(work, job, page)
        if not self._conclude_if_done(work, page):
            page.under_way.append(work)

    def _taken(self, turn: Turn, page: Page) -> None:
        """The moment of a call that waited in line has come."""
        self.calls_open[turn.work.message.pk] -= 1
        self._next_call(turn.work, turn.job, page, turn)
        self._conclude_if_done(turn.work, page)

    def _next_call(self, work: Work, job: Job, page: Page, turn: Turn | None = None) -> None:
        """Set the job's next call down on the page, or several where the provider takes fewer recipients a call."""
        while not self.closing and self._in_time():
            try:
                turn = turn or self._choose(work, job)
                if turn is None or not self._begin(turn, page):
                    return
            except Exception as error:  # noqa: BLE001 -- not_begun logs it
                attempts.not_begun(job, error)
            turn = None
        if turn is not None:
            # Too late for this claim: nobody has asked that provider.
            job.candidates.insert(0, turn.provider)
            provider_health.give_back(turn.provider, turn.probe)
            self.line.give_back([turn.permit] if turn.permit else [])

    @staticmethod
    def _choose(work: Work, job: Job) -> Turn | None:
        hold = work.message.tenant.unknown_outcome == work.message.tenant.UnknownOutcome.HOLD
        chosen = jobs.next_provider(job, hold_unknown=hold)
        if chosen is None:
            return None
        # What one call takes: of a larger group some parts may go today, though not all of it.
        return Turn(work, job, *chosen, cost=min(len(job.recipients), chosen[1].max_recipients))

    def _begin(self, turn: Turn, page: Page) -> bool:
        """Begin the turn's call, or one for each part of its recipients, if the provider's limits let it; returns
        whether the job is to look at its next provider instead."""
        job, message = turn.job, self.outbound[turn.job.message.pk]
        with provider_health.returned_unless_used(turn.provider, turn.probe), self.line.permit_back(turn):
            whole = message.for_call([recipient.address for recipient in job.recipients], "")
            with within(settings.DELIVERY_PREPARE_TIMEOUT):
                attempts.check_size(turn.provider, turn.backend, whole)
                slots = turn.backend.slots(whole)
            permit = self.line.ask(turn, slots)
            if isinstance(permit, Wait):
                return limited(turn, permit)
            if permit is None:
                self.calls_open[job.message.pk] += 1
                return False
            with within(settings.DELIVERY_PREPARE_TIMEOUT):
                if not turn.backend.takes_raw:
                    message.parsed()
                    whole = message.for_call(whole.recipients, "")
                as_it_is = turn.split or job.repeats(turn.provider)
                pieces = [] if as_it_is else turn.backend.split(whole)
                if len(pieces) <= 1:
                    call = attempts.begin(job, turn.provider, turn.backend, whole, permit, probe=turn.probe)
        if len(pieces) > 1:
            self._begin_parts(turn, [job.part(piece) for piece in pieces], page)
            return False
        provider_health.tell_of_failover(job, turn.provider)
        page.calls.append((turn.work, job, call))
        if turn.backend.resumes:
            turn.work.resumable.append(call.attempt)
        self.calls_open[job.message.pk] += 1
        return False

    def _begin_parts(self, turn: Turn, parts: Sequence[Job], page: Page) -> None:
        """One call each. The turn's permission is the first part's; what it counts beyond that is the next one's."""
        turn.work.jobs.remove(turn.job)
        turn.work.jobs.extend(parts)
        permit, turn.permit = turn.permit, None
        counted = turn.cost
        for part in parts:
            cost = max(0, len(part.recipients) - counted)
            counted = max(0, counted - len(part.recipients))
            one = Turn(turn.work, part, turn.provider, turn.backend, turn.probe, cost=cost, split=True, permit=permit)
            self._next_call(turn.work, part, page, one)
            permit = None

    def _in_time(self) -> bool:
        """No further call is begun when the task has used up half its lease; the rest is for the next claim."""
        return time.monotonic() - self.started_at < settings.DELIVERY_LEASE / 2

    def _conclude_if_done(self, work: Work, page: Page) -> bool:
        if self.calls_open[work.message.pk]:
            return False
        page.conclude(work)
        self._forget(work.claimed)
        return True

    def _lose(self, work: Work) -> None:
        """A call was not made because another worker holds the message now; the outcome is for that one to say."""
        self.calls_open[work.message.pk] -= 1
        if not self.calls_open[work.message.pk]:
            log.warning("lease lost", message_id=str(work.message.pk))
            self._forget(work.claimed)

    def _forget(self, claimed: Claimed) -> None:
        del self.under_way[claimed.message.pk]
        self.outbound.pop(claimed.message.pk, None)
        self.bytes -= claimed.message.size
        if claimed.place is not None:
            self.left.append(claimed.place)


def fetch(key: str) -> bytes | Exception:
    """The stored bytes, after up to three more tries; what stood in the way otherwise. Runs in a thread."""
    for pause in (*FETCH_WAITS, None):
        try:
            return store.read(key)
        except (BodyNotFound, StoreUnavailable) as error:
            if pause is None:
                return error
            time.sleep(pause)
    raise AssertionError("unreachable")
