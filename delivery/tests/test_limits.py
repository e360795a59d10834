"""Delivery within the limits of providers: PRV-9, RET-6, DEL-2. Being limited defers and never counts as a try."""

import threading
import time
from datetime import timedelta

import pytest
from django.utils import timezone

from accounts import shared_state
from delivery.models import Message, MessageStatus
from delivery.tests.mail import accepted
from delivery.tests.test_sender import GONE, deliver, logs, make_due, statuses
from providers import limits
from providers.backends.memory import MemoryBackend
from providers.base import Quota, Slot
from providers.exceptions import TemporaryFailure, TooLarge
from providers.models import Provider
from providers.tests.factories import ProviderFactory, RoutingRuleFactory

pytestmark = pytest.mark.django_db

SLOW_DOWN = TemporaryFailure("Too many requests", code="throttled", status_code=429, retry_after=40)


def limit(**limits_):
    Provider.objects.filter(name="primary").update(**limits_)


@pytest.fixture
def fallback(acme, box):
    ProviderFactory(tenant=acme, name="fallback", default_rank=1, config={"box": "fallback"})
    return MemoryBackend.box("fallback")


def many(account, count):
    return [accepted(account, None, [f"r{n}@outside.example"]) for n in range(count)]


class TestPace:
    def test_what_goes_beyond_the_limit_is_put_off_and_uses_up_no_try(self, acme_account, box):
        limit(per_second=2)
        messages = many(acme_account, 12)
        deliver(*messages)
        waiting = [message for message in messages if message.status == MessageStatus.RETRYING]
        assert 1 <= len(box.accepted) <= 6
        assert len(box.accepted) + len(waiting) == 12
        for message in waiting:
            assert (message.tries, message.attempts, message.claims) == (0, 0, 0)
            assert message.delivery_logs.count() == 0
            assert "calls per second" in message.status_reason
            assert statuses(message) == dict.fromkeys(statuses(message), "deferred")
        times = sorted(message.next_attempt_at for message in waiting)
        assert times[-1] - times[0] > timedelta(seconds=0.4) * (len(times) - 1)

    def test_everything_is_sent_once_in_the_end(self, acme_account, box):
        limit(per_second=20)
        messages = many(acme_account, 60)
        for _ in range(20):
            deliver(*messages)
            Message.objects.filter(status=MessageStatus.RETRYING).update(next_attempt_at=timezone.now())
        assert sorted(box.recipients()) == sorted(f"r{n}@outside.example" for n in range(60))
        assert {message.status for message in messages} == {MessageStatus.DELIVERED}

    def test_waiting_again_for_the_same_reason_makes_no_second_event(self, acme_account, box):
        limit(per_minute=1)
        deliver(accepted(acme_account))
        second = accepted(acme_account)
        for _ in range(3):
            deliver(second)
            make_due(second)
        assert [event.type for event in second.events.all()] == ["received", "retrying"]

    def test_it_is_given_up_by_age_only(self, acme_account, box):
        limit(per_minute=1)
        deliver(accepted(acme_account))
        second = accepted(acme_account)
        for _ in range(8):
            deliver(second)
            assert (second.status, second.tries) == (MessageStatus.RETRYING, 0)
            make_due(second)
        Message.objects.filter(pk=second.pk).update(accepted_at=timezone.now() - timedelta(hours=73))
        deliver(second)
        assert second.status == MessageStatus.DLQ
        assert "calls per minute" in second.status_reason

    def test_each_part_of_a_large_group_is_a_call_of_its_own(self, acme_account, box, monkeypatch):
        monkeypatch.setattr(MemoryBackend, "max_recipients", 1)
        limit(per_minute=2, per_day=1000)
        message = accepted(acme_account, None, [f"r{n}@outside.example" for n in range(3)])
        deliver(message)
        assert len(box.accepted) == 2
        assert message.status == MessageStatus.RETRYING
        assert sorted(statuses(message).values()) == ["deferred", "delivered", "delivered"]
        assert limits.usage(Provider.objects.get(name="primary")).today == 2  # the third may wait for another day
        shared_state.forget_everything()
        make_due(message)
        deliver(message)
        assert sorted(box.recipients()) == [f"r{n}@outside.example" for n in range(3)]

    def test_other_mail_does_not_wait_for_it(self, acme_account, box):
        ProviderFactory(tenant=acme_account.tenant, name="free", default_rank=None, config={"box": "free"})
        condition = {"field": "recipient", "values": ["free@outside.example"]}
        RoutingRuleFactory(
            tenant=acme_account.tenant, conditions=[condition], providers=[Provider.objects.get(name="free")]
        )
        limit(per_second=0.2)
        stuck, free = many(acme_account, 10), accepted(acme_account, None, ["free@outside.example"])
        deliver(*stuck, free)
        assert free.status == MessageStatus.DELIVERED


