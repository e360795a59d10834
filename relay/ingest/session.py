"""What is done on one link: messages are brought, worked at in threads, answered for, and only then acknowledged."""

from __future__ import annotations

import time
import uuid
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from threading import Event

import amqp
import structlog
from django.db import DatabaseError

from delivery import receipts
from relay.ingest import outgoing
from relay.ingest.config import Config, Owned
from relay.ingest.incoming import Dead, Fetch, Incoming, Later, Outcome, Taken
from relay.ingest.link import Link, Outgoing
from relay.ingest.work import UNFORESEEN, Work
from relay.metrics import INGEST_DEPTH, INGESTED
from relay.threads import with_fresh_connection

log = structlog.get_logger(__name__)

HOLD_AT_MOST = 600.0
"""Seconds after which an unanswered message goes back to its queue: the broker's own patience ends after 30 minutes
(https://www.rabbitmq.com/docs/consumers#acknowledgement-timeout)."""
DRAIN = 20.0
"""Seconds in which what is under way at SIGTERM may end."""
IDLE, BUSY, GATHER = 0.5, 0.01, 0.003
"""Seconds to listen: with nothing to do, while threads work, and for what comes with the first of a batch."""
MAX_OCTETS = 16 * 1024 * 1024
MEASURE_EVERY = 10.0

Done = tuple[Incoming, Taken | Dead]


@dataclass(frozen=True, slots=True)
class Threads:
    """`take` has one thread, so that one batch is accepted at a time; `fetch` has several."""

    take: ThreadPoolExecutor
    fetch: ThreadPoolExecutor


@dataclass(frozen=True, slots=True)
class Desk:
    """What one queue is worked at with."""

    owned: Owned
    config: Config
    work: Work
    threads: Threads
    stop: Event


@dataclass(slots=True)
class _Batch:
    members: list[Incoming] = field(default_factory=list)
    fetching: bool = False


