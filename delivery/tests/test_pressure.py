"""ACC-7: new mail is put off while too much waits or the store is nearly full."""

from datetime import timedelta

import pytest
from django.utils import timezone
from structlog.testing import capture_logs

from delivery import intake, store
from delivery.exceptions import Deferred
from delivery.models import Message
from delivery.pressure import pressure
from delivery.submission import Accepted
from delivery.tests.factories import MessageFactory
from delivery.tests.mail import submission

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _look_each_time(monkeypatch, broker):
    monkeypatch.setattr("delivery.pressure.LOOK_EVERY", 0.0)
    pressure.forget()
    yield
    pressure.forget()


def answer(account):
    [one] = intake.accept([submission(account)])
    return one


def test_above_the_greatest_depth_mail_is_put_off_until_a_fifth_is_gone(acme_account, settings):
    settings.QUEUE_MAX_DEPTH = 10
    waiting = [MessageFactory(account=acme_account, recipients=[]) for _ in range(11)]
    put_off = answer(acme_account)
    assert (type(put_off), put_off.code, put_off.status) == (Deferred, "queue_full", "4.3.2")
    assert Message.objects.count() == 11
    for message in waiting[:2]:
        message.delete()
    assert isinstance(answer(acme_account), Deferred)
    waiting[2].delete()
    assert isinstance(answer(acme_account), Accepted)


def test_messages_that_wait_for_later_or_for_a_person_do_not_count(acme_account, settings):
    settings.QUEUE_MAX_DEPTH = 2
    for status in ("held", "dlq", "delivered"):
        MessageFactory(account=acme_account, status=status)
    assert isinstance(answer(acme_account), Accepted)


@pytest.mark.parametrize("setting", ["STORAGE_MIN_FREE_MB", "STORAGE_MIN_FREE_PERCENT"])
def test_with_a_store_that_is_nearly_full_mail_is_put_off(acme_account, settings, setting):
    octets, part = store.free_space()
    more = {"STORAGE_MIN_FREE_MB": octets // 2**20 + 100_000, "STORAGE_MIN_FREE_PERCENT": int(part * 100) + 5}
    setattr(settings, setting, more[setting])
    put_off = answer(acme_account)
    assert (type(put_off), put_off.code, put_off.status) == (Deferred, "store_full", "4.3.1")
    setattr(settings, setting, 0)
    assert isinstance(answer(acme_account), Accepted)


@pytest.mark.parametrize("setting", ["STORAGE_MIN_FREE_MB", "STORAGE_MIN_FREE_PERCENT"])
def test_a_store_that_was_nearly_full_needs_a_quarter_more_than_the_least(acme_account, settings, monkeypatch, setting):
    free = {"octets": 2**40, "part": 0.9}
    monkeypatch.setattr(store, "free_space", lambda: (free["octets"], free["part"]))
    settings.STORAGE_MIN_FREE_MB, settings.STORAGE_MIN_FREE_PERCENT = 1000, 10
    now_free = {"STORAGE_MIN_FREE_MB": ("octets", 2**20), "STORAGE_MIN_FREE_PERCENT": ("part", 0.0001)}
    name, unit = now_free[setting]
    for amount, taken in ((1000, True), (999, False), (1001, False), (1240, False), (1260, True), (1001, True)):
        free[name] = amount * unit
        assert isinstance(answer(acme_account), Accepted) is taken, amount


def test_what_is_scheduled_for_later_does_not_count(acme_account, settings):
    settings.QUEUE_MAX_DEPTH = 2
    for status in ("scheduled", "retrying"):
        for _ in range(3):
            MessageFactory(account=acme_account, status=status, next_attempt_at=timezone.now() + timedelta(hours=1))
    assert isinstance(answer(acme_account), Accepted)


def test_a_change_is_logged_once(acme_account, settings):
    settings.QUEUE_MAX_DEPTH = 1
    waiting = [MessageFactory(account=acme_account, recipients=[]) for _ in range(2)]
    with capture_logs() as logs:
        answer(acme_account), answer(acme_account)
        for message in waiting:
            message.delete()
        answer(acme_account), answer(acme_account)
    told = [(entry["event"], entry["reason"]) for entry in logs if "reason" in entry]
    assert told == [("new mail is put off", "queue_full"), ("new mail is taken again", "queue_full")]


def test_what_was_seen_counts_for_a_while(acme_account, settings, monkeypatch, django_assert_max_num_queries):
    monkeypatch.setattr("delivery.pressure.LOOK_EVERY", 60.0)
    pressure.check()
    with django_assert_max_num_queries(0):
        for _ in range(5):
            pressure.check()
