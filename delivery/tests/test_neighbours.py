"""What goes wrong with one message, provider or tenant costs the others nothing (DEL-5, PRV-7, PRV-10, RET-6)."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import psycopg
import pytest
from django.db import connection
from django.utils import timezone

from accounts.models import Tenant
from delivery import claims, control, routing, sender
from delivery.models import DeliveryLog, Event, Recipient
from delivery.tests.mail import accepted, raw_message
from delivery.tests.test_sender import make_due
from delivery.tests.workers import database_url
from providers import connections
from providers.base import RecipientResult, RecipientStatus
from providers.models import Provider
from providers.tests.factories import ProviderFactory
from providers.tests.standins import ResendStandIn, SendGridStandIn

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _broker(broker):
    """Every message here is rung for."""


def deliver(*messages):
    sender.deliver([message.pk for message in messages])
    for message in messages:
        message.refresh_from_db()


def again(message):
    make_due(message)
    routing.forget()
    deliver(message)


def theirs(account, number=0):
    raw = raw_message(sender="erp@globex.example")
    return accepted(account, raw, [f"r{number}@outside.example"], mail_from="erp@globex.example")


@pytest.fixture
def neighbour(globex, globex_account):
    """globex with a provider that works; gives a maker of its messages."""
    ProviderFactory(tenant=globex, name="theirs", config={"box": "theirs"})
    return lambda number=0: theirs(globex_account, number)


@pytest.mark.parametrize("words", ["cut \ud83d", "nul \x00"])
def test_words_no_database_takes_do_not_spoil_the_page(acme, acme_account, neighbour, words):
    with SendGridStandIn() as service:
        ProviderFactory(tenant=acme, type="sendgrid", config=service.config())
        service.fail_next(400, {"errors": [{"message": words, "field": None, "help": None}]})
        odd, others = accepted(acme_account), [neighbour(n) for n in range(5)]
        deliver(odd, *others)
    assert odd.status == "failed"
    assert {other.status for other in others} == {"delivered"}


def test_a_page_the_database_refuses_is_written_message_by_message(acme, acme_account, neighbour, box, monkeypatch):
    real = sender.attempts.clean
    monkeypatch.setattr(sender.attempts, "clean", lambda text, length: real(text, 10_000))
    monkeypatch.setattr("providers.backends.memory.MemoryBackend.idempotent", False)
    odd, other = accepted(acme_account), neighbour()
    if connection.vendor != "postgresql":
        pytest.skip("SQLite keeps texts of any length")
    box.answers.append({"someone@outside.example": _refused("x" * 5000)})
    deliver(odd, other)
    assert other.status == "delivered"
    assert odd.status == "processing"
    monkeypatch.setattr(sender.attempts, "clean", real)
    make_due(odd)
    deliver(odd)
    assert odd.status == "delivered"


def _refused(code):
    return RecipientResult(RecipientStatus.DEFERRED, code=code, text="x")


class TestProvider:
    @pytest.mark.parametrize("config", [{"api_key": "SG.x", "base_url": "http://[::1"}, {"nonsense": True}])
    def test_settings_nobody_can_use_make_their_mail_wait(self, acme, acme_account, neighbour, config):
        ProviderFactory(tenant=acme, type="sendgrid", config=config)
        mine, other = accepted(acme_account), neighbour()
        deliver(mine, other)
        for _ in range(4):
            again(mine)
        assert (mine.status, mine.tries, other.status) == ("retrying", 0, "delivered")

    def test_that_is_deleted_before_the_call_is_passed_over(self, acme, acme_account, neighbour):
        provider = ProviderFactory(tenant=acme)
        mine, other = accepted(acme_account), neighbour()
        routing.table_for(acme)
        Provider.objects.filter(pk=provider.pk)._raw_delete("default")  # nobody is told of it
        deliver(mine, other)
        assert (mine.status, other.status) == ("retrying", "delivered")
        again(mine)
        assert mine.status == "held"

    def test_that_is_deleted_during_the_call_has_delivered_all_the_same(self, acme, acme_account, neighbour):
        with SendGridStandIn(delay=0.6) as service:
            provider = ProviderFactory(tenant=acme, type="sendgrid", config=service.config())
            mine, other = accepted(acme_account), neighbour()

            def delete():
                Provider.objects.filter(pk=provider.pk).delete()
                connection.close()

            timer = threading.Timer(0.25, delete)
            timer.start()
            deliver(mine, other)
            timer.join()
        assert (mine.status, other.status) == ("delivered", "delivered")
        assert len(service.accepted) == 1

    def test_that_is_gone_does_not_keep_its_connections(self, acme, acme_account, monkeypatch):
        monkeypatch.setattr(connections, "FORGET_AFTER", 0.0)
        for _ in range(3):
            Recipient.objects.update(provider=None)
            Provider.objects.all().delete()
            ProviderFactory(tenant=acme)
            routing.forget()
            deliver(accepted(acme_account))
        assert len(connections._live) == 1


class TestSilence:
    """PRV-10: a service that does not answer gets a pause, so that others' mail does not wait for it."""

    @pytest.fixture
    def silent(self, acme, settings, monkeypatch):
        settings.PROVIDER_TIMEOUT = 0.3
        monkeypatch.setattr(sender, "_pool", ThreadPoolExecutor(2))
        with SendGridStandIn() as service:
            service.hang_next(3, times=50)
            yield ProviderFactory(tenant=acme, type="sendgrid", name="silent", config=service.config()), service

    def test_three_in_a_row_pause_it_and_the_rest_is_not_called(self, acme_account, silent, neighbour):
        provider, service = silent
        mine = [accepted(acme_account, None, [f"m{n}@outside.example"]) for n in range(12)]
        other = neighbour()
        began = time.monotonic()
        deliver(*mine, other)
        assert other.status == "delivered"
        assert time.monotonic() - began < 12 * 0.3
        assert service.requests <= 6  # two threads had begun their next when the third failure was noted
        provider.refresh_from_db()
        assert provider.unhealthy_until > timezone.now()
        assert {message.status for message in mine} == {"retrying"}
        untried = [message for message in mine if message.tries == 0]
        assert len(untried) >= 6

    def test_one_message_probes_when_the_pause_is_over(self, acme, acme_account, broker):
        with SendGridStandIn(delay=0.2) as service:
            provider = ProviderFactory(tenant=acme, type="sendgrid", config=service.config())
            Provider.objects.update(unhealthy_until=timezone.now() - timedelta(seconds=1), unhealthy_reason="silent")
            mine = [accepted(acme_account, None, [f"m{n}@outside.example"]) for n in range(4)]
            deliver(*mine)
            assert sorted(message.status for message in mine) == ["delivered", "retrying", "retrying", "retrying"]
            assert len(service.accepted) == 1
            provider.refresh_from_db()
            assert provider.unhealthy_until is None
            for message in mine:
                if message.status == "retrying":
                    again(message)
            assert {message.status for message in mine} == {"delivered"}

    def test_waiting_for_it_writes_one_event(self, acme, acme_account, box):
        """RET-6."""
        Provider.objects.update(unhealthy_until=timezone.now() + timedelta(hours=1), unhealthy_reason="silent")
        message = accepted(acme_account)
        for _ in range(5):
            again(message)
        assert (message.status, message.tries) == ("retrying", 0)
        assert list(Event.objects.values_list("type", flat=True)) == ["received", "retrying"]
        assert message.next_attempt_at - timezone.now() > timedelta(minutes=5)


