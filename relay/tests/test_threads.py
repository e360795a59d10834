"""The threads that ask the database (ACC-4, ACC-7)."""

import asyncio
import threading

import pytest
import structlog
from django.db import connections

from relay import threads as module
from relay.threads import Threads, Unavailable


@pytest.fixture
def pool():
    made = []

    def make(database_threads=2, answer_within=5.0):
        made.append(Threads(database_threads, answer_within))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.mark.parametrize(("database_threads", "accept_slots"), [(1, 1), (2, 1), (3, 2), (4, 2), (64, 2)])
def test_connections_are_shared_between_acceptance_and_questions(pool, database_threads, accept_slots):
    made = pool(database_threads)
    assert made.accept_slots == accept_slots
    assert made.accept_slots + made._asking == max(2, database_threads)


def test_answers_and_errors_come_back(pool):
    def refuse():
        raise KeyError("no")

    async def main():
        made = pool()
        assert await made.ask(lambda a, *, b: a + b, 1, b=2) == 3
        with pytest.raises(KeyError):
            await made.ask(refuse)

    asyncio.run(main())


def test_the_log_context_goes_along(pool):
    async def main():
        structlog.contextvars.bind_contextvars(session_id="abc")
        return await pool().ask(structlog.contextvars.get_contextvars)

    assert asyncio.run(main()) == {"session_id": "abc"}


def test_a_question_nobody_answers_is_given_up_and_those_behind_it_are_never_asked(pool):
    release, asked = threading.Event(), []

    async def main():
        made = pool(2, 0.1)
        first = asyncio.ensure_future(made.ask(release.wait, 10))
        await asyncio.sleep(0.02)
        for _ in range(3):
            with pytest.raises(Unavailable):
                await made.ask(asked.append, "x")
        with pytest.raises(Unavailable):
            await first
        release.set()
        assert await made.ask(lambda: 7) == 7

    asyncio.run(main())
    assert asked == []


def test_so_many_questions_may_wait_and_no_more(pool, monkeypatch):
    monkeypatch.setattr(module, "MAX_WAITING", 3)
    release = threading.Event()

    async def main():
        made = pool()
        waiting = [asyncio.ensure_future(made.ask(release.wait, 10)) for _ in range(3)]
        await asyncio.sleep(0.02)
        with pytest.raises(Unavailable, match="too many"):
            await made.ask(lambda: 1)
        release.set()
        await asyncio.gather(*waiting)

    asyncio.run(main())


def test_a_stuck_thread_is_reported_at_the_end(monkeypatch):
    release = threading.Event()
    made = Threads(2, 1.0)
    made.accept.submit(release.wait, 10)
    assert made.close() is False
    release.set()


@pytest.mark.django_db(transaction=True)
def test_connections_are_closed_at_the_end(acme):
    opened = []

    def look():
        from accounts.models import Tenant

        opened.append(connections["default"])
        return Tenant.objects.count()

    made = Threads(3, 5.0)
    assert asyncio.run(made.ask(look)) == 1
    assert made.close() is True
    assert opened[0].connection is None
