"""Group commit and the circuit for a silent database (ACC-5, ACC-7)."""

import asyncio
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest

from delivery.exceptions import Deferred, Rejected
from delivery.spool import Spool
from delivery.submission import Accepted, Submission
from relay import batching
from relay.batching import Batcher
from relay.tests.listening import ACME


def submission(number=0, size=10):
    body = Spool(10**9, "unused")
    body.write(b"x" * size)
    return Submission(
        message_id=uuid.UUID(int=number),
        account_id=ACME.account_id,
        source="smtp",
        mail_from="app@acme.example",
        recipients=("bob@example.org",),
        body=body,
        received_at=datetime.now(UTC),
    )


class Door:
    """An acceptance that waits for the test."""

    def __init__(self):
        self.open = threading.Event()
        self.calls = []

    def accept(self, submissions):
        self.calls.append([s.message_id.int for s in submissions])
        assert self.open.wait(20)
        return [Accepted(s.message_id) for s in submissions]


def run(scenario, accept, **options):
    """Run `scenario(send, batcher)`; `send(number)` begins an acceptance and gives its task."""
    options = {"slots": 2, "timeout": 10, **options}
    released = []

    async def main():
        with ThreadPoolExecutor(options["slots"]) as threads:
            batcher = Batcher(accept, threads, **options)

            def send(number, size=10):
                one = submission(number, size)
                return asyncio.ensure_future(batcher.accept(one, lambda: released.append(number)))

            return await scenario(send, batcher)

    return asyncio.run(main()), released


async def settled(condition):
    for _ in range(500):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("never")


def test_a_message_alone_is_accepted_at_once_and_its_body_released():
    async def scenario(send, batcher):
        return await send(1)

    answer, released = run(scenario, lambda subs: [Accepted(s.message_id) for s in subs])
    assert answer == Accepted(uuid.UUID(int=1))
    assert released == [1]


def test_what_ends_while_another_is_written_is_written_together(monkeypatch):
    monkeypatch.setattr(batching, "TOGETHER", 60)
    door = Door()

    async def scenario(send, batcher):
        tasks = [send(0)]
        await settled(lambda: door.calls)
        tasks += [send(number) for number in range(1, 40)]
        await asyncio.sleep(0.05)
        assert len(door.calls) == 1
        door.open.set()
        return await asyncio.gather(*tasks)

    answers, released = run(scenario, door.accept)
    assert door.calls == [[0], list(range(1, 40))]
    assert [answer.message_id.int for answer in answers] == list(range(40))
    assert sorted(released) == list(range(40))


def test_a_call_that_takes_long_does_not_hold_up_what_comes_after_it():
    door = Door()

    async def scenario(send, batcher):
        tasks = [send(0)]
        await settled(lambda: door.calls)
        tasks.append(send(1))
        await settled(lambda: len(door.calls) == 2)
        door.open.set()
        return await asyncio.gather(*tasks)

    run(scenario, door.accept)
    assert door.calls == [[0], [1]]


@pytest.mark.parametrize(("limit", "value"), [("MAX_MESSAGES", 3), ("MAX_OCTETS", 35)])
def test_more_than_one_call_can_hold_is_written_by_two_at_once(monkeypatch, limit, value):
    monkeypatch.setattr(batching, "TOGETHER", 60)
    monkeypatch.setattr(batching, limit, value)
    door = Door()

    async def scenario(send, batcher):
        tasks = [send(0)]
        await settled(lambda: door.calls)
        tasks += [send(number) for number in range(1, 5)]
        await settled(lambda: len(door.calls) == 2)
        door.open.set()
        return await asyncio.gather(*tasks)

    run(scenario, door.accept)
    assert door.calls == [[0], [1, 2, 3], [4]]


def test_batches_are_bounded_in_messages_and_octets(monkeypatch):
    monkeypatch.setattr(batching, "MAX_MESSAGES", 5)
    monkeypatch.setattr(batching, "MAX_OCTETS", 100)
    door = Door()
    door.open.set()

    async def scenario(send, batcher):
        return await asyncio.gather(*(send(n) for n in range(12)), send(12, 90), send(13, 20), send(14, 5000))

    run(scenario, door.accept, slots=1)
    assert door.calls == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9], [10, 11], [12], [13], [14]]


def test_each_gets_its_own_answer():
    no = Rejected("no", code="no", status="5.7.1")

    def accept(subs):
        return [no if s.message_id.int == 1 else Accepted(s.message_id) for s in subs]

    async def scenario(send, batcher):
        return await asyncio.gather(*(send(number) for number in range(3)))

    (first, second, third), _ = run(scenario, accept)
    assert (first.message_id.int, second, third.message_id.int) == (0, no, 2)