class TestLostAnswer:
    """DEL-5: a provider that recognises its keys is asked again until it answers."""

    @pytest.fixture
    def resend(self, acme):
        Tenant.objects.filter(pk=acme.pk).update(unknown_outcome="hold")
        with ResendStandIn() as service:
            ProviderFactory(tenant=acme, type="resend", name="resend", config=service.config())
            service.reset_next(take=True)
            yield service

    def test_the_key_is_kept_through_further_failures(self, acme_account, resend):
        resend.fail_next(503)
        message = accepted(acme_account)
        deliver(message)
        again(message)
        again(message)
        assert message.status == "delivered"
        assert len(set(DeliveryLog.objects.values_list("idempotency_key", flat=True))) == 1
        assert len(resend.accepted) == 1

    def test_no_other_provider_is_asked_where_the_tenant_wants_no_duplicate(self, acme, acme_account, resend):
        resend.fail_next(503)
        with SendGridStandIn() as other:
            ProviderFactory(tenant=acme, type="sendgrid", name="other", default_rank=1, config=other.config())
            message = accepted(acme_account)
            deliver(message)
            again(message)
            Provider.objects.filter(name="resend").update(unhealthy_until=timezone.now() + timedelta(minutes=5))
            again(message)
            assert message.status == "retrying"
            Provider.objects.update(unhealthy_until=None)
            again(message)
        assert message.status == "delivered"
        assert (len(resend.accepted), len(other.accepted)) == (1, 0)

    def test_after_the_last_retry_it_is_held(self, acme_account, resend):
        resend.fail_next(503, times=20)
        message = accepted(acme_account)
        deliver(message)
        for _ in range(6):
            if message.next_attempt_at:
                Provider.objects.update(unhealthy_until=None)
                again(message)
        assert message.status == "held"
        assert set(message.recipients.values_list("status", flat=True)) == {"unknown"}


def test_a_parked_message_leaves_no_attempt_open(acme, acme_account, box):
    """QUE-6, DEL-5."""
    message = accepted(acme_account)
    for number in range(3):
        make_due(message)
        claims.claim([message.pk])
        DeliveryLog.objects.create(
            message=message,
            tenant=acme,
            account=acme_account,
            provider=Provider.objects.get(name="primary"),
            provider_name="primary",
            provider_type="memory",
            attempt_number=number + 1,
            idempotency_key=message.pk,
            recipients=["someone@outside.example"],
            created_at=timezone.now(),
        )
    make_due(message)
    deliver(message)
    assert message.status == "dlq"
    assert set(DeliveryLog.objects.values_list("status", flat=True)) == {"unknown"}
    control.retry([message.pk], actor=None)
    deliver(message)
    assert message.status == "delivered"
    assert list(DeliveryLog.objects.order_by("pk").values_list("attempt_number", flat=True)) == [1, 2, 3, 4]


def test_our_own_database_uses_up_no_retry(acme, acme_account, box, monkeypatch):
    if connection.vendor != "postgresql":
        pytest.skip("SQLite has no connections that break")
    real = sender.fetch

    def fetch_and_break(key):
        name = connection.settings_dict["NAME"]
        with psycopg.connect(database_url(), autocommit=True) as other:
            other.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s AND pid <> pg_backend_pid()",
                [name],
            )
        return real(key)

    message = accepted(acme_account)
    monkeypatch.setattr(sender, "fetch", fetch_and_break)
    try:
        sender.deliver([message.pk])
    finally:
        connection.close()
    monkeypatch.setattr(sender, "fetch", real)
    message.refresh_from_db()
    assert message.tries == 0
    again(message)
    assert message.status == "delivered"
    assert len(box.accepted) == 1
