"""The circuit breaker of a provider, over all workers (PRV-10, PRV-7)."""

import itertools
import time
from datetime import timedelta

import pytest
from django.db import connection
from django.utils import timezone
from structlog.testing import capture_logs

from accounts import shared_state
from providers import breaker, health
from providers.models import HealthEvent, Provider
from providers.tests.factories import ProviderFactory
from providers.tests.processes import race

pytestmark = pytest.mark.django_db(transaction=True)
REFUSED = "connection_failed"
numbers = itertools.count()


@pytest.fixture
def provider(acme):
    return ProviderFactory(tenant=acme, name="primary")


def fresh(provider):
    """The row as another worker reads it, which knows nothing yet."""
    health.forget_all()
    return Provider.objects.get(pk=provider.pk)


def fails(provider, message="", code="timeout", probe="", **more):
    health.note_silence(
        provider, "No answer.", message_id=message or f"m{next(numbers)}", code=code, probe=probe, **more
    )


def opened(provider):
    for _ in range(3):
        fails(provider)
    return fresh(provider)


def pause_over(provider):
    """The pause of `provider` is over; the row as the next worker reads it."""
    assert health.probe_now(provider)
    return fresh(provider)


def pause(provider):
    """Seconds of the pause that the row tells of."""
    until = Provider.objects.get(pk=provider.pk).unhealthy_until
    return round((until - timezone.now()).total_seconds()) if until else None


def events(provider):
    return list(HealthEvent.objects.filter(provider=provider).order_by("pk").values_list("state", flat=True))


def goes_through(provider):
    """A message sent as delivery does; False when the provider may not be called."""
    admission = health.admit(provider)
    if admission.allowed:
        health.note_success(provider, admission.probe)
    return admission.allowed


class TestOpening:
    def test_three_failures_of_three_workers_open_it(self, provider):
        for _ in range(2):
            fails(fresh(provider))
        assert health.admit(fresh(provider)).allowed
        fails(fresh(provider))
        row = fresh(provider)
        admission = health.admit(row)
        assert (admission.allowed, admission.reason) == (False, "No answer.")
        assert admission.until == row.unhealthy_until
        assert timezone.now() - admission.since < timedelta(seconds=5)
        assert pause(provider) == 30

    def test_a_success_anywhere_breaks_the_row_of_failures(self, provider):
        for _ in range(3):
            fails(provider)
            fails(provider)
            health.note_success(fresh(provider))
        assert events(provider) == []

    def test_a_success_not_yet_told_of_counts_with_the_next_failure(self, provider):
        health.note_success(provider)
        for _ in range(4):
            fails(provider)
            health.note_success(provider)
        assert events(provider) == []

    def test_a_success_from_before_does_not_break_it(self, provider):
        health.note_success(provider)
        health.note_success(provider)
        opened(provider)
        assert events(provider) == ["unhealthy"]

    def test_failures_of_one_message_count_once(self, provider):
        """A gateway that breaks down over one message works for the others."""
        for _ in range(5):
            fails(fresh(provider), "the same")
        assert health.admit(fresh(provider)).allowed
        fails(provider)
        fails(provider)
        assert not health.admit(fresh(provider)).allowed

    def test_a_service_that_cannot_be_reached_is_not_the_messages_fault(self, provider):
        for _ in range(3):
            fails(fresh(provider), "the same", code=REFUSED)
        assert not health.admit(fresh(provider)).allowed

    def test_bad_credentials_open_it_at_once(self, provider, settings):
        health.note_misconfigured(provider, "535 no")
        assert pause(provider) == settings.DELIVERY_UNHEALTHY_PAUSE
        assert not health.admit(fresh(provider)).allowed

    def test_the_pause_lasts_as_long_as_the_service_asks(self, provider):
        for _ in range(3):
            fails(provider, retry_after=900)
        assert pause(provider) == 900

    def test_one_provider_costs_another_nothing(self, provider, acme):
        other = ProviderFactory(tenant=acme)
        opened(provider)
        assert health.admit(fresh(other)).allowed

    def test_it_is_written_down_once_with_one_loud_line(self, provider, acme):
        with capture_logs() as lines:
            for _ in range(7):
                fails(provider)
        [event] = HealthEvent.objects.all()
        row = Provider.objects.get()
        assert (event.state, event.reason, event.until) == ("unhealthy", "No answer.", row.unhealthy_until)
        assert row.unhealthy_reason == "No answer."
        [line] = [line for line in lines if line["event"] == "provider.unhealthy"]
        assert line["log_level"] == "error"
        told = {"provider_id": str(row.pk), "provider": "primary", "tenant_id": str(acme.pk), "reason": "No answer."}
        assert told.items() <= line.items()


