"""One queue, read until we are to stop, however often the broker goes away."""

from __future__ import annotations

import random
import time
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import structlog
from amqp.exceptions import AMQPError
from django.db import connections

from delivery import rabbitmq
from delivery.letter import Limits
from providers.scrub import scrub
from relay import threads as pools
from relay.ingest.config import Config, Owned
from relay.ingest.fetch import Fetcher
from relay.ingest.link import ERRORS, Link
from relay.ingest.session import Desk, Session, Threads
from relay.ingest.work import Work

log = structlog.get_logger(__name__)

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 30.0
LIVED_WELL = 60.0
FETCHES = 4
QUORUM = {"x-queue-type": "quorum"}
UNLIMITED_SINCE = (4, 0)
"""From this version on RabbitMQ drops a message brought twenty times, unless told otherwise: with mail that waits for a
quota that is soon the case (https://www.rabbitmq.com/docs/quorum-queues#poison-message-handling)."""


class Consumer:
    """Reads one queue in the thread that calls `run`."""

    def __init__(self, owned: Owned, config: Config, limits: Limits, stop: Event) -> None:
        self.queue = owned.queue
        self.connected = False
        self.ended = False
        self._owned = owned
        self._config = config
        self._stop = stop
        self._threads = Threads(ThreadPoolExecutor(1, "ingest-take"), ThreadPoolExecutor(FETCHES, "ingest-fetch"))
        work = Work(owned, limits, Fetcher(config, limits, owned.tenant))
        self._desk = Desk(owned, config, work, self._threads, stop)

    def run(self) -> None:
        """Connect, again and again, until we are to stop."""
        pause = FIRST_PAUSE
        while not self._stop.is_set():
            began = time.monotonic()
            try:
                self._connect_and_serve()
            except ERRORS as error:
                self._log_failure(error)
            except Exception:
                log.exception("queue not read", queue=self.queue)
            self.connected = False
            if time.monotonic() - began > LIVED_WELL:
                pause = FIRST_PAUSE
            self._stop.wait(pause * random.uniform(0.5, 1.0))
            pause = min(pause * 2, LONGEST_PAUSE)
        connections.close_all()
        self.ended = all([pools.end(self._threads.take, 1), pools.end(self._threads.fetch, FETCHES)])

    def _connect_and_serve(self) -> None:
        link = Link(self._config.url, f"smtpproxy ingest {self.queue}")
        try:
            self._make_queues(link)
            session = Session(link, self._desk)
            session.begin()
            self.connected = True
            log.info("queue is read", queue=self.queue, account=self._owned.username)
            session.serve()
        finally:
            link.close()

    def _make_queues(self, link: Link) -> None:
        """Every queue that is needed, before anything is taken: durable, on all machines of a cluster."""
        names = [self.queue, self._config.dead_letters(self.queue), self._config.reply_queue]
        arguments: dict[str, object] = {**QUORUM}
        if link.server_version >= UNLIMITED_SINCE:
            arguments["x-delivery-limit"] = -1
        for name in filter(None, names):
            if self._config.declare:
                link.declare(name, arguments if name == self.queue else QUORUM)
            else:
                link.look_for(name)

    def _log_failure(self, error: Exception) -> None:
        text = scrub(str(error), [rabbitmq.password(self._config.url)])
        hint = "a queue of this name differs from what would be made; INGEST_DECLARE=false takes it as it is"
        other = isinstance(error, AMQPError) and getattr(error, "reply_code", 0) == 406
        log.error(
            "no link to the queue",
            queue=self.queue,
            error=f"{type(error).__name__}: {text}",
            **({"hint": hint} if other else {}),
        )
