"""Chores: looked for by the sweep, done by one worker at a time, given up by none. DEL-3, QUE-8."""

import base64
import json

import kombu
import pytest
from celery import current_app
from django.conf import settings
from django.db import OperationalError
from structlog.testing import capture_logs

from accounts import shared_state
from delivery import chores, tasks

pytestmark = pytest.mark.django_db


@pytest.fixture
def work(monkeypatch):
    """A chore with as much to do as the list has entries."""
    monkeypatch.setattr(chores, "CHORES", {})
    left = ["first"]

    def run(_turn):
        if left:
            left.pop()

    chores.register(chores.Chore(name="count", queue="maintenance", due=lambda: bool(left), run=run))
    return left


def rung(broker):
    entries = broker.lrange("maintenance", 0, -1)
    return [json.loads(base64.b64decode(json.loads(entry)["body"]))[0] for entry in entries]


def test_a_chore_with_something_to_do_is_rung_for_once(work, broker):
    assert chores.ring_due() == 1
    assert chores.ring_due() == 0
    assert [name for name, _ in rung(broker)] == ["count"]


def test_a_chore_with_nothing_to_do_is_not_rung_for(work, broker):
    work.clear()
    assert chores.ring_due() == 0
    assert rung(broker) == []


def test_a_chore_that_was_done_is_rung_for_again_when_there_is_more(work, broker):
    work.append("second")
    chores.ring_due()
    tasks.chore(*rung(broker)[0])
    assert work == ["first"]
    assert chores.ring_due() == 1


def test_a_chore_that_fails_is_rung_for_again(work, broker, monkeypatch):
    def fail(_turn):
        raise RuntimeError("on purpose")

    monkeypatch.setitem(
        chores.CHORES, "count", chores.Chore(name="count", queue="maintenance", due=lambda: True, run=fail)
    )
    chores.ring_due()
    with pytest.raises(RuntimeError):
        tasks.chore(*rung(broker)[0])
    assert chores.ring_due() == 1


def test_one_that_cannot_be_looked_at_holds_up_no_other(work, broker):
    def slow():
        raise OperationalError("canceling statement due to statement timeout")

    both = {"slow": chores.Chore(name="slow", queue="maintenance", due=slow, run=lambda _turn: None), **chores.CHORES}
    chores.CHORES.clear()
    chores.CHORES.update(both)
    with capture_logs() as logs:
        assert chores.ring_due() == 1
    assert [name for name, _ in rung(broker)] == ["count"]
    assert [entry["chore"] for entry in logs] == ["slow"]


def test_what_is_done_from_time_to_time_is_rung_for_as_soon_as_the_broker_is_back(work, broker, monkeypatch):
    """Else a broker that is away for a moment would cost a chore its hour."""
    hourly = chores.Chore(name="hourly", queue="maintenance", due=chores.every(3600, "hourly"), run=lambda _turn: None)
    monkeypatch.setattr(chores, "CHORES", {"hourly": hourly})
    dead = kombu.Connection("redis://127.0.0.1:1/0", transport_options=settings.CELERY_BROKER_TRANSPORT_OPTIONS)
    with monkeypatch.context() as away:
        away.setattr(current_app.amqp, "_producer_pool", kombu.pools.producers[dead])
        assert chores.ring_due() == 0
    assert chores.ring_due() == 1


def test_one_that_is_in_another_workers_hands_is_not_let_go_by_a_late_repetition(work, broker):
    chores.ring_due()
    tasks.chore("count", "somebody else's")
    work.append("more")
    assert chores.ring_due() == 0


def test_a_ring_that_was_lost_is_repeated_after_a_while(work, broker):
    chores.ring_due()
    assert 0 < shared_state.client().ttl(shared_state.key("chore", "count")) <= chores.RUNG


def test_without_the_shared_store_a_chore_is_rung_for_all_the_same(work, broker, settings, monkeypatch):
    monkeypatch.setattr(chores, "_rung_at", {})
    settings.SHARED_STATE_URL = "redis://127.0.0.1:1/0"
    assert chores.ring_due() == 1
    assert chores.ring_due() == 0


def test_an_unknown_chore_is_dropped_and_told_of():
    with capture_logs() as logs:
        tasks.chore("no such chore", "anybody")
    assert [entry["event"] for entry in logs] == ["unknown chore dropped"]


def test_two_chores_cannot_have_one_name(work):
    with pytest.raises(ValueError, match="count"):
        chores.register(chores.Chore(name="count", queue="events", due=lambda: False, run=lambda _turn: None))


def test_what_is_done_from_time_to_time_is_due_once_in_that_time():
    due = chores.every(3600, "daily")
    assert due()
    assert not due()
    assert 3500 < shared_state.client().ttl(shared_state.key("chore-begun", "daily")) <= 3600
