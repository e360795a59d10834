"""The threads of one listener process: whatever waits for database, disk or hashing happens here (ACC-4)."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from threading import Barrier, BrokenBarrierError
from typing import ParamSpec, TypeVar

from django.db import close_old_connections, connections

P = ParamSpec("P")
T = TypeVar("T")

ACCEPT_SLOTS = 2
MAX_WAITING = 2000  # questions; a client that waits for an answer asks no second one
SPOOL_THREADS = 2


class Unavailable(Exception):
    """No thread is free, or none answered in time."""


class Threads:
    """Three pools, so that neither a stuck database nor a slow disk stops what does not need it.

    `accept` and `questions` together have `database_threads` threads (at least two), each with one database
    connection; `disk` has none.
    """

    def __init__(self, database_threads: int, answer_within: float) -> None:
        self.accept_slots = max(1, min(ACCEPT_SLOTS, database_threads - 1))
        self._asking = max(1, database_threads - self.accept_slots)
        self._answer_within = answer_within
        self._waiting = 0
        self.accept = ThreadPoolExecutor(self.accept_slots, "smtp-accept")
        self._questions = ThreadPoolExecutor(self._asking, "smtp-question")
        self._disk = ThreadPoolExecutor(SPOOL_THREADS, "smtp-spool")

    async def ask(self, question: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """The answer to a question that blocks on the database. Raises what it raises, or Unavailable.

        One that is given up before a thread took it is never asked; one that a thread is stuck with keeps that thread.
        """
        if self._waiting >= MAX_WAITING:
            raise Unavailable("too many questions are waiting")
        self._waiting += 1
        context = contextvars.copy_context()
        future = asyncio.get_running_loop().run_in_executor(
            self._questions, context.run, partial(with_fresh_connection, question, *args, **kwargs)
        )
        try:
            async with asyncio.timeout(self._answer_within):
                return await future
        except TimeoutError as error:
            if not future.cancelled():
                raise
            raise Unavailable(f"no answer within {self._answer_within:g} s") from error
        finally:
            self._waiting -= 1

    async def on_disk(self, work: Callable[[], T]) -> T:
        """What `work` returns; it blocks on the disk."""
        return await asyncio.get_running_loop().run_in_executor(self._disk, work)

    def close(self) -> bool:
        """End the threads and their database connections; False when one is stuck and had to be left behind."""
        self._disk.shutdown(wait=False, cancel_futures=True)
        ended = [end(self.accept, self.accept_slots), end(self._questions, self._asking)]
        return all(ended)


def with_fresh_connection(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """What `work` returns, on a database connection that works; a broken one is made anew the next time."""
    close_old_connections()
    try:
        return work(*args, **kwargs)
    finally:
        close_old_connections()


def end(pool: ThreadPoolExecutor, threads: int) -> bool:
    """End a pool of so many threads; False when one is stuck and had to be left behind.

    Closes each thread's database connections, for which every thread must be free at the same time.
    """
    together = Barrier(threads + 1)

    def close_connections() -> None:
        with contextlib.suppress(BrokenBarrierError):
            together.wait(timeout=2)
        connections.close_all()

    for _ in range(threads):
        pool.submit(close_connections)
    try:
        together.wait(timeout=2)
    except BrokenBarrierError:
        pool.shutdown(wait=False, cancel_futures=True)
        return False
    pool.shutdown(wait=True)
    return True
