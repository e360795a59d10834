"""QUE-5: slow mail never keeps every process of a worker busy."""

import multiprocessing
import os
import signal

import pytest

from accounts.tests.factories import AccountFactory
from delivery import lanes, queues

FORK = multiprocessing.get_context("fork")


class Process:
    """A process of the worker that does what it is told."""

    def __init__(self, shared):
        self.pipe, theirs = FORK.Pipe()
        self.process = FORK.Process(target=self._run, args=(shared, theirs), daemon=True)
        self.process.start()

    @staticmethod
    def _run(shared, pipe):
        while True:
            method, *arguments = pipe.recv()
            pipe.send(getattr(shared, method)(*arguments))

    def ask(self, *what):
        self.pipe.send(what)
        assert self.pipe.poll(10)
        return self.pipe.recv()

    def end(self, how=signal.SIGTERM):
        if self.process.is_alive():
            os.kill(self.process.pid, how)
        self.process.join()


@pytest.fixture
def started():
    made = []

    def start(count):
        shared = lanes.Lanes(count)
        made.extend(Process(shared) for _ in range(count))
        return made

    yield start
    for process in made:
        process.end()


def test_one_process_is_left_for_mail_that_is_not_slow(started):
    one, two, three = started(3)
    assert one.ask("take", queues.LARGE)
    assert two.ask("take", queues.AGAIN)
    assert not three.ask("take", queues.LARGE)
    assert not three.ask("take", queues.AGAIN)
    assert three.ask("take", queues.FRESH)


def test_who_leaves_is_told_what_found_no_lane(started):
    one, two = started(2)
    assert one.ask("take", queues.LARGE)
    assert not two.ask("take", queues.AGAIN)
    assert list(one.ask("leave")) == [queues.AGAIN]
    assert two.ask("take", queues.AGAIN)
    assert list(two.ask("leave")) == []
    assert list(two.ask("leave")) == []


def test_the_lane_of_a_killed_process_is_free(started):
    one, two = started(2)
    assert one.ask("take", queues.LARGE)
    assert not two.ask("take", queues.LARGE)
    one.end(signal.SIGKILL)
    assert two.ask("take", queues.LARGE)


def test_a_single_process_does_everything(started):
    [one] = started(1)
    for name in queues.MAIL:
        assert one.ask("take", name)
        one.ask("leave")


@pytest.mark.django_db
def test_one_more_process_is_kept_for_transactional_mail_where_there_is_any():
    """Within one process every lock is granted, so what is looked at here is how many lanes there are."""
    assert lanes.Lanes(4)._reserved() == 0
    AccountFactory(transactional=True, status="suspended")
    assert lanes.Lanes(4)._reserved() == 0
    AccountFactory(transactional=True)
    assert lanes.Lanes(4)._reserved() == 1
    assert lanes.Lanes(3)._reserved() == 0


def test_a_worker_for_slow_mail_alone_uses_every_process():
    lanes.open_for(2, [queues.LARGE, queues.AGAIN])
    assert lanes._lanes is None
    lanes.open_for(2, [queues.LARGE, queues.FRESH])
    assert lanes._lanes is not None
    lanes.open_for(1, [queues.LARGE])


def test_without_a_worker_there_are_no_lanes():
    assert lanes.take(queues.LARGE)
    assert list(lanes.leave()) == []
