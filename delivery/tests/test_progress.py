"""A send of several requests goes on where it stopped, whoever stopped it (PRV-6, DEL-5)."""

import time

import pytest
from django.db import DatabaseError, connection
from django.test.utils import CaptureQueriesContext

from accounts.models import Tenant
from delivery import attempts, routing, sender
from delivery.models import DeliveryLog, MessageStatus
from delivery.progress import Kept
from delivery.tests.factories import DeliveryLogFactory
from delivery.tests.mail import accepted
from delivery.tests.stepwise import StepwiseBackend
from delivery.tests.test_sender import deliver, logs, make_due, statuses
from providers import registry
from providers.backends.memory import MemoryBackend
from providers.exceptions import PermanentFailure, TemporaryFailure, TooLarge, Unfinished
from providers.models import Provider
from providers.tests.factories import ProviderFactory

pytestmark = pytest.mark.django_db(transaction=True)

BUSY = TemporaryFailure("Busy", code="server_error", status_code=503)
LOST = TemporaryFailure("No answer", code="timeout", outcome_unknown=True)
DEATH = SystemExit()


@pytest.fixture(autouse=True)
def _stepwise(monkeypatch):
    monkeypatch.setitem(registry._PATHS, "stepwise", "delivery.tests.stepwise.StepwiseBackend")
    StepwiseBackend.reset()


@pytest.fixture
def service(acme, broker):
    """acme's default provider."""
    ProviderFactory(tenant=acme, name="primary", type="stepwise", config={})
    return StepwiseBackend


@pytest.fixture
def fallback(acme, service):
    ProviderFactory(tenant=acme, name="fallback", default_rank=1, config={"box": "fallback"})
    return MemoryBackend.box("fallback")


def die(message):
    """The worker dies over the message."""
    with pytest.raises(SystemExit):
        sender.deliver([message.pk])
    make_due(message)


def kept(message):
    return [log.progress for log in message.delivery_logs.order_by("pk")]


def keys(message):
    return {str(log.idempotency_key) for log in message.delivery_logs.all()}


def until(condition):
    deadline = time.monotonic() + 5
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    return condition()


def test_after_a_temporary_failure_half_way_the_same_draft_is_sent(acme_account, service):
    service.answers.extend([None, BUSY])
    message = accepted(acme_account)
    deliver(message)
    assert (message.status, kept(message)) == (MessageStatus.RETRYING, [{"draft": "draft-0"}])
    make_due(message)
    deliver(message)
    assert message.status == MessageStatus.DELIVERED
    assert service.prepared == ["draft-0"]
    assert [draft for draft, _ in service.sent] == ["draft-0"]
    assert keys(message) == {key for _, key in service.sent}
    assert kept(message) == [None, None]


@pytest.mark.parametrize("before", [1, 2])
def test_after_a_death_at_any_step_it_is_sent_once(acme_account, service, before):
    service.answers.extend([None] * before + [DEATH])
    message = accepted(acme_account)
    die(message)
    service.answers.extend([None] * before + [DEATH])
    die(message)
    deliver(message)
    assert message.status == MessageStatus.DELIVERED
    assert logs(message) == [("primary", "unknown"), ("primary", "unknown"), ("primary", "delivered")]
    assert [draft for draft, _ in service.sent] == ["draft-0"]
    assert len(keys(message)) == 1
    assert kept(message) == [None, None, None]
    assert service.discarded == []


def test_a_death_before_the_first_step_begins_afresh(acme_account, service):
    service.answers.append(DEATH)
    message = accepted(acme_account)
    die(message)
    deliver(message)
    assert message.status == MessageStatus.DELIVERED
    assert len(service.sent) == 1


def test_a_tenant_that_wants_lost_answers_held_need_not_wait_where_progress_is_kept(acme, acme_account, service):
    Tenant.objects.update(unknown_outcome=Tenant.UnknownOutcome.HOLD)
    service.answers.extend([None, None, LOST])
    message = accepted(acme_account)
    deliver(message)
    assert (message.status, statuses(message)) == (MessageStatus.RETRYING, {"someone@outside.example": "unknown"})
    make_due(message)
    deliver(message)
    assert message.status == MessageStatus.DELIVERED
    assert [draft for draft, _ in service.sent] == ["draft-0"]


def test_a_lost_answer_is_asked_for_again_before_anybody_else_is(acme_account, service, fallback):
    service.answers.extend([None, None, LOST])
    message = accepted(acme_account)
    deliver(message)
    assert (message.status, fallback.accepted) == (MessageStatus.RETRYING, [])
    make_due(message)
    deliver(message)
    assert message.status == MessageStatus.DELIVERED
    assert (len(service.sent), fallback.accepted) == (1, [])


