"""RET-1: when a message that has failed temporarily is tried again."""

from datetime import UTC, datetime, timedelta

import pytest
from django.conf import settings

from delivery.retry import next_try

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SCHEDULE = (30, 60, 120, 300, 900)


def test_the_platforms_schedule_is_five_waits_up_to_a_quarter_of_an_hour():
    assert tuple(settings.DELIVERY_RETRY_SCHEDULE) == SCHEDULE


@pytest.mark.parametrize("tries", range(5))
def test_each_wait_is_between_half_and_the_whole_of_the_schedule(tries):
    waits = {(next_try(tries, SCHEDULE, NOW, None) - NOW).total_seconds() for _ in range(500)}
    assert SCHEDULE[tries] * 0.5 <= min(waits) < SCHEDULE[tries] * 0.6
    assert SCHEDULE[tries] * 0.9 < max(waits) <= SCHEDULE[tries]


def test_after_the_last_wait_there_is_none():
    assert next_try(5, SCHEDULE, NOW, None) is None
    assert next_try(5, SCHEDULE, NOW, 60) is None
    assert next_try(0, (), NOW, None) is None


def test_a_later_retry_after_wins_and_an_earlier_one_does_not():
    assert next_try(0, SCHEDULE, NOW, 100) == NOW + timedelta(seconds=100)
    assert next_try(4, SCHEDULE, NOW, 1) >= NOW + timedelta(seconds=450)
    assert next_try(0, SCHEDULE, NOW, 0) >= NOW + timedelta(seconds=15)


def test_a_retry_after_of_years_is_a_day():
    assert next_try(0, SCHEDULE, NOW, 10**12) == NOW + timedelta(days=1)


def test_a_wait_of_ages_is_a_month():
    assert next_try(0, [10**30], NOW, None) <= NOW + timedelta(days=30)
