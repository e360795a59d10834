"""What deliveries make of a provider that is down and comes back (PRV-10, RET-2, RET-6)."""

import time
from collections import Counter
from datetime import timedelta

import pytest
from django.db import connection
from django.utils import timezone
from structlog.testing import capture_logs

from accounts import shared_state
from delivery import intake, record, routing, sweeper
from delivery.models import DeliveryLog, Message
from delivery.tests.mail import accepted, raw_message, submission
from delivery.tests.test_sender import deliver, logs, make_due
from delivery.tests.workers import Worker
from providers import health
from providers.backends.memory import MemoryBackend
from providers.exceptions import Misconfigured, TemporaryFailure, TooLarge
from providers.models import HealthEvent, Provider
from providers.tests.factories import ProviderFactory
from providers.tests.standins import ResendStandIn, SendGridStandIn

pytestmark = pytest.mark.django_db(transaction=True)
DOWN = TemporaryFailure("Service unavailable", code="server_error", status_code=503)
REFUSED = TemporaryFailure("Could not connect.", code="connection_failed")
LOST = TemporaryFailure("No answer", code="timeout", outcome_unknown=True)


@pytest.fixture(autouse=True)
def _broker(broker):
    """Every message here is rung for."""


@pytest.fixture
def fallback(acme, box):
    ProviderFactory(tenant=acme, name="fallback", default_rank=1, config={"box": "fallback"})
    return MemoryBackend.box("fallback")


def message_to(account, number):
    return accepted(account, None, [f"r{number}@outside.example"])


def pause_over(name="primary"):
    assert health.probe_now(Provider.objects.get(name=name))
    routing.forget()


def again(*messages):
    for message in messages:
        make_due(message)
    routing.forget()
    deliver(*messages)


def open_breaker(account, box):
    """Three messages that failed at the primary; the provider is unhealthy after the third."""
    box.answers.extend([DOWN] * 3)
    made = [message_to(account, f"opener{n}") for n in range(3)]
    for message in made:
        deliver(message)
    routing.forget()
    return made


def states():
    return list(HealthEvent.objects.order_by("pk").values_list("provider__name", "state"))


def test_a_primary_that_goes_down_and_comes_back_costs_no_message_and_doubles_none(acme, acme_account):
    with SendGridStandIn() as primary, ResendStandIn() as fallback:
        ProviderFactory(tenant=acme, type="sendgrid", name="primary", config=primary.config())
        ProviderFactory(tenant=acme, type="resend", name="fallback", default_rank=1, config=fallback.config())
        primary.fail_next(503, times=3)
        for number in range(3):
            message = message_to(acme_account, number)
            deliver(message)
            assert logs(message) == [("primary", "retrying"), ("fallback", "delivered")]
        assert (primary.requests, states()) == (3, [("primary", "unhealthy")])

        routing.forget()
        messages = [message_to(acme_account, number) for number in (3, 4)]
        deliver(*messages)
        assert primary.requests == 3
        assert [logs(message) for message in messages] == [[("fallback", "delivered")]] * 2

        pause_over()
        messages = [message_to(acme_account, number) for number in (5, 6, 7)]
        deliver(*messages)
        routing.forget()
        sent = [logs(message) for message in messages]
        assert sorted(sent) == [[("fallback", "delivered")]] * 2 + [[("primary", "delivered")]]
        assert states() == [("primary", "unhealthy"), ("primary", "healthy")]

        last = message_to(acme_account, "last")
        deliver(last)
        assert logs(last) == [("primary", "delivered")]
        taken = Counter(one for mail in (*primary.accepted, *fallback.accepted) for one in mail.recipients)
    assert taken == {f"r{n}@outside.example": 1 for n in (*range(8), "last")}


class TestLoudness:
    def test_the_failed_attempt_of_the_primary_stays_and_a_line_names_both(self, acme_account, box, fallback):
        box.answers.append(DOWN)
        message = accepted(acme_account)
        with capture_logs() as lines:
            deliver(message)
        first = message.delivery_logs.get(provider_name="primary")
        assert (first.status, first.error_code, first.response_code) == ("retrying", "server_error", 503)
        [line] = [line for line in lines if line["event"] == "failover"]
        told = {"provider": "primary", "fallback": "fallback", "reason": "Service unavailable", "log_level": "warning"}
        assert told.items() <= line.items()

    def test_bad_credentials_are_told_of_too(self, acme_account, box, fallback):
        box.answers.append(Misconfigured("535 no", code="bad_credentials", status_code=401))
        with capture_logs() as lines:
            deliver(accepted(acme_account))
        assert {"failover", "provider.unhealthy"} <= {line["event"] for line in lines}

    def test_a_message_that_goes_straight_to_the_fallback_says_why(self, acme_account, box, fallback):
        open_breaker(acme_account, box)
        message = accepted(acme_account)
        deliver(message)
        [passed] = message.events.get(type="delivered").data["passed_over"]
        assert (passed["provider"], passed["reason"]) == ("primary", "Service unavailable")
        assert passed["since"] < passed["until"]

    def test_one_line_a_minute_tells_of_all_of_them(self, acme_account, box, fallback):
        open_breaker(acme_account, box)
        with capture_logs() as lines:
            for number in range(5):
                deliver(message_to(acme_account, number))
        assert len([line for line in lines if line["event"] == "provider.skipped"]) == 1


