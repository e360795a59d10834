"""Limits as the service sees them, with real worker processes: PRV-9, RET-6."""

import threading
import time
from collections import Counter
from datetime import timedelta

import pytest
from django.db import connection

from delivery import intake, sweeper
from delivery.models import DeliveryLog, Message, MessageStatus
from delivery.tests.mail import raw_message, submission
from delivery.tests.workers import Worker
from providers import limits
from providers.limits import leases
from providers.models import Provider
from providers.tests.factories import ProviderFactory
from providers.tests.standins import SendGridStandIn
from providers.tests.test_limits import most_in

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow, pytest.mark.timeout(300)]
QUICK = {"DELIVERY_LEASE": "30", "DELIVERY_BATCH": "16"}


class CountingStandIn(SendGridStandIn):
    """Notes when requests arrive and how many it is busy with; above `most_a_second` it answers 429 with Retry-After,
    as the vendor documents (https://www.twilio.com/docs/sendgrid/api-reference/how-to-use-the-sendgrid-v3-api/rate-limits).
    """

    def prepare(self):
        super().prepare()
        self.count = threading.Lock()
        self.arrivals, self.throttled = [], []
        self.busy = self.most_busy = 0
        self.most_a_second, self.retry_after = None, 3

    def entered(self, request):
        with self.count:
            self.arrivals.append(time.monotonic())
            self.busy += 1
            self.most_busy = max(self.most_busy, self.busy)

    def left(self, request):
        with self.count:
            self.busy -= 1

    def serve(self, request):
        with self.count:
            now = time.monotonic()
            lately = sum(1 for at in self.arrivals if at > now - 1)
        if self.most_a_second is not None and lately > self.most_a_second:
            self.throttled.append(now)
            return 429, self.error(429), {"Retry-After": str(self.retry_after)}
        return super().serve(request)


@pytest.fixture(autouse=True)
def _needs_a_server(monkeypatch):
    if connection.vendor != "postgresql":
        pytest.skip("a test database in memory cannot be shared with worker processes")
    monkeypatch.setattr(intake, "FIRST_LOOK", timedelta(seconds=4))
    monkeypatch.setattr(sweeper, "RING_AGAIN", timedelta(seconds=10))


@pytest.fixture
def workers(tmp_path, broker):
    made = [Worker(tmp_path / f"worker{n}.log", **QUICK) for n in range(2)]
    yield made
    for worker in made:
        worker.stop()


def accept(account, count, mark="r"):
    return [
        answer.message_id
        for answer in intake.accept(
            [submission(account, raw_message(), [f"{mark}{n}@outside.example"]) for n in range(count)]
        )
    ]


def until_all_ended(ids, seconds):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        sweeper.ring_due()
        if not Message.objects.filter(pk__in=ids).exclude(next_attempt_at=None).exists():
            return
        time.sleep(1.0)


def assert_each_delivered_once(service, count):
    assert Counter(Message.objects.values_list("status", "tries")) == {(MessageStatus.DELIVERED, 0): count}
    assert Counter(address for taken in service.accepted for address in taken.recipients) == Counter(
        f"r{n}@outside.example" for n in range(count)
    )


def test_the_service_never_sees_more_in_any_second_than_the_row_says(acme, acme_account, workers):
    with CountingStandIn() as service:
        ProviderFactory(tenant=acme, type="sendgrid", config=service.config(), per_second=10)
        until_all_ended(accept(acme_account, 80), 120)
        assert_each_delivered_once(service, 80)
        # Over three seconds, because a stand-in on a busy machine is late in reading what has come.
        assert most_in(service.arrivals, 3.0) <= 30
        assert len(service.arrivals) == 80
        # Nobody was looked at again and again while it waited.
        assert DeliveryLog.objects.count() == 80


def test_the_service_is_never_busy_with_more_than_the_row_says_and_places_come_back(acme, acme_account, workers):
    """A worker that is killed while it holds every place gives none back; they end by themselves."""
    victim, other = workers
    other.stop()
    with CountingStandIn(delay=6) as service:
        row = ProviderFactory(tenant=acme, type="sendgrid", config=service.config(), concurrency=3)
        ids = accept(acme_account, 9)
        begun = time.monotonic()
        while service.busy < 3:
            assert time.monotonic() - begun < 60, victim.log()
            sweeper.ring_due()
            time.sleep(0.1)
        victim.kill()
        killed = time.monotonic()
        assert limits.usage(row).running == 3
        service.delay = 0.3
        other.start()
        until_all_ended(ids, 150)
        assert set(Message.objects.values_list("status", flat=True)) == {MessageStatus.DELIVERED}
        assert service.most_busy <= 3
        first = min(at for at in service.arrivals if at > killed + 1)
        assert first - killed < leases.SECONDS + 45  # and for messages that were put off meanwhile their turn
        assert limits.usage(row).running == 0


def test_what_the_service_asks_of_one_worker_all_of_them_do(acme, acme_account, workers):
    """No limit is set here: the service says what is too much, and everybody slows down."""
    with CountingStandIn() as service:
        service.most_a_second = 8
        ProviderFactory(tenant=acme, type="sendgrid", config=service.config())
        until_all_ended(accept(acme_account, 60), 200)
        assert_each_delivered_once(service, 60)
        assert service.throttled
        for said in service.throttled:
            # Calls on their way are on their way; a process that was not told itself looks four times a second.
            early = [at for at in service.arrivals if said + 1.0 < at < said + service.retry_after - 0.1]
            assert early == []
        assert len(service.throttled) < 60
        assert Provider.objects.get().unhealthy_until is None