class TestConcurrency:
    def test_calls_take_turns_within_one_list(self, acme_account, box, monkeypatch):
        """They wait in memory for each other, which costs no trip to the database."""
        running, most, lock = 0, 0, threading.Lock()
        send = MemoryBackend.send

        def slow(self, message):
            nonlocal running, most
            with lock:
                running += 1
                most = max(most, running)
            time.sleep(0.03)
            with lock:
                running -= 1
            return send(self, message)

        monkeypatch.setattr(MemoryBackend, "send", slow)
        limit(concurrency=3)
        messages = many(acme_account, 20)
        deliver(*messages)
        assert most <= 3
        assert len(box.accepted) >= 6
        provider = Provider.objects.get(name="primary")
        assert limits.usage(provider).running == 0

    def test_a_mailbox_takes_only_so_many(self, acme_account, box, monkeypatch):
        """PRV-6."""
        monkeypatch.setattr(MemoryBackend, "slots", lambda self, message: (Slot(message.mail_from, 1),))
        messages = many(acme_account, 5)
        deliver(*messages)
        assert {message.status for message in messages} == {MessageStatus.DELIVERED}

    def test_a_call_that_cannot_be_prepared_gives_its_place_back(self, acme_account, box, monkeypatch):
        def broken(self, message):
            raise RuntimeError("bug")

        monkeypatch.setattr(MemoryBackend, "verdict", broken)
        limit(concurrency=1)
        message = accepted(acme_account)
        deliver(message)
        assert message.status == MessageStatus.RETRYING
        assert limits.usage(Provider.objects.get(name="primary")).running == 0

    def test_a_lost_lease_gives_the_place_back(self, acme_account, box, monkeypatch):
        limit(concurrency=1)
        message = accepted(acme_account)
        verdict = MemoryBackend.verdict

        def stolen(self, outbound):
            Message.objects.filter(pk=message.pk).update(lease=None)
            return verdict(self, outbound)

        monkeypatch.setattr(MemoryBackend, "verdict", stolen)
        deliver(message)
        assert box.accepted == []
        assert limits.usage(Provider.objects.get(name="primary")).running == 0


class TestThrottled:
    def test_it_uses_up_no_try_and_is_not_asked_again_before_its_time(self, acme_account, box):
        box.answers.append(SLOW_DOWN)
        message = accepted(acme_account)
        deliver(message)
        assert (message.status, message.tries) == (MessageStatus.RETRYING, 0)
        assert message.next_attempt_at - timezone.now() > timedelta(seconds=39)
        assert logs(message) == [("primary", "retrying")]
        [log] = message.delivery_logs.all()
        assert (log.response_code, log.error_code) == (429, "throttled")
        other = accepted(acme_account)
        deliver(other)
        assert (other.status, other.tries, other.attempts) == (MessageStatus.RETRYING, 0, 0)
        assert other.next_attempt_at - timezone.now() > timedelta(seconds=38)
        make_due(message)
        deliver(message)
        assert box.accepted == []
        assert message.delivery_logs.count() == 1

    def test_it_never_ends_as_a_dead_letter_but_by_age(self, acme_account, box):
        message = accepted(acme_account)
        for _ in range(10):
            box.answers.append(SLOW_DOWN)
            deliver(message)
            assert (message.status, message.tries) == (MessageStatus.RETRYING, 0)
            shared_state.forget_everything()
            limits.forget()
            make_due(message)
        Message.objects.filter(pk=message.pk).update(accepted_at=timezone.now() - timedelta(hours=73))
        box.answers.append(SLOW_DOWN)
        deliver(message)
        assert message.status == MessageStatus.DLQ
        assert logs(message)[-1] == ("primary", "dlq")

    def test_the_message_goes_on_to_the_next_provider(self, acme_account, box, fallback):
        """RET-2: the failure was the provider's."""
        box.answers.append(SLOW_DOWN)
        message = accepted(acme_account)
        deliver(message)
        assert message.status == MessageStatus.DELIVERED
        assert logs(message) == [("primary", "retrying"), ("fallback", "delivered")]

    def test_a_short_pause_sends_nobody_to_the_next_provider(self, acme_account, box, fallback):
        box.answers.append(SLOW_DOWN)
        deliver(accepted(acme_account))
        second = accepted(acme_account)
        deliver(second)
        assert second.status == MessageStatus.RETRYING
        assert len(fallback.accepted) == 1

    def test_a_long_pause_does(self, acme_account, box, fallback):
        box.answers.append(TemporaryFailure("Quota", code="quota", status_code=429, retry_after=7200))
        deliver(accepted(acme_account))
        second = accepted(acme_account)
        deliver(second)
        assert second.status == MessageStatus.DELIVERED
        assert len(fallback.accepted) == 2

    def test_a_used_up_day_goes_to_the_next_provider(self, acme_account, box, fallback):
        limit(per_day=1)
        first, second = many(acme_account, 2)
        deliver(first, second)
        assert {first.status, second.status} == {MessageStatus.DELIVERED}
        assert (len(box.accepted), len(fallback.accepted)) == (1, 1)

    def test_a_message_too_large_for_one_waits_for_the_limits_of_the_other(self, acme_account, box, fallback):
        Provider.objects.filter(name="fallback").update(per_minute=1)
        box.answers.extend([TooLarge("30 MB", code="too_large")] * 3)
        first = accepted(acme_account)
        deliver(first)
        second = accepted(acme_account)
        deliver(second)
        assert first.status == MessageStatus.DELIVERED
        assert (second.status, second.tries) == (MessageStatus.RETRYING, 0)

    def test_a_permanent_failure_stays_one(self, acme_account, box):
        limit(per_second=5, concurrency=2, per_minute=10)
        box.answers.append(GONE)
        message = accepted(acme_account)
        deliver(message)
        assert message.status == MessageStatus.FAILED