class TestOneMessageOfTrouble:
    def test_a_message_its_gateway_breaks_down_over_stops_nobody(self, acme_account, box):
        box.answers.extend([DOWN] * 5)
        bad = accepted(acme_account)
        deliver(bad)
        for _ in range(4):
            again(bad)
        assert (bad.tries, states()) == (5, [])
        good = accepted(acme_account)
        deliver(good)
        assert good.status == "delivered"

    def test_the_parts_of_one_message_count_once(self, acme_account, box, monkeypatch):
        monkeypatch.setattr(MemoryBackend, "max_recipients", 1)
        box.answers.extend([DOWN] * 4)
        deliver(accepted(acme_account, None, [f"r{n}@outside.example" for n in range(4)]))
        assert states() == []

    def test_what_the_message_is_to_blame_for_does_not_count(self, acme_account, box):
        box.answers.extend([TooLarge("Too large", code="too_large", status_code=552)] * 4)
        box.answers.extend([TemporaryFailure("Slow down", code="throttled", status_code=429)] * 4)
        for number in range(8):
            deliver(message_to(acme_account, number))
        assert states() == []


class TestProbe:
    def test_that_fails_uses_up_no_try_and_waits_for_the_next_pause(self, acme_account, box):
        """RET-6: an outage of hours parks nothing, not even the message that asks again and again."""
        box.answers.extend([REFUSED] * 30)
        message = accepted(acme_account)
        deliver(message)
        for _ in range(2):
            again(message)
        tries = message.tries
        for _ in range(12):
            pause_over()
            again(message)
            assert (message.status, message.tries) == ("retrying", tries)
        assert message.attempts == 15
        assert message.next_attempt_at >= Provider.objects.get().unhealthy_until
        assert states() == [("primary", "unhealthy")]
        box.answers.clear()
        pause_over()
        again(message)
        assert (message.status, states()[-1]) == ("delivered", ("primary", "healthy"))

    def test_that_may_have_been_taken_uses_up_tries_so_that_it_is_not_repeated_for_days(
        self, acme_account, box, monkeypatch
    ):
        """DEL-5."""
        monkeypatch.setattr(MemoryBackend, "idempotent", False)
        box.answers.extend([LOST] * 30)
        others = [message_to(acme_account, n) for n in range(3)]
        deliver(*others)
        message, rounds = others[0], 0
        while message.status == "retrying" and rounds < 20:
            pause_over()
            again(message)
            rounds += 1
        assert message.status == "dlq"
        assert rounds < 6

    def test_obeys_the_time_the_service_names(self, acme_account, box):
        open_breaker(acme_account, box)
        pause_over()
        box.answers.append(TemporaryFailure("Maintenance", code="server_error", status_code=503, retry_after=400))
        message = accepted(acme_account)
        deliver(message)
        assert message.next_attempt_at - timezone.now() > timedelta(seconds=395)
        assert Provider.objects.get().unhealthy_until - timezone.now() > timedelta(seconds=395)

    def test_that_is_throttled_has_been_answered(self, acme_account, box):
        open_breaker(acme_account, box)
        pause_over()
        box.answers.append(TemporaryFailure("Slow down", code="throttled", status_code=429))
        deliver(accepted(acme_account))
        assert states() == [("primary", "unhealthy"), ("primary", "healthy")]

    def test_that_cannot_be_prepared_leaves_the_right_to_the_next(self, acme_account, box, monkeypatch):
        open_breaker(acme_account, box)
        pause_over()
        real = MemoryBackend.split
        monkeypatch.setattr(MemoryBackend, "split", lambda self, message: 1 / 0)
        deliver(accepted(acme_account))
        monkeypatch.setattr(MemoryBackend, "split", real)
        message = accepted(acme_account)
        deliver(message)
        assert message.status == "delivered"

    def test_whose_message_another_worker_took_leaves_the_right_to_the_next(self, acme_account, box, monkeypatch):
        open_breaker(acme_account, box)
        pause_over()
        monkeypatch.setattr(record.Page, "_held", lambda page: set())
        lost = accepted(acme_account)
        deliver(lost)
        monkeypatch.undo()
        message = accepted(acme_account)
        deliver(message)
        assert (lost.status, message.status) == ("processing", "delivered")

    def test_that_hits_our_own_bug_says_nothing_of_the_provider(self, acme_account, box, monkeypatch):
        open_breaker(acme_account, box)
        pause_over()
        monkeypatch.setattr(MemoryBackend, "send", lambda self, message: 1 / 0)
        deliver(accepted(acme_account))
        monkeypatch.undo()
        message = accepted(acme_account)
        deliver(message)
        assert (message.status, states()[-1][1]) == ("delivered", "healthy")