def test_each_group_of_recipients_goes_on_with_its_own(acme_account, service):
    recipients = [f"{name}@outside.example" for name in "abcd"]
    message = accepted(acme_account, None, recipients)
    service.answers.extend([None, None, BUSY, BUSY])
    deliver(message)
    assert message.status == MessageStatus.RETRYING
    make_due(message)
    deliver(message)
    assert message.status == MessageStatus.DELIVERED
    assert sorted(draft for draft, _ in service.sent) == ["draft-0", "draft-1"]
    assert len({key for _, key in service.sent}) == 2


def test_what_goes_on_later_stays_with_its_provider_and_uses_no_try(acme_account, service, fallback):
    service.answers.extend([None, Unfinished("The upload goes on.", code="continues")])
    message = accepted(acme_account)
    deliver(message)
    assert (message.status, message.tries, fallback.accepted) == (MessageStatus.RETRYING, 0, [])
    make_due(message)
    deliver(message)
    assert message.status == MessageStatus.DELIVERED
    assert ([draft for draft, _ in service.sent], fallback.accepted) == (["draft-0"], [])


@pytest.mark.parametrize("failure", [BUSY, TooLarge("30 MB", code="too_large")])
def test_what_another_provider_has_sent_is_taken_away(acme_account, service, fallback, failure):
    service.answers.extend([None, failure])
    message = accepted(acme_account)
    deliver(message)
    assert message.status == MessageStatus.DELIVERED
    assert len(fallback.accepted) == 1
    assert until(lambda: service.discarded == [{"draft": "draft-0"}])
    assert kept(message) == [None, None]


@pytest.mark.parametrize("failure", [BUSY, TooLarge("30 MB", code="too_large")])
def test_what_another_provider_has_sent_later_is_taken_away(acme_account, service, fallback, failure):
    fallback.answers.append(BUSY)
    service.answers.extend([None, failure])
    message = accepted(acme_account)
    deliver(message)
    assert message.status == MessageStatus.RETRYING
    Provider.objects.filter(name="primary").update(enabled=False)
    routing.forget()
    make_due(message)
    deliver(message)
    assert message.status == MessageStatus.DELIVERED
    assert until(lambda: service.discarded == [{"draft": "draft-0"}])
    assert set(map(str, kept(message))) == {"None"}


def test_what_is_given_up_is_taken_away(acme_account, service):
    service.answers.extend([None, PermanentFailure("No", code="refused")])
    message = accepted(acme_account)
    deliver(message)
    assert message.status == MessageStatus.FAILED
    assert until(lambda: service.discarded == [{"draft": "draft-0"}])
    assert kept(message) == [None]


def test_progress_is_encrypted_in_the_database(acme_account, service):
    service.answers.extend([None, BUSY])
    message = accepted(acme_account)
    deliver(message)
    with connection.cursor() as cursor:
        cursor.execute("SELECT progress FROM delivery_deliverylog")
        [(stored,)] = cursor.fetchall()
    assert "draft" not in stored
    assert message.delivery_logs.get().progress == {"draft": "draft-0"}


@pytest.mark.parametrize("code", ["not_recorded", "mailbox_full"])
def test_what_is_not_the_services_doing_does_not_make_it_unhealthy(code):
    """PRV-10."""
    assert not attempts.is_silence(TemporaryFailure("x", code=code, status_code=507))


class TestSaving:
    """Called from a thread that sends, beside the thread that holds the database connection."""

    def test_is_refused_when_another_worker_has_taken_over(self, acme_account, broker):
        attempt = DeliveryLogFactory(status=DeliveryLog.Status.UNKNOWN, progress={"draft": "theirs"})
        with pytest.raises(TemporaryFailure) as caught:
            Kept(attempt).save({"draft": "ours"})
        assert (caught.value.code, caught.value.outcome_unknown) == ("not_recorded", False)
        attempt.refresh_from_db()
        assert attempt.progress == {"draft": "theirs"}

    def test_is_refused_when_the_database_is_away(self, acme_account, broker):
        attempt = DeliveryLogFactory(status=DeliveryLog.Status.SENDING)

        def away(*_):
            raise DatabaseError("gone")

        with connection.execute_wrapper(away), pytest.raises(TemporaryFailure) as caught:
            Kept(attempt).save({"draft": "ours"})
        assert caught.value.code == "not_recorded"

    def test_leaves_no_connection_behind(self, acme_account, service):
        if connection.vendor != "postgresql":
            pytest.skip("a test database in memory keeps its connections")
        before = open_connections()
        for _ in range(3):
            deliver(accepted(acme_account))
        assert len(service.sent) == 3
        assert open_connections() == before


def open_connections():
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()")
        return cursor.fetchone()[0]


def test_fresh_messages_cost_no_query_more(acme_account, box):
    messages = [accepted(acme_account) for _ in range(2)]
    with CaptureQueriesContext(connection) as queries:
        deliver(*messages)
    assert [query["sql"] for query in queries if "progress" in query["sql"] and "INSERT" not in query["sql"]] == []