class TestHalfOpen:
    def test_one_message_probes_and_its_success_closes(self, provider):
        row = pause_over(opened(provider))
        probe = health.admit(row)
        assert probe.allowed
        assert probe.probe
        for _ in range(3):
            assert not health.admit(fresh(provider)).allowed
        with capture_logs() as lines:
            health.note_success(row, probe.probe)
        assert "provider.healthy" in {line["event"] for line in lines}
        assert events(provider) == ["unhealthy", "healthy"]
        row = fresh(provider)
        assert (row.unhealthy_until, row.unhealthy_reason) == (None, "")
        assert health.admit(row) == health.Admission(allowed=True)

    def test_its_failure_opens_again_for_longer_and_is_no_new_event(self, provider):
        pauses = [pause(opened(provider))]
        for _ in range(4):
            row = pause_over(provider)
            fails(row, probe=health.admit(row).probe)
            pauses.append(pause(provider))
        assert pauses == [30, 60, 120, 240, 300]
        assert events(provider) == ["unhealthy"]

    def test_bad_credentials_found_by_a_probe_open_it_again(self, provider):
        row = pause_over(opened(provider))
        health.note_misconfigured(row, "401", health.admit(row).probe)
        assert (pause(provider), events(provider)) == (300, ["unhealthy"])
        assert Provider.objects.get().unhealthy_reason == "401"

    def test_the_right_of_a_worker_that_died_expires(self, provider, settings):
        row = pause_over(opened(provider))
        settings.PROVIDER_TIMEOUT = 0.1
        assert health.admit(row).probe
        assert not health.admit(fresh(provider)).allowed
        time.sleep(0.25)
        row = fresh(provider)
        again = health.admit(row)
        assert again.probe
        health.note_success(row, again.probe)
        assert health.admit(fresh(provider)).probe == ""

    def test_a_right_given_back_is_the_next_messages(self, provider):
        row = pause_over(opened(provider))
        health.give_back(row, health.admit(row).probe)
        assert health.admit(fresh(provider)).probe

    def test_calls_begun_before_the_pause_say_nothing(self, provider):
        early = fresh(provider)
        opened(provider)
        health.note_success(early)
        fails(early)
        assert not health.admit(fresh(provider)).allowed
        assert (events(provider), pause(provider)) == (["unhealthy"], 30)

    def test_a_late_answer_to_an_earlier_probe_does_not_open_it_twice(self, provider):
        row = pause_over(opened(provider))
        token = health.admit(row).probe
        fails(row, probe=token)
        fails(row, probe=token)
        assert pause(provider) == 60


class TestFlapping:
    def flap(self, provider):
        """Unhealthy, and what it takes to be healthy again: the pause, and how many successes."""
        row = opened(provider)
        seconds, successes = pause(provider), 0
        row = pause_over(row)
        while row.unhealthy_until is not None:
            assert goes_through(row)
            successes += 1
            row = fresh(provider)
        return seconds, successes

    def test_it_waits_longer_each_time_and_needs_more_than_one_success(self, provider):
        assert [self.flap(provider) for _ in range(5)] == [(30, 1), (60, 1), (120, 3), (240, 3), (300, 3)]
        assert events(provider) == ["unhealthy", "healthy"] * 5

    def test_a_failure_between_the_successes_begins_them_anew(self, provider):
        for _ in range(2):
            self.flap(provider)
        row = pause_over(opened(provider))
        for _ in range(2):
            assert goes_through(row)
        fails(row, probe=health.admit(row).probe)
        row = pause_over(provider)
        for _ in range(2):
            assert goes_through(row)
        assert fresh(provider).unhealthy_until is not None
        assert goes_through(row)
        assert fresh(provider).unhealthy_until is None

    def test_a_calm_time_begins_it_anew(self, provider, monkeypatch):
        for _ in range(3):
            self.flap(provider)
        monkeypatch.setattr(breaker, "CALM", 0.0)
        assert self.flap(provider) == (30, 1)


class TestSavedRow:
    def test_closes_at_once_in_every_worker(self, provider):
        row = opened(provider)
        health.note_saved(row)
        row.save()
        assert health.admit(fresh(provider)) == health.Admission(allowed=True)
        last = HealthEvent.objects.order_by("pk").last()
        assert (last.state, last.reason) == ("healthy", "The settings were saved.")

    def test_nothing_is_left_of_what_its_old_settings_did(self, provider):
        fails(provider)
        fails(provider)
        old = fresh(provider)
        Provider.objects.get().save()
        fails(fresh(provider))
        fails(old)
        assert health.admit(fresh(provider)).allowed
        health.note_misconfigured(old, "401 with the old key")
        assert (fresh(provider).unhealthy_until, events(provider)) == (None, [])

    def test_it_begins_with_the_shortest_pause(self, provider):
        opened(provider)
        row = opened(pause_over(provider))
        health.note_saved(row)
        row.save()
        opened(fresh(provider))
        assert pause(provider) == 30


class TestStoreWithoutMemory:
    """What all know together may be lost at any moment; the row is what is left."""

    def test_the_pause_is_taken_over_from_the_row(self, provider):
        row = opened(provider)
        shared_state.forget_everything()
        assert not health.admit(row).allowed
        shared_state.forget_everything()
        row = pause_over(provider)
        shared_state.forget_everything()
        assert health.admit(row).probe
        assert not health.admit(fresh(provider)).allowed

    def test_a_probe_from_before_still_closes_it(self, provider):
        row = pause_over(opened(provider))
        token = health.admit(row).probe
        shared_state.forget_everything()
        health.note_success(row, token)
        assert goes_through(fresh(provider))
        assert events(provider) == ["unhealthy", "healthy"]

    def test_a_row_that_says_healthy_is_called(self, provider):
        opened(provider)
        Provider.objects.update(unhealthy_until=None, unhealthy_reason="")
        shared_state.forget_everything()
        assert goes_through(fresh(provider))


