"""QUE-5 with real worker processes: big mail does not block small mail; caps hold over all, and change meanwhile."""

import threading
import time

import pytest
from django.db import connection
from django.utils import timezone

from accounts.tests.factories import AccountFactory
from delivery import caps, intake, queues, sweeper, worker_notes
from delivery.models import Message, QueueSetting
from delivery.tests.mail import raw_message, submission
from delivery.tests.workers import Worker
from providers.tests.factories import ProviderFactory
from providers.tests.standins import SendGridStandIn

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow, pytest.mark.timeout(120)]
ATTACHED = raw_message(
    "MIME-Version: 1.0",
    "Content-Type: multipart/mixed; boundary=x",
    body="--x\r\nContent-Type: application/pdf\r\n\r\nHello.\r\n--x--\r\n",
)
QUICK = {"DELIVERY_LEASE": "30", "DELIVERY_BATCH": "16", "DELIVERY_THREADS": "8"}


class Service(SendGridStandIn):
    """Notes how many requests it is busy with at once."""

    def prepare(self):
        super().prepare()
        self.count, self.busy, self.most_busy = threading.Lock(), 0, 0

    def entered(self, request):
        with self.count:
            self.busy += 1
            self.most_busy = max(self.most_busy, self.busy)

    def left(self, request):
        with self.count:
            self.busy -= 1


@pytest.fixture(autouse=True)
def _needs_a_server(monkeypatch):
    if connection.vendor != "postgresql":
        pytest.skip("a test database in memory cannot be shared with worker processes")


@pytest.fixture
def workers(tmp_path, broker):
    made = []

    def start(count, **environment):
        made.extend(Worker(tmp_path / f"worker{n}.log", **QUICK, **environment) for n in range(count))

    yield start
    for worker in made:
        worker.stop()


def accept(account, count, raw=None, sender="crm@acme.example"):
    answers = intake.accept([submission(account, raw, mail_from=sender) for _ in range(count)])
    return [answer.message_id for answer in answers]


def left(ids):
    return Message.objects.filter(pk__in=ids).exclude(status="delivered").count()


def until(true, seconds, *, sweeping=True):
    """Seconds until it is true, sweeping as the scheduler would; too many fail."""
    began = time.monotonic()
    while not true():
        assert time.monotonic() - began < seconds
        if sweeping:
            sweeper.ring_due()
        time.sleep(0.1)
    return time.monotonic() - began


def set_queue(name, **values):
    QueueSetting.objects.update_or_create(name=name, defaults=values)
    caps.forget()


def test_large_mail_for_a_slow_provider_does_not_hold_up_the_rest(acme, acme_account, globex, globex_account, workers):
    with SendGridStandIn(delay=1.5) as slow, SendGridStandIn() as quick:
        ProviderFactory(tenant=acme, type="sendgrid", config=slow.config())
        ProviderFactory(tenant=globex, type="sendgrid", config=quick.config())
        large = accept(acme_account, 200, ATTACHED)
        workers(1)
        until(lambda: slow.requests, 30, sweeping=False)
        urgent = AccountFactory(tenant=globex, transactional=True, username="codes@globex")
        sender = {"sender": "erp@globex.example"}
        raw = raw_message(**sender)
        began = time.monotonic()
        others = [*accept(globex_account, 1, raw, **sender), *accept(urgent, 1, raw, **sender)]
        until(lambda: not left(others), 10)
        assert worker_notes.counts() == dict.fromkeys(queues.NAMES, 1)
        took = time.monotonic() - began
    assert left(large) > 100
    assert took < 3, took


def test_a_cap_holds_over_all_workers_and_is_changed_while_they_run(acme, acme_account, workers):
    set_queue(queues.LARGE, most_at_once=2)
    with Service(delay=0.2) as service:
        ProviderFactory(tenant=acme, type="sendgrid", config=service.config())
        large = accept(acme_account, 60, ATTACHED)
        workers(2)
        until(lambda: left(large) <= 45, 40)
        assert service.most_busy == 2
        set_queue(queues.LARGE, paused=True)
        until(lambda: service.busy == 0, 20)
        time.sleep(1.5)
        waiting = left(large)
        time.sleep(1.0)
        assert left(large) == waiting > 0
        set_queue(queues.LARGE, paused=False, most_at_once=0)
        until(lambda: not left(large), 60)
        assert service.most_busy > 2
    assert len(service.accepted) == 60


def test_thousands_that_wait_for_one_place_keep_nobody_busy(acme, acme_account, workers, tmp_path):
    """As many as 10,000 would: what is counted is what the workers ask the database for while nothing can be sent."""
    set_queue(queues.LARGE, most_at_once=1)
    now = timezone.now()
    with SendGridStandIn(delay=8) as service:
        ProviderFactory(tenant=acme, type="sendgrid", config=service.config())
        [first] = accept(acme_account, 1, ATTACHED)
        workers(1)
        until(lambda: service.requests, 30, sweeping=False)
        values = {"tenant": acme, "account": acme_account, "queue": queues.LARGE, "size": 1, "recipient_count": 1}
        rows = [Message(**values, accepted_at=now, next_attempt_at=now) for _ in range(5000)]
        Message.objects.bulk_create(rows)
        sweeper.ring_due()
        time.sleep(1.0)
        before = transactions()
        for _ in range(3):
            assert sweeper.ring_due() == 0
            time.sleep(1.0)
        assert transactions() - before < 60
        assert Message.objects.get(pk=first).status == "processing"


def transactions():
    """Those this database has seen so far."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_stat_clear_snapshot()")
        cursor.execute("SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = current_database()")
        return cursor.fetchone()[0]
