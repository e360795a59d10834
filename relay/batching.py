"""Messages that end at the same moment are accepted together (ACC-5), and none waits for a database that is silent."""

from __future__ import annotations

import asyncio
import uuid
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial

import structlog

from delivery.exceptions import Deferred, NotAccepted
from delivery.submission import Accepted, Submission

log = structlog.get_logger(__name__)

Answer = Accepted | NotAccepted
Accept = Callable[[Sequence[Submission]], list[Answer]]
Withdraw = Callable[[uuid.UUID], bool]

MAX_MESSAGES = 100
MAX_OCTETS = 16 * 1024 * 1024
TOGETHER = 0.1
"""Seconds for which what ends during a call waits for it, so that it is written together. What a call costs whatever
it holds is two milliseconds of processor time: two calls side by side, each with half of the messages, take a third of
the rate (PERF-1)."""
SILENT_AFTER = 5.0  # seconds after which an acceptance of small messages counts as stuck (ACC-7)
OCTETS_A_SECOND = 2 * 1024 * 1024  # what a batch may take besides, for its bodies


def _try_later(code: str) -> Deferred:
    return Deferred("Temporary failure; try again later", code=code, status="4.3.0")


@dataclass(slots=True, eq=False)
class _Waiting:
    submission: Submission
    release: Callable[[], None]
    answer: asyncio.Future[Answer]
    timer: asyncio.TimerHandle | None = None


@dataclass(slots=True, eq=False)
class _Batch:
    members: list[_Waiting]
    begun: float
    timers: tuple[asyncio.TimerHandle, ...] = ()
    stuck: bool = False


