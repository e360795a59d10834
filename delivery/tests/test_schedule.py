"""Scheduled send: the header, strictly read, and the time it is sent at. DEL-11, SMTP-8."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from django.utils import timezone

from delivery import control, intake, schedule, sender, store, sweeper
from delivery.exceptions import Rejected
from delivery.models import Message, MessageStatus
from delivery.tests.mail import accepted, raw_message, submission

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
NOW = datetime(2026, 2, 28, tzinfo=UTC)


@pytest.mark.parametrize(
    "value",
    [
        "Sun, 1 Mar 2026 12:00:00 +0000",
        "Sun, 01 Mar 2026 13:00:00 +0100 (CET)",
        "1 Mar 2026 12:00 GMT",
        "sun,  1 mar 2026\t12:00:00 utc",
        "1 Mar 2026 07:00:00 EST",
        "2026-03-01T12:00:00Z",
        "2026-03-01t17:30:00.5+05:30",
        "2026-03-01 02:00:00-10:00",
        "Sun, 1 Mar 2026 12:00:00 -0000",
    ],
)
def test_a_date_is_read_in_both_forms_and_every_zone(value):
    assert schedule.send_at([value], None, NOW) == NOON


@pytest.mark.parametrize(
    "value",
    [
        "",
        "tomorrow",
        "1 Mar 2026 12:00:00",
        "2026-03-01T12:00:00",
        "2026-03-01",
        "1 Mar 2026 12:00:00 CET",
        "30 Feb 2026 12:00:00 +0000",
        "2026-13-01T12:00:00Z",
        "2026-03-01T25:00:00Z",
        "1 Mar 26 12:00:00 +0000",
        "0000-01-01T00:00:00+00:00",
        "2026-03-01T12:00:00Z\x00",
        "1772366400",
        "2026-03-01T12:00:00+01:75",
        "1 Mar 2026 12:00:00 -0190",
        "Mon, 1 Mar 2026 12:00:00 +0000",  # a Sunday
        "۲۰۲۶-03-01T12:00:00Z",
        "(" * 100_000,
    ],
)
def test_what_is_no_certain_moment_is_refused(value):
    with pytest.raises(Rejected, match="cannot be read"):
        schedule.send_at([value], None, NOW)


def test_what_has_passed_is_sent_at_once():
    assert schedule.send_at(["2020-01-01T00:00:00Z"], None, NOW) is None


def test_what_lies_too_far_ahead_is_refused(settings):
    settings.SCHEDULE_MAX_DAYS = 1
    with pytest.raises(Rejected, match="more than 1 day ahead"):
        schedule.send_at(["2026-03-01T12:00:00Z"], None, NOW)


def test_two_that_say_the_same_are_one_and_two_that_differ_are_refused():
    same = ["2026-03-01T12:00:00Z", "Sun, 1 Mar 2026 13:00:00 +0100"]
    assert schedule.send_at(same, NOON, NOW) == NOON
    with pytest.raises(Rejected, match="differently"):
        schedule.send_at(same, NOON + timedelta(hours=1), NOW)


pytest_db = pytest.mark.django_db


def later(**ahead):
    return (timezone.now() + timedelta(**ahead)).replace(microsecond=0)


@pytest_db
def test_a_message_with_the_header_waits_for_its_time_and_goes_without_it(acme_account, box):
    at = later(hours=3)
    raw = raw_message(f"X-Send-At: {format_datetime(at)}")
    message = accepted(acme_account, raw)
    assert (message.status, message.scheduled_at, message.next_attempt_at) == (MessageStatus.SCHEDULED, at, at)
    assert [event.type for event in message.events.all()] == ["received", "scheduled"]
    sender.deliver([message.pk])
    assert sweeper.ring_due() == 0
    assert box.accepted == []

    Message.objects.filter(pk=message.pk).update(next_attempt_at=timezone.now())
    assert sweeper.ring_due() == 1
    sender.deliver([message.pk])
    [taken] = box.accepted
    assert taken.raw == raw_message()
    assert store.read(message.store_key) == raw


@pytest_db
def test_a_scheduled_message_can_be_cancelled(acme_account, box):
    message = accepted(acme_account, raw_message(f"X-Send-At: {format_datetime(later(hours=3))}"))
    assert control.cancel([message.pk], actor=None).changed == 1
    Message.objects.get(pk=message.pk, status=MessageStatus.CANCELLED, next_attempt_at=None)


@pytest_db
def test_a_header_in_the_past_is_as_if_it_were_not_there(acme_account, box):
    message = accepted(acme_account, raw_message("X-Send-At: 2020-01-01T00:00:00Z"))
    assert (message.status, message.scheduled_at) == (MessageStatus.QUEUED, None)
    sender.deliver([message.pk])
    assert box.accepted[0].raw == raw_message()


@pytest_db
def test_a_header_that_cannot_be_followed_leaves_nothing(acme_account, broker):
    [answer] = intake.accept([submission(acme_account, raw_message("X-Send-At: soon"))])
    assert isinstance(answer, Rejected)
    assert (answer.code, answer.status) == ("bad_send_at", "5.6.0")
    assert not Message.objects.exists()


@pytest_db
def test_a_scheduled_message_accepted_too_late_for_its_client_can_be_withdrawn(acme_account, broker):
    message = accepted(acme_account, scheduled_at=later(hours=1))
    assert intake.withdraw(message.pk)
    Message.objects.get(pk=message.pk, status=MessageStatus.ENQUEUE_FAILED, next_attempt_at=None)