class TestStoreAway:
    def test_mail_goes_on_and_over_to_the_fallback(self, acme_account, box, fallback, settings):
        settings.SHARED_STATE_URL = "redis://127.0.0.1:9/0"
        open_breaker(acme_account, box)
        message = accepted(acme_account)
        deliver(message)
        assert (message.status, logs(message)) == ("delivered", [("fallback", "delivered")])
        pause_over()
        back = accepted(acme_account)
        deliver(back)
        assert logs(back) == [("primary", "delivered")]
        assert states() == [("primary", "unhealthy"), ("primary", "healthy")]

    def test_trouble_with_noting_health_loses_no_answer(self, acme_account, box, monkeypatch):
        def broken(*args, **kwargs):
            raise ValueError("no")

        monkeypatch.setattr(health, "note_success", broken)
        message = accepted(acme_account)
        deliver(message)
        assert message.status == "delivered"

    def test_a_store_that_has_forgotten_everything_changes_nothing(self, acme_account, box, fallback):
        open_breaker(acme_account, box)
        shared_state.forget_everything()
        health.forget_all()
        message = accepted(acme_account)
        deliver(message)
        assert logs(message) == [("fallback", "delivered")]


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_two_workers_open_it_once_and_nothing_is_lost_or_doubled(acme, acme_account, tmp_path, broker, monkeypatch):
    """PRV-10: counted over all workers; one event for each change, however many see it."""
    if connection.vendor != "postgresql":
        pytest.skip("a test database in memory cannot be shared with worker processes")
    monkeypatch.setattr(intake, "FIRST_LOOK", timedelta(seconds=2))
    workers = [Worker(tmp_path / f"worker{n}.log", DELIVERY_BATCH="4") for n in range(2)]
    try:
        with SendGridStandIn(delay=0.05) as primary, ResendStandIn(delay=0.02) as fallback:
            ProviderFactory(tenant=acme, type="sendgrid", name="primary", config=primary.config())
            ProviderFactory(tenant=acme, type="resend", name="fallback", default_rank=1, config=fallback.config())
            primary.fail_next(503, times=10_000)
            ids = _accept(acme_account, range(50))
            _until_ended(ids)
            time.sleep(routing.CACHE_SECONDS)
            ids += _accept(acme_account, range(50, 100))
            _until_ended(ids)
            assert states() == [("primary", "unhealthy")]
            failed = DeliveryLog.objects.filter(provider_name="primary")
            assert set(failed.values_list("status", flat=True)) == {"retrying"}
            assert primary.requests <= failed.count() <= 50  # some were begun and then not called
            primary._orders.clear()
            health.probe_now(Provider.objects.get(name="primary"))
            ids += _accept(acme_account, range(100, 200))
            _until_ended(ids)
            assert states() == [("primary", "unhealthy"), ("primary", "healthy")]
            taken = Counter(one for mail in (*primary.accepted, *fallback.accepted) for one in mail.recipients)
            assert taken == {f"r{n}@outside.example": 1 for n in range(200)}
            assert primary.accepted
    finally:
        for worker in workers:
            worker.stop()


def _accept(account, numbers):
    batch = [submission(account, raw_message(f"X-Number: {n}"), [f"r{n}@outside.example"]) for n in numbers]
    return [answer.message_id for answer in intake.accept(batch)]


def _until_ended(ids):
    deadline = time.monotonic() + 120
    while Message.objects.filter(pk__in=ids).exclude(status="delivered").exists():
        assert time.monotonic() < deadline, Counter(Message.objects.values_list("status", "status_reason"))
        sweeper.ring_due()
        time.sleep(0.3)