class Session:
    """One queue on one link, for one thread. Nothing is known of it after the link: what was not acknowledged is
    brought again."""

    def __init__(self, link: Link, desk: Desk) -> None:
        self._link = link
        self._owned, self._config, self._work = desk.owned, desk.config, desk.work
        self._threads, self._stop = desk.threads, desk.stop
        self._waiting: deque[Incoming] = deque()
        self._held: list[Incoming] = []
        self._running: dict[Future[list[Outcome]], _Batch] = {}
        self._paused_until = 0.0
        self._paused_for = ""
        self._measure_at = 0.0
        self._log = log.bind(queue=desk.owned.queue, account=desk.owned.username)

    def begin(self) -> None:
        """Have messages brought. Raises link.ERRORS."""
        self._link.consume(self._owned.queue, self._config.prefetch, self._brought)

    def serve(self) -> None:
        """Until we are to stop and what is under way has ended. Raises link.ERRORS."""
        try:
            while not self._stop.is_set():
                self._listen()
                self._settle_done()
                self._requeue_old()
                self._start()
                self._measure()
            self._end()
        finally:
            # What is not begun would be done once more than needed: it is brought again.
            for future in self._running:
                future.cancel()

    def _end(self) -> None:
        self._link.stop_consuming()
        self._running = {future: batch for future, batch in self._running.items() if not future.cancel()}
        until = time.monotonic() + DRAIN
        while self._running and time.monotonic() < until:
            self._link.wait(BUSY)
            self._settle_done()

    def _measure(self) -> None:
        if (now := time.monotonic()) >= self._measure_at:
            self._measure_at = now + MEASURE_EVERY
            INGEST_DEPTH.labels(self._owned.queue).set(self._link.depth(self._owned.queue))

    def _brought(self, message: amqp.Message) -> None:
        properties = dict(message.properties)
        headers = properties.pop("application_headers", None) or {}
        tag = message.delivery_info["delivery_tag"]
        body = message.body.encode() if isinstance(message.body, str) else bytes(message.body)  # an empty one is ""
        self._waiting.append(Incoming(tag, body, properties, headers))

    def _listen(self) -> None:
        heard = self._link.wait(BUSY if self._running else IDLE)
        while heard and len(self._waiting) < self._config.prefetch:
            heard = self._link.wait(GATHER)

    def _start(self) -> None:
        now = time.monotonic()
        self._waiting.extendleft(reversed([one for one in self._held if one.not_before <= now]))
        self._held = [one for one in self._held if one.not_before > now]
        busy = any(not batch.fetching for batch in self._running.values())
        if self._waiting and not busy and now >= self._paused_until:
            batch = self._next_batch()
            self._submit(self._threads.take, lambda: self._work.take(batch), _Batch(batch))

    def _next_batch(self) -> list[Incoming]:
        """After a pause one message shows whether there is room again."""
        most, octets = (1 if self._paused_for else self._config.prefetch), 0
        batch: list[Incoming] = []
        while self._waiting and len(batch) < most:
            octets += len(self._waiting[0].body)
            if batch and octets > MAX_OCTETS:
                break
            batch.append(self._waiting.popleft())
        return batch

    def _submit(self, threads: Executor, work: Callable[[], list[Outcome]], batch: _Batch) -> None:
        self._running[threads.submit(with_fresh_connection, work)] = batch

    def _settle_done(self) -> None:
        for future in [future for future in self._running if future.done()]:
            batch = self._running.pop(future)
            self._settle(batch.members, self._outcomes(future, len(batch.members)))

    def _outcomes(self, future: Future[list[Outcome]], many: int) -> list[Outcome]:
        error = future.exception()
        if error is None:
            return future.result()
        self._log.error("messages not taken", messages=many, exc_info=error)
        return [Later(UNFORESEEN, "internal")] * many

    def _settle(self, members: Sequence[Incoming], outcomes: Sequence[Outcome]) -> None:
        done: list[Done] = []
        pause: Later | None = None
        for one, outcome in zip(members, outcomes, strict=True):
            if isinstance(outcome, Fetch):
                self._fetch(one, outcome)
            elif isinstance(outcome, Later):
                self._hold(one, outcome.seconds)
                pause = outcome if outcome.everything else pause
            else:
                done.append((one, outcome))
        if pause is not None:
            self._pause(pause)
        elif any(isinstance(outcome, Taken) for _, outcome in done):
            self._resume()
        self._answer(done)

    def _hold(self, one: Incoming, seconds: float) -> None:
        one.not_before = time.monotonic() + seconds
        self._held.append(one)

    def _fetch(self, one: Incoming, fetch: Fetch) -> None:
        self._submit(self._threads.fetch, lambda: [self._work.fetch(one, fetch.request)], _Batch([one], fetching=True))

    def _pause(self, later: Later) -> None:
        self._paused_until = time.monotonic() + later.seconds
        if self._paused_for != later.reason:
            self._log.error("messages wait in their queue", code=later.reason, reason=later.text)
        self._paused_for = later.reason

    def _resume(self) -> None:
        if self._paused_for:
            self._log.warning("messages are taken again", code=self._paused_for)
        self._paused_until, self._paused_for = 0.0, ""

    def _requeue_old(self) -> None:
        oldest = time.monotonic() - HOLD_AT_MOST
        for one in [one for one in (*self._waiting, *self._held) if one.since < oldest]:
            (self._waiting if one in self._waiting else self._held).remove(one)
            self._link.requeue(one.tag)

    def _answer(self, done: Sequence[Done]) -> None:
        """Tell publishers or the dead-letter queue, and acknowledge what has been told."""
        letters: dict[int, Outgoing] = {}
        for one, outcome in done:
            if letter := self._letter(one, outcome, letters):
                letters[one.tag] = letter
        self._link.publish([*letters.values()])
        self._check([(one, outcome, letters[one.tag]) for one, outcome in done if one.tag in letters])
        self._note_told([o.receipt.pk for one, o in done if isinstance(o, Taken) and _confirmed(letters.get(one.tag))])
        for one, outcome in done:
            if one not in self._held:
                self._link.ack(one.tag)
                self._tell_log(outcome)

    def _letter(self, one: Incoming, outcome: Taken | Dead, letters: dict[int, Outgoing]) -> Outgoing | None:
        if isinstance(outcome, Dead):
            return outgoing.dead_letter(one, outcome, self._owned.queue, self._config.dead_letters(self._owned.queue))
        said = {letter.properties.get("message_id") for letter in letters.values()}
        queue = self._reply_queue(one)
        if not queue or outcome.receipt.told_at is not None or str(outcome.receipt.pk) in said:
            return None
        return outgoing.acknowledgement(one, outcome, queue)

    def _reply_queue(self, one: Incoming) -> str:
        wanted = outgoing.reply_queue(one.properties)
        if wanted in self._config.own_queues:
            self._log.warning("reply_to names a queue of this door; ignored")
            wanted = ""
        return wanted or self._config.reply_queue

    def _check(self, told: Sequence[tuple[Incoming, Taken | Dead, Outgoing]]) -> None:
        """Raises ConnectionError for what the broker has not taken into queues that are ours to see to."""
        for one, outcome, letter in told:
            if letter.confirmed:
                continue
            if isinstance(outcome, Dead) or letter.queue == self._config.reply_queue:
                raise ConnectionError(f"the broker did not take a message for {letter.queue}")
            if letter.returned:
                self._log.warning("nobody is there to be told", publisher_message_id=outcome.publisher_message_id)
            else:
                self._log.warning("the queue of reply_to takes nothing", reply_to=letter.queue)
                self._hold(one, UNFORESEEN)

    def _note_told(self, ids: Sequence[uuid.UUID]) -> None:
        if not ids:
            return
        try:
            with_fresh_connection(receipts.told, ids)
        except DatabaseError as error:
            # Should the same come once more, its publisher is told once more, of the same event.
            self._log.warning("not noted that publishers were told", error=type(error).__name__)

    def _tell_log(self, outcome: Taken | Dead) -> None:
        again = isinstance(outcome, Taken) and outcome.receipt.told_at is not None
        INGESTED.labels("dead_letter" if isinstance(outcome, Dead) else "again" if again else "taken").inc()
        if isinstance(outcome, Taken):
            event = "message brought again" if again else "message taken"
            self._log.info(event, message_id=str(outcome.receipt.message_id))
        else:
            self._log.warning("dead letter", code=outcome.reason, reason=outcome.text)


def _confirmed(letter: Outgoing | None) -> bool:
    return letter is not None and letter.confirmed
