"""Limits of provider rows in the shared store: PRV-6, PRV-9. Time is real; only bounds that must hold are asserted."""

import threading
import time
from collections import Counter

import pytest
import redis

from accounts import shared_state
from accounts.tests.factories import TenantFactory
from providers import limits
from providers.backends.memory import MemoryBackend
from providers.base import Slot
from providers.exceptions import TemporaryFailure
from providers.limits import Permit, Wait, leases, limiter
from providers.tests.factories import ProviderFactory

pytestmark = pytest.mark.django_db

TOO_MUCH = TemporaryFailure("Too many requests", code="throttled", status_code=429)
BACKEND = MemoryBackend({})


def ask(provider, tenant_id=None, cost=1, **more):
    return limits.ask(provider, BACKEND, tenant_id=tenant_id or provider.tenant_id, cost=cost, **more)


def reject(provider, failure=TOO_MUCH, age=0.0):
    return limits.throttled(provider, BACKEND, failure, tenant_id=provider.tenant_id, age=age)


def most_in(times, seconds):
    """The largest number of `times` in any window of so many seconds, the end left out."""
    times = sorted(times)
    return max(sum(1 for other in times[n:] if other < start + seconds) for n, start in enumerate(times))


def test_a_call_that_is_late_counts_once_in_its_day():
    """PRV-9: threads that wait for a slow service do not use up its day."""
    provider = ProviderFactory(per_second=50, per_minute=100, per_day=1000)
    permit = ask(provider, cost=7)
    permit.start -= 5
    assert limits.go(permit) is None
    assert limits.usage(provider).today == 7