def explode(subs):
    raise RuntimeError("secret")


@pytest.mark.parametrize("accept", [explode, lambda subs: [], lambda subs: [Accepted(uuid.uuid4())] * 3])
def test_whatever_goes_wrong_all_of_the_batch_are_told_to_try_again(accept):
    async def scenario(send, batcher):
        answers = await asyncio.gather(send(0), send(1))
        await batcher.drained()
        return answers

    answers, released = run(scenario, accept)
    assert all(isinstance(answer, Deferred) and answer.status == "4.3.0" for answer in answers)
    assert "secret" not in str(answers)
    assert sorted(released) == [0, 1]


def test_a_message_that_is_not_accepted_in_time_is_deferred_and_its_body_kept_for_the_writer():
    door = Door()

    async def main():
        released = []
        with ThreadPoolExecutor(1) as threads:
            batcher = Batcher(door.accept, threads, slots=1, timeout=0.1)
            answer = await batcher.accept(submission(), lambda: released.append(True))
            assert released == []
            door.open.set()
            await batcher.drained()
        return answer, released

    answer, released = asyncio.run(main())
    assert isinstance(answer, Deferred)
    assert released == [True]


def test_a_message_still_in_the_queue_at_its_time_is_never_accepted():
    door = Door()

    async def scenario(send, batcher):
        first = send(0)
        await settled(lambda: door.calls == [[0]])
        second = await send(1)
        door.open.set()
        await first
        await batcher.drained()
        return second

    second, released = run(scenario, door.accept, slots=1, timeout=0.2)
    assert isinstance(second, Deferred)
    assert door.calls == [[0]]
    assert sorted(released) == [0, 1]


def test_when_every_writer_is_stuck_new_messages_are_deferred_at_once():
    door = Door()

    async def scenario(send, batcher):
        stuck = []
        for number in range(2):
            stuck.append(send(number))
            await settled(lambda n=number: len(door.calls) == n + 1)
        queued = send(2)
        began = time.monotonic()
        assert isinstance(await queued, Deferred)
        assert time.monotonic() - began < 5
        for number in range(3, 200):
            assert isinstance(await send(number), Deferred)
        assert len(door.calls) == 2
        door.open.set()
        await asyncio.gather(*stuck)
        return await send(300)

    answer, released = run(scenario, door.accept, silent_after=0.1)
    assert answer == Accepted(uuid.UUID(int=300))
    assert len(released) == 201


def test_big_bodies_are_given_more_time_before_they_count_as_stuck():
    door = Door()

    async def scenario(send, batcher):
        first = send(0, 2 * batching.OCTETS_A_SECOND)
        await settled(lambda: door.calls)
        await asyncio.sleep(0.2)
        second = send(1)
        await asyncio.sleep(0.05)
        assert not second.done()
        door.open.set()
        return await asyncio.gather(first, second)

    answers, _ = run(scenario, door.accept, slots=1, silent_after=0.05)
    assert all(isinstance(answer, Accepted) for answer in answers)


def test_messages_of_many_clients_share_batches_on_the_wire(listen, recorder):
    recorder.known_networks["127.0.0.1"] = ACME
    gate = threading.Event()

    def slowly(one):
        gate.wait(10)
        return Accepted(one.message_id)

    recorder.answer = slowly
    running = listen()
    clients = [running.client() for _ in range(20)]
    for client in clients:
        client.command("EHLO x")
        client.envelope()
        client.send(b"\r\n.\r\n")
    time.sleep(0.2)
    gate.set()
    assert {client.reply()[:3] for client in clients} == {"250"}
    assert len(recorder.messages) == 20
    assert len(recorder.batches) <= 5
    for client in clients:
        client.close()


@pytest.mark.parametrize("gone", [False, True])
def test_what_was_accepted_after_its_client_was_told_to_try_again_is_taken_back(gone):
    """ACC-1; the message of a client that has gone without waiting stays, for it may never come back."""
    door, withdrawn = Door(), []

    async def scenario(send, batcher):
        task = send(7)
        await asyncio.sleep(0.05)
        if gone:
            task.cancel()
        await asyncio.wait([task], timeout=5)
        door.open.set()
        await batcher.drained()
        await asyncio.sleep(0.2)

    def withdraw(message_id):
        withdrawn.append(message_id.int)
        return True

    run(scenario, door.accept, timeout=0.2, withdraw=withdraw)
    assert withdrawn == ([] if gone else [7])