class TestStoreAway:
    @pytest.fixture(autouse=True)
    def _away(self, settings):
        settings.SHARED_STATE_URL = "redis://127.0.0.1:9/0"

    def test_each_worker_counts_for_itself_and_the_row_tells_the_others(self, provider):
        with capture_logs() as lines:
            opened(provider)
        assert not health.admit(fresh(provider)).allowed
        assert (events(provider), pause(provider)) == (["unhealthy"], 30)
        assert len([line for line in lines if line["event"] == "health of providers not shared"]) == 1

    def test_failures_of_one_message_count_once(self, provider):
        for _ in range(5):
            fails(provider, "the same")
        assert events(provider) == []

    def test_one_worker_probes_and_closes(self, provider):
        row, other = pause_over(opened(provider)), Provider.objects.get()
        probe = health.admit(row)
        assert probe.probe
        assert not health.admit(row).allowed
        assert not health.admit(other).allowed
        health.note_success(row, probe.probe)
        assert health.admit(fresh(provider)).allowed
        assert events(provider) == ["unhealthy", "healthy"]

    def test_a_failed_probe_waits_again(self, provider):
        row = pause_over(opened(provider))
        fails(row, probe=health.admit(row).probe)
        assert not health.admit(fresh(provider)).allowed
        assert events(provider) == ["unhealthy"]

    def test_a_right_given_back_is_the_next_messages(self, provider):
        row = pause_over(opened(provider))
        health.give_back(row, health.admit(row).probe)
        assert health.admit(fresh(provider)).probe

    def test_it_costs_one_wait_and_not_one_per_message(self, provider, monkeypatch):
        asked = []
        monkeypatch.setattr(breaker, "succeeded", lambda *args: asked.append(args) or _fail())
        for _ in range(20):
            health.note_success(provider)
        assert len(asked) == 1

    def test_what_happened_meanwhile_counts_when_it_is_back(self, provider, settings, monkeypatch):
        row = opened(provider)
        monkeypatch.undo()
        settings.SHARED_STATE_URL = settings.REDIS_URL
        assert not health.admit(fresh(provider)).allowed
        row = pause_over(row)
        assert goes_through(row)
        assert events(provider) == ["unhealthy", "healthy"]


def _fail():
    raise shared_state.Unavailable("away")


def test_a_healthy_provider_costs_one_question_a_second(provider, monkeypatch):
    asked = []
    real = breaker._run
    monkeypatch.setattr(breaker, "_run", lambda *args: asked.append(args) or real(*args))
    for _ in range(200):
        assert goes_through(provider)
    assert len(asked) <= 2


def test_a_pause_costs_one_question_a_second_and_one_line_a_minute(provider, monkeypatch):
    row = opened(provider)
    asked = []
    real = breaker._run
    monkeypatch.setattr(breaker, "_run", lambda *args: asked.append(args) or real(*args))
    with capture_logs() as lines:
        for _ in range(200):
            assert not health.admit(row).allowed
    assert len(asked) <= 2
    [line] = lines
    assert (line["event"], line["provider"], line["reason"]) == ("provider.skipped", "primary", "No answer.")


class TestRacingWorkers:
    @pytest.fixture(autouse=True)
    def _needs_a_server(self):
        if connection.vendor != "postgresql":
            pytest.skip("a test database in memory cannot be shared with other processes")

    def test_eight_of_them_open_it_once(self, provider):
        def act(number):
            for turn in range(3):
                health.note_silence(provider, "No answer.", message_id=f"{number}.{turn}")

        with capture_logs():
            assert race(8, act) == [None] * 8
        assert events(provider) == ["unhealthy"]
        assert 20 <= pause(provider) <= 30

    def test_one_of_them_probes_and_the_others_wait(self, provider):
        row = pause_over(opened(provider))
        answers = race(8, lambda number: health.admit(row).probe)
        assert len([token for token in answers if token]) == 1

    def test_successes_of_many_probes_close_it_once(self, provider):
        row = pause_over(opened(provider))
        token = health.admit(row).probe
        race(8, lambda number: health.note_success(Provider.objects.get(), token))
        assert events(provider) == ["unhealthy", "healthy"]
        assert Provider.objects.get().unhealthy_until is None

    def test_whoever_writes_it_down_first_the_events_alternate(self, provider):
        for _ in range(3):
            race(
                4,
                lambda number: (
                    [health.note_silence(fresh(provider), "No", message_id=str(n)) for n in range(3)] and None
                ),
            )
            row = pause_over(provider)
            while row.unhealthy_until is not None:
                race(4, lambda number: goes_through(fresh(provider)))
                row = fresh(provider)
        assert events(provider) == ["unhealthy", "healthy"] * 3