def calls_of_threads(provider, count, tenant_id=None, seconds=3.0):
    """When calls left, made by so many threads that ask as often as they may."""
    left, lock, end = [], threading.Lock(), time.monotonic() + seconds

    def run():
        while time.monotonic() < end:
            answer = ask(provider, tenant_id)
            if isinstance(answer, Wait):
                time.sleep(min(answer.seconds, 0.05))
            elif limits.go(answer) is None:
                with lock:
                    left.append(time.monotonic())
                limits.done(answer, 0.0)

    threads = [threading.Thread(target=run) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return left


class TestRate:
    def test_no_second_ever_sees_more_calls_than_the_limit(self):
        provider = ProviderFactory(per_second=5)
        left = calls_of_threads(provider, 8, seconds=4.0)
        assert most_in(left, 1.0) <= 5
        assert len(left) >= 8  # and it does go on

    def test_calls_that_were_held_up_still_leave_one_after_the_other(self, settings):
        """A page that took long to be committed must not let all its calls go at once."""
        settings.SWEEP_INTERVAL = 1
        provider = ProviderFactory(per_second=5)
        permits = [permit for permit in (ask(provider) for _ in range(6)) if isinstance(permit, Permit)]
        assert len(permits) == 6
        time.sleep(1.6)
        left = []

        def run(permit):
            if limits.go(permit) is None:
                left.append(time.monotonic())

        threads = [threading.Thread(target=run, args=[permit]) for permit in permits]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(left) == 6
        assert most_in(left, 1.0) <= 5

    def test_a_fraction_is_less_than_one_a_second(self):
        provider = ProviderFactory(per_second=0.5)
        first, second = ask(provider), ask(provider)
        assert isinstance(first, Permit)
        assert isinstance(second, Wait) or second.start - first.start >= 1.9

    def test_nobody_gets_a_permission_far_ahead(self):
        provider = ProviderFactory(per_second=1)
        answers = [ask(provider) for _ in range(20)]
        permits = [answer for answer in answers if isinstance(answer, Permit)]
        assert max(permit.start for permit in permits) - time.monotonic() <= limiter.horizon() + 0.1
        assert not any(answer.held for answer in answers if isinstance(answer, Wait))

    def test_those_sent_away_come_back_one_after_the_other(self):
        """Ten thousand waiting messages must not be looked at every few seconds, nor all at the same moment."""
        provider = ProviderFactory(per_second=5)
        waits = [answer.seconds for answer in (ask(provider) for _ in range(500)) if isinstance(answer, Wait)]
        assert len(waits) > 450
        start = min(waits)
        assert most_in([wait - start for wait in waits], 10.0) <= 70
        assert max(waits) >= 80

    def test_a_long_queue_sends_nobody_away_for_hours(self):
        provider = ProviderFactory(per_second=1)
        waits = [answer.seconds for answer in (ask(provider) for _ in range(2000)) if isinstance(answer, Wait)]
        assert max(waits) <= 1300
        assert most_in([wait for wait in waits if wait > 610], 60.0) < 500


class TestWindows:
    def test_a_minute_sees_no_more_calls_than_the_limit(self):
        provider = ProviderFactory(per_minute=3)
        answers = [ask(provider, cost=50) for _ in range(5)]
        assert [type(answer) for answer in answers] == [Permit] * 3 + [Wait] * 2
        assert answers[3].reason == "minute"
        assert 55 < answers[3].seconds < 70

    def test_a_day_counts_recipients(self):
        provider = ProviderFactory(per_day=100)
        assert isinstance(ask(provider, cost=60), Permit)
        assert isinstance(ask(provider, cost=60), Wait)
        assert isinstance(ask(provider, cost=40), Permit)
        wait = ask(provider)
        assert (wait.reason, wait.held) == ("day", False)
        assert wait.seconds <= 3900  # it is looked at again now and then, should the limit be raised

    def test_what_is_older_than_a_day_counts_no_more(self):
        provider = ProviderFactory(per_day=100)
        assert isinstance(ask(provider, cost=100), Permit)
        day = shared_state.key("limit", provider.pk) + ":day"
        server = shared_state.client()
        [bucket] = [int(name) for name in server.hkeys(day) if name.isdigit()]

        def move(buckets):
            now = next(int(name) for name in server.hkeys(day) if name.isdigit())
            server.hdel(day, now)
            server.hset(day, mapping={bucket - buckets: 100, "first": bucket - buckets})

        move(287)  # not quite 24 hours ago
        assert isinstance(ask(provider, cost=1), Wait)
        move(290)
        assert isinstance(ask(provider, cost=100), Permit)
        assert isinstance(ask(provider, cost=1), Wait)


class TestConcurrency:
    def test_no_more_calls_at_once_than_the_limit(self):
        provider = ProviderFactory(concurrency=2)
        first, second = ask(provider), ask(provider)
        assert isinstance(first, Permit)
        assert isinstance(second, Permit)
        third = ask(provider, patience=1)
        assert (third.reason, third.held) == ("concurrency", True)
        assert not ask(provider).held
        limits.done(first, 0.1)
        assert isinstance(ask(provider), Permit)
        assert isinstance(ask(provider), Wait)

    def test_a_mailbox_has_places_of_its_own(self):
        """PRV-6: the service takes so many calls at once for each mailbox."""
        provider = ProviderFactory()
        anna, bert = [Slot("anna", 1)], [Slot("bert", 1)]
        taken = ask(provider, slots=anna)
        assert isinstance(taken, Permit)
        assert ask(provider, slots=anna).reason == "slot"
        assert isinstance(ask(provider, slots=bert), Permit)
        limits.done(taken)
        assert isinstance(ask(provider, slots=anna), Permit)

    def test_a_lease_nobody_renews_ends_by_itself(self, monkeypatch):
        """As after SIGKILL; see also test_limits_workers."""
        monkeypatch.setattr(leases, "SECONDS", 1)
        provider = ProviderFactory(concurrency=1)
        assert isinstance(ask(provider), Permit)
        assert isinstance(ask(provider), Wait)
        leases._held.clear()  # the process that would renew it is gone
        time.sleep(1.1)
        assert isinstance(ask(provider), Permit)

    def test_a_running_call_keeps_its_place_however_long_it_takes(self, monkeypatch):
        monkeypatch.setattr(leases, "SECONDS", 1)
        provider = ProviderFactory(concurrency=1)
        permit = ask(provider)
        for _ in range(3):
            time.sleep(0.6)
            leases.renew()
        assert isinstance(ask(provider), Wait)
        limits.done(permit, 1.8)
        leases.renew()
        assert isinstance(ask(provider), Permit)


class TestFairness:
    def test_two_tenants_that_both_want_more_get_the_same(self):
        """However much more often one of them asks."""
        provider = ProviderFactory(tenant=None, per_second=20)
        greedy, modest = TenantFactory(), TenantFactory()
        ask(provider, modest.pk)
        ask(provider, modest.pk)
        counts = Counter()
        end = time.monotonic() + 5
        while time.monotonic() < end:
            for tenant in (greedy, greedy, greedy, greedy, greedy, modest):
                counts[tenant.pk] += isinstance(ask(provider, tenant.pk), Permit)
            time.sleep(0.02)
        assert counts[modest.pk] >= 0.3 * counts.total()
        assert counts.total() >= 25

    def test_a_tenant_alone_gets_everything(self):
        provider = ProviderFactory(tenant=None, per_second=10)
        alone, other = TenantFactory(), TenantFactory()
        ask(provider, other.pk)
        answers = [ask(provider, alone.pk) for _ in range(60)]
        permits = [answer for answer in answers if isinstance(answer, Permit)]
        assert len(permits) >= 10 * limiter.horizon() / 1.2 - 2

    def test_who_asks_seldom_is_served_though_another_fills_the_provider(self):
        provider = ProviderFactory(tenant=None, per_second=10)
        greedy, modest = TenantFactory(), TenantFactory()
        while isinstance(ask(provider, greedy.pk), Permit):
            pass
        assert isinstance(ask(provider, modest.pk), Permit)

    def test_calls_at_once_are_shared_too(self):
        provider = ProviderFactory(tenant=None, concurrency=4)
        greedy, modest = TenantFactory(), TenantFactory()
        permits = [ask(provider, greedy.pk) for _ in range(4)]
        assert isinstance(ask(provider, modest.pk), Wait)
        limits.done(permits[0])
        assert isinstance(ask(provider, greedy.pk), Wait)
        assert isinstance(ask(provider, modest.pk), Permit)


class TestThrottling:
    def test_everybody_waits_as_long_as_the_service_asked(self):
        provider = ProviderFactory()
        back = reject(provider, TemporaryFailure("Slow down", code="throttled", status_code=429, retry_after=30))
        assert back >= 30
        limits.forget()  # as another process, which has not heard it itself
        wait = ask(provider)
        assert wait.reason == "blocked"
        assert wait.seconds > 29

    def test_a_permission_given_before_does_not_hold_against_it(self):
        provider = ProviderFactory(per_second=5)
        permit = ask(provider)
        reject(provider, TemporaryFailure("Slow down", code="throttled", status_code=429, retry_after=30))
        assert limits.go(permit).reason == "blocked"
        limits.forget()
        assert limits.go(permit).reason == "blocked"

    def test_nor_does_one_that_waits_for_its_turn_when_the_service_asks_for_quiet(self):
        provider = ProviderFactory(per_second=1)
        permits = [ask(provider), ask(provider)]
        assert limits.go(permits[0]) is None
        row = shared_state.key("limit", provider.pk)
        # As another process, which is answered 429 while the second call waits here.
        later = threading.Timer(0.5, shared_state.client().hset, (row, "blocked", time.time() + 30))
        later.start()
        permits[1].start = time.monotonic()
        waited = limits.go(permits[1])
        later.join()
        assert waited is not None
        assert waited.reason == "blocked"

    def test_halves_the_rate_at_most_once_a_second_and_lets_go_by_steps(self):
        provider = ProviderFactory(per_second=40)
        seen = shared_state.key("limit", provider.pk, "seen")
        second = int(time.time())
        for n in range(-3, 3):
            shared_state.client().set(f"{seen}:{second + n}", 40)
        zero = TemporaryFailure("Slow down", code="throttled", status_code=429, retry_after=0)
        for _ in range(10):
            reject(provider, zero)
        assert limits.usage(provider).braked_to == pytest.approx(20)
        row = shared_state.key("limit", provider.pk)
        self.later(row, 6)
        assert limits.usage(provider).braked_to == pytest.approx(32)
        ask(provider)
        assert limits.usage(provider).braked_to == pytest.approx(32)
        self.later(row, 26)
        ask(provider)
        assert limits.usage(provider).braked_to is None

    def test_without_a_limit_the_measured_rate_is_halved(self):
        provider = ProviderFactory()
        for _ in range(30):
            ask(provider)
        reject(provider)
        assert 5 <= limits.usage(provider).braked_to <= 15.5

    def test_a_call_begun_before_the_cut_says_nothing_new(self):
        provider = ProviderFactory()
        reject(provider)
        first = limits.usage(provider).braked_to
        self.later(shared_state.key("limit", provider.pk), 2, fields=("cut_at",))
        reject(provider, age=10)
        assert limits.usage(provider).braked_to == first
        reject(provider)
        assert limits.usage(provider).braked_to < first

    def test_without_a_time_the_pauses_double(self):
        provider = ProviderFactory()
        row = shared_state.key("limit", provider.pk)
        pauses = []
        for _ in range(4):
            reject(provider)
            pauses.append(limits.usage(provider).blocked_for)
            self.later(row, pauses[-1] + 1.5, fields=("cut_at", "blocked", "grown"))
        assert pauses == pytest.approx([1, 2, 4, 8], abs=0.5)

    def test_a_used_up_quota_is_left_alone_for_a_minute(self):
        provider = ProviderFactory()
        reject(provider, TemporaryFailure("Daily quota", code="quota", status_code=429))
        assert limits.usage(provider).blocked_for > 58

    def test_what_is_no_throttling(self):
        assert limits.is_throttled(TOO_MUCH)
        assert limits.is_throttled(TemporaryFailure("x", code="quota", status_code=454))
        assert not limits.is_throttled(TemporaryFailure("x", code="server_error", status_code=503))
        assert not limits.is_throttled(TemporaryFailure("x", code="mailbox_busy", status_code=450))

    @staticmethod
    def later(row, seconds, fields=("cut_at", "grown", "blocked")):
        """Time passes: what the store remembers happened so much earlier."""
        server = shared_state.client()
        for field in fields:
            known = server.hget(row, field)
            if known is not None:
                server.hset(row, field, float(known) - seconds)


class TestCost:
    def test_a_row_without_limits_costs_next_to_no_round_trips(self, monkeypatch):
        provider = ProviderFactory()
        ask(provider)
        asked, real = [], redis.Redis.execute_command
        # Not what the server counts: other test processes use it too.
        monkeypatch.setattr(
            redis.Redis, "execute_command", lambda *args, **more: asked.append(1) or real(*args, **more)
        )
        started = time.monotonic()
        for _ in range(2000):
            permit = ask(provider)
            limits.go(permit)
            limits.done(permit, 0.1)
        looks = (time.monotonic() - started) / limiter.LOOK_EVERY + 1
        assert len(asked) <= looks + 1
        limits.forget()
        ask(provider)
        assert asked


class TestStoreAway:
    @pytest.fixture
    def away(self, settings):
        settings.SHARED_STATE_URL = "redis://127.0.0.1:1/0"

    def test_what_has_limits_waits(self, away):
        wait = ask(ProviderFactory(per_second=5))
        assert (wait.reason, wait.held) == ("away", False)
        assert wait.seconds >= 30
        assert ask(ProviderFactory(), slots=[Slot("anna", 4)]).reason == "away"

    def test_what_has_none_goes_on(self, away):
        provider = ProviderFactory()
        permit = ask(provider)
        assert isinstance(permit, Permit)
        assert limits.go(permit) is None
        limits.done(permit, 0.1)

    def test_what_the_service_asked_of_us_is_still_obeyed_here(self, away):
        provider = ProviderFactory()
        back = reject(provider, TemporaryFailure("Slow down", code="throttled", status_code=429, retry_after=20))
        assert back >= 20
        wait = ask(provider)
        assert wait.reason == "blocked"
        assert wait.seconds > 18

    def test_a_permission_that_cannot_be_confirmed_is_none(self, settings):
        provider = ProviderFactory(per_second=5, concurrency=2)
        permit = ask(provider)
        settings.SHARED_STATE_URL = "redis://127.0.0.1:1/0"
        assert limits.go(permit).reason == "away"
        limits.done(permit)  # raises nothing