class TestQuota:
    """What the service says of itself (SES: GetAccount)."""

    @pytest.fixture
    def told(self, monkeypatch):
        """Queue of answers of the service; the last one stays."""
        answers = [Quota(per_second=50, per_day=4, sent=2)]
        asked = []

        def quota(self):
            asked.append(threading.current_thread())
            answer = answers.pop(0) if len(answers) > 1 else answers[0]
            if isinstance(answer, Exception):
                raise answer
            return answer

        monkeypatch.setattr(MemoryBackend, "reads_quota", True)
        monkeypatch.setattr(MemoryBackend, "quota", quota, raising=False)
        return answers, asked

    @staticmethod
    def until_read(provider):
        deadline = time.monotonic() + 20
        while "read_at" not in limits.usage(provider).quota:
            assert time.monotonic() < deadline, "the quota was never read"
            time.sleep(0.02)
        limits.forget()

    def test_it_is_obeyed(self, acme_account, box, told):
        provider = Provider.objects.get(name="primary")
        deliver(accepted(acme_account))
        self.until_read(provider)
        messages = many(acme_account, 4)
        deliver(*messages)
        # Two were sent already, the service says; whether our first is among them nobody knows.
        assert 1 <= len(box.accepted) <= 2
        waiting = [message for message in messages if message.status == MessageStatus.RETRYING]
        assert len(waiting) == 5 - len(box.accepted)
        assert all("per day" in message.status_reason for message in waiting)
        assert len(told[1]) == 1
        assert told[1][0] is not threading.main_thread()

    def test_until_it_is_known_one_call_a_second(self, acme_account, box, told):
        shared_state.client().set(shared_state.key("limit", Provider.objects.get().pk, "reading"), "another process")
        messages = many(acme_account, 20)
        deliver(*messages)
        assert 1 <= len(box.accepted) <= 4
        assert told[1] == []

    def test_a_service_that_does_not_tell_stops_nobody(self, acme_account, box, told):
        told[0][:] = [TemporaryFailure("AccessDenied", code="server_error", status_code=500)]
        provider = Provider.objects.get(name="primary")
        deliver(accepted(acme_account))
        self.until_read(provider)
        deliver(*many(acme_account, 19))
        assert len(box.accepted) == 20
        assert len(told[1]) == 1


class TestStoreAway:
    @pytest.fixture
    def away(self, settings, box):
        settings.SHARED_STATE_URL = "redis://127.0.0.1:1/0"

    def test_mail_for_a_row_with_limits_waits(self, acme_account, box, away):
        limit(per_second=100)
        message = accepted(acme_account)
        deliver(message)
        assert (message.status, message.tries, message.attempts) == (MessageStatus.RETRYING, 0, 0)
        assert "cannot be checked" in message.status_reason

    def test_mail_for_a_row_without_goes_on(self, acme_account, box, away):
        message = accepted(acme_account)
        deliver(message)
        assert message.status == MessageStatus.DELIVERED