class Batcher:
    """Calls `accept` in threads with all that has ended since the last call: one call at a time, and up to `slots` when
    one takes longer than TOGETHER or more waits than the next could hold.

    A message that comes alone is not made to wait. Each gets its answer within `timeout` seconds; when every call has
    taken too long, new messages are deferred at once instead of piling up.
    """

    def __init__(
        self,
        accept: Accept,
        threads: Executor,
        *,
        slots: int,
        timeout: float,
        silent_after: float = SILENT_AFTER,
        withdraw: Withdraw | None = None,
    ) -> None:
        self._accept = accept
        self._withdraw = withdraw
        self._threads = threads
        self._slots = slots
        self._timeout = timeout
        self._silent_after = silent_after
        self._queue: deque[_Waiting] = deque()
        self._octets = 0  # of what is in the queue
        self._running: set[_Batch] = set()
        self._start_scheduled = False
        self._idle = asyncio.Event()
        self._idle.set()

    async def accept(self, submission: Submission, release: Callable[[], None]) -> Answer:
        """What became of the message. `release` is called when its body is needed no more, which may be later."""
        if self._all_stuck():
            release()
            log.warning("message deferred: acceptance does not answer", message_id=str(submission.message_id))
            return _try_later("acceptance_stuck")
        loop = asyncio.get_running_loop()
        waiting = _Waiting(submission, release, loop.create_future())
        waiting.timer = loop.call_later(self._timeout, self._give_up, waiting)
        self._queue.append(waiting)
        self._octets += submission.body.size
        self._idle.clear()
        if not self._start_scheduled:
            # Not at once: whatever ends in the same turn of the event loop goes along.
            self._start_scheduled = True
            loop.call_soon(self._start)
        return await waiting.answer

    async def drained(self) -> None:
        """Return when nothing waits or is being written."""
        await self._idle.wait()

    def _start(self) -> None:
        self._start_scheduled = False
        loop = asyncio.get_running_loop()
        while self._queue and self._another(loop.time()):
            members, octets = self._next_members()
            batch = _Batch(members, loop.time())
            self._running.add(batch)
            batch.timers = (
                loop.call_later(TOGETHER, self._start),
                loop.call_later(self._silent_after + octets / OCTETS_A_SECOND, self._mark_stuck, batch),
            )
            work = loop.run_in_executor(self._threads, self._accept, [m.submission for m in members])
            work.add_done_callback(partial(self._finish, batch))
        if not self._queue and not self._running:
            self._idle.set()

    def _another(self, now: float) -> bool:
        """Whether the next call may begin beside those that run."""
        if len(self._running) >= self._slots:
            return False
        more_than_one_holds = len(self._queue) > MAX_MESSAGES or self._octets > MAX_OCTETS
        return more_than_one_holds or all(now - batch.begun >= TOGETHER for batch in self._running)

    def _next_members(self) -> tuple[list[_Waiting], int]:
        """What the next call takes, and how many octets that is."""
        members: list[_Waiting] = []
        octets = 0
        while self._queue and len(members) < MAX_MESSAGES:
            size = self._queue[0].submission.body.size
            if members and octets + size > MAX_OCTETS:
                break
            members.append(self._dequeue())
            octets += size
        return members, octets

    def _dequeue(self) -> _Waiting:
        waiting = self._queue.popleft()
        self._octets -= waiting.submission.body.size
        return waiting

    def _finish(self, batch: _Batch, done: asyncio.Future[list[Answer]]) -> None:
        for timer in batch.timers:
            timer.cancel()
        self._running.discard(batch)
        for member, answer in zip(batch.members, _answers(batch, done), strict=True):
            member.release()
            if member.answer.done():
                self._late(member, answer)
            else:
                _settle(member, answer)
        self._start()

    def _give_up(self, waiting: _Waiting) -> None:
        if waiting in self._queue:
            self._queue.remove(waiting)
            self._octets -= waiting.submission.body.size
            waiting.release()
        _settle(waiting, _try_later("acceptance_timeout"))
        log.error("message deferred: not accepted in time", message_id=str(waiting.submission.message_id))
        self._start()

    def _mark_stuck(self, batch: _Batch) -> None:
        batch.stuck = True
        log.error("acceptance takes too long", messages=len(batch.members))
        if self._all_stuck():
            while self._queue:
                waiting = self._dequeue()
                waiting.release()
                _settle(waiting, _try_later("acceptance_stuck"))

    def _all_stuck(self) -> bool:
        return len(self._running) >= self._slots and all(batch.stuck for batch in self._running)

    def _late(self, member: _Waiting, answer: Answer) -> None:
        """A client that was told to send again will: what was accepted after all is taken back. One that has gone
        without waiting may never come back: its message stays."""
        message_id = member.submission.message_id
        if not isinstance(answer, Accepted):
            log.warning("message refused, but its client was not told", message_id=str(message_id))
            return
        log.error("message accepted, but its client was not told", message_id=str(message_id))
        if self._withdraw is not None and not member.answer.cancelled():
            work = asyncio.get_running_loop().run_in_executor(self._threads, self._withdraw, message_id)
            work.add_done_callback(partial(_log_withdrawal, message_id))


def _log_withdrawal(message_id: uuid.UUID, done: asyncio.Future[bool]) -> None:
    if done.cancelled() or done.exception() is not None or not done.result():
        log.error("message will arrive twice", message_id=str(message_id))
    else:
        log.info("message withdrawn", message_id=str(message_id))


def _settle(waiting: _Waiting, answer: Answer) -> None:
    if waiting.timer is not None:
        waiting.timer.cancel()
    if not waiting.answer.done():
        waiting.answer.set_result(answer)


def _answers(batch: _Batch, done: asyncio.Future[list[Answer]]) -> list[Answer]:
    """One answer for each member, whatever `accept` did."""
    error = done.exception() if not done.cancelled() else None
    if error is not None:
        log.error("acceptance failed", exc_info=error, messages=len(batch.members))
    elif not done.cancelled():
        answers = done.result()
        if len(answers) == len(batch.members):
            return answers
        log.error("acceptance gave the wrong number of answers", messages=len(batch.members), answers=len(answers))
    return [_try_later("internal") for _ in batch.members]
