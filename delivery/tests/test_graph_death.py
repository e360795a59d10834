"""A large message through Microsoft Graph, by workers that are killed: one mail, and no octet uploaded twice that the
service had told it had (PRV-6, DEL-5)."""

import os
import threading
import time
from datetime import timedelta

import pytest
from django.db import connection

from accounts.models import Tenant
from delivery import intake, sweeper
from delivery.models import DeliveryLog, Message, MessageStatus
from delivery.tests.mail import submission
from delivery.tests.test_worker_death import until_all_ended
from delivery.tests.workers import Worker
from providers.backends.msgraph.upload import PIECE
from providers.tests.factories import ProviderFactory
from providers.tests.messages import letter
from providers.tests.standins import GraphStandIn

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow, pytest.mark.timeout(300)]
SHORT = {"DELIVERY_LEASE": "4", "PROVIDER_TIMEOUT": "1.5", "DELIVERY_MAX_CLAIMS": "100"}
SIZE = 30 * 1024 * 1024
FILE = os.urandom(SIZE)


@pytest.fixture(autouse=True)
def _needs_a_server(monkeypatch):
    if connection.vendor != "postgresql":
        pytest.skip("a test database in memory cannot be shared with worker processes")
    monkeypatch.setattr(intake, "FIRST_LOOK", timedelta(seconds=4))
    monkeypatch.setattr(sweeper, "RING_AGAIN", timedelta(seconds=2))


@pytest.fixture
def worker(tmp_path, broker):
    made = Worker(tmp_path / "worker.log", **SHORT)
    yield made
    made.stop()


def accept(account):
    message = letter(From="crm@acme.example", To="anna@outside.example")
    message.set_content("The plans.\n")
    message.add_attachment(FILE, maintype="application", subtype="zip", filename="plans.zip")
    [answer] = intake.accept([submission(account, message.as_bytes(), ["anna@outside.example"])])
    return answer.message_id


def kill_when(worker, seen, seconds=60):
    """SIGKILL the worker the moment `seen` is true, and start it again."""
    deadline = time.monotonic() + seconds
    while not seen():
        assert time.monotonic() < deadline, f"nothing to kill for:\n{worker.log()[-4000:]}"
        time.sleep(0.002)
    worker.kill()
    worker.start()


def sweep_until(stop):
    """In a thread, which gives its connection back."""
    try:
        while not stop.wait(0.5):
            sweeper.ring_due()
    finally:
        connection.close()


@pytest.fixture
def sweeping():
    stop = threading.Event()
    thread = threading.Thread(target=sweep_until, args=(stop,))
    thread.start()
    yield
    stop.set()
    thread.join()


@pytest.mark.parametrize("hold", [False, True], ids=["resend", "hold"])
def test_killed_in_the_middle_of_the_upload_again_and_again_one_mail_is_sent(
    acme, acme_account, worker, sweeping, hold
):
    if hold:
        Tenant.objects.update(unknown_outcome=Tenant.UnknownOutcome.HOLD)
    with GraphStandIn(delay=0.15) as service:
        ProviderFactory(tenant=acme, type="msgraph", config=service.config())
        id_ = accept(acme_account)
        for pieces in (1, 3, 6):
            kill_when(worker, lambda pieces=pieces: len(service.pieces) >= pieces)
        until_all_ended([id_], 90)
    assert Message.objects.get(pk=id_).status == MessageStatus.DELIVERED, worker.log()[-4000:]
    [mail] = service.accepted
    assert mail.recipients == ["anna@outside.example"]
    assert [file.content == FILE for file in mail.files] == [True]
    starts = [first for _, first, _ in service.pieces]
    assert starts == sorted(set(starts)) == list(range(0, SIZE, PIECE))
    assert service.octets_taken == SIZE
    assert [draft.is_draft for draft in service.drafts.values()] == [False]
    attempts = DeliveryLog.objects.filter(message_id=id_).order_by("pk")
    assert [attempt.status for attempt in attempts] == ["unknown"] * 3 + ["delivered"]
    assert len({attempt.idempotency_key for attempt in attempts}) == 1
    assert {attempt.progress for attempt in attempts} == {None}
    print(f"30 MB, 3 kills, {len(starts)} pieces, {service.octets_taken:,} octets uploaded, 1 mail")


def test_killed_between_the_sending_and_our_record_of_it_one_mail_is_sent(acme, acme_account, worker, sweeping):
    with GraphStandIn() as service:
        service.hang_next(2.0, take=True, at="/send$")
        ProviderFactory(tenant=acme, type="msgraph", config=service.config())
        id_ = accept(acme_account)
        kill_when(worker, lambda: bool(service.accepted))
        until_all_ended([id_], 90)
    assert Message.objects.get(pk=id_).status == MessageStatus.DELIVERED, worker.log()[-4000:]
    assert len(service.accepted) == 1
    assert service.octets_taken == SIZE
    assert sum(request.endswith("/send") for request in service.journal) == 1


def test_small_messages_by_draft_are_sent_once_however_often_a_worker_dies(acme, acme_account, worker, sweeping):
    """Where the row asks for it; the tenant's setting for lost answers is not needed then."""
    Tenant.objects.update(unknown_outcome=Tenant.UnknownOutcome.HOLD)
    with GraphStandIn(delay=0.1) as service:
        ProviderFactory(tenant=acme, type="msgraph", config=service.config(exactly_once=True))
        raw = b"From: crm@acme.example\r\nTo: anna@outside.example\r\nSubject: %d\r\n\r\nhi\r\n"
        messages = [submission(acme_account, raw % n, ["anna@outside.example"]) for n in range(14)]
        ids = [answer.message_id for answer in intake.accept(messages)]
        for sent in (3, 9):
            kill_when(worker, lambda sent=sent: len(service.accepted) >= sent)
        until_all_ended(ids, 180)  # a killed worker's places at the mailbox come back after a while
    assert set(Message.objects.values_list("status", flat=True)) == {MessageStatus.DELIVERED}, worker.log()[-4000:]
    assert sorted(mail.subject for mail in service.accepted) == sorted(str(n) for n in range(14))
