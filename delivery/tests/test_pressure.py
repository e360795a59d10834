"""ACC-7: new mail is put off while too much waits or the store is nearly full."""

import pytest

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


def test_what_was_seen_counts_for_a_while(acme_account, settings, monkeypatch, django_assert_max_num_queries):
    monkeypatch.setattr("delivery.pressure.LOOK_EVERY", 60.0)
    pressure.check()
    with django_assert_max_num_queries(0):
        for _ in range(5):
            pressure.check()
