"""The listener on the real floors below it: accounts, policy, store, database, broker."""

import smtplib
import threading
import time
import uuid

import pytest
from django.db import connection, connections, transaction

from accounts.tests.factories import PASSWORD, AccountFactory
from delivery import store
from delivery.models import Event, Message
from relay import batching
from relay.handler import Domain
from relay.tests.listening import Client, Running, client_context, without_trace

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.redis]
LETTER = b"From: App <app@acme.example>\r\nTo: bob@example.org\r\nSubject: x\r\n\r\nhello\r\n.\r\n"


@pytest.fixture
def start():
    started = []

    def begin(**changes):
        running = Running(Domain(), **changes).__enter__()
        started.append(running)
        return running

    yield begin
    for running in started:
        running.stop()
        assert running.threads_ended


def signed_in(running, username="crm@acme"):
    return Client(running.port).sign_in(username=username, password=PASSWORD)


def test_what_got_250_is_in_database_and_store(acme_account, start):
    with smtplib.SMTP("127.0.0.1", start().port) as client:
        client.starttls(context=client_context())
        client.login("crm@acme", PASSWORD)
        client.mail("app@acme.example")
        client.rcpt("bob@example.org")
        client.rcpt("blind@example.org")
        code, text = client.data(LETTER)
    assert code == 250
    message = Message.objects.get(pk=uuid.UUID(text.decode().rpartition(" ")[2]))
    assert without_trace(store.read(message.store_key)) == LETTER
    assert message.account_id == acme_account.pk
    assert message.source == "smtp"
    assert message.client_ip == "127.0.0.1"
    assert sorted(message.recipients.values_list("address", flat=True)) == ["blind@example.org", "bob@example.org"]
    assert Event.objects.filter(message=message, type="received").count() == 1


def test_a_spooled_message_is_stored_whole(acme_account, start, tmp_path):
    running = start(spool_threshold=5000, spool_path=str(tmp_path))
    letter = LETTER + b"0123456789abcdef\r\n" * 200_000
    with signed_in(running) as client:
        reply = client.message(letter.replace(b"\r\n.", b"\r\n.."))
    message = Message.objects.get(pk=uuid.UUID(reply.rpartition(" ")[2]))
    assert without_trace(store.read(message.store_key)) == letter


@pytest.mark.parametrize(
    ("username", "password"), [("crm@acme", "wrong"), ("nobody", PASSWORD), ("erp@globex", "wrong"), ("", "")]
)
def test_who_is_not_known_does_not_get_in(acme_account, globex_account, start, username, password):
    with pytest.raises(AssertionError), Client(start().port) as client:
        client.sign_in(username=username, password=password)


def test_another_tenants_sender_is_refused_in_envelope_and_header(acme_account, globex_account, start):
    with signed_in(start()) as client:
        assert client.command("MAIL FROM:<boss@globex.example>").startswith("550 5.7.1")
        assert client.message(b"From: boss@globex.example\r\n\r\nhello\r\n").startswith("550 5.7.1")
        assert client.message(LETTER.removesuffix(b".\r\n")).startswith("250")
    assert Message.objects.count() == 1


def test_a_suspended_account_cannot_send_on_a_connection_it_has_open(acme_account, start):
    running = start()
    with signed_in(running) as client:
        acme_account.status = "suspended"
        acme_account.save()
        assert client.command("MAIL FROM:<app@acme.example>").startswith("421 4.7.0")
        assert client.at_end()
    with pytest.raises(AssertionError):
        signed_in(running)


def test_an_account_suspended_within_a_transaction_cannot_end_it(acme_account, start):
    with signed_in(start()) as client:
        client.envelope()
        acme_account.status = "suspended"
        acme_account.save()
        client.send(LETTER)
        assert client.reply().startswith("550 5.7.1")


def test_a_printer_is_known_by_its_network(acme, start):
    AccountFactory(tenant=acme, name="printer", client_networks=["127.0.0.0/8"], network_authenticated=True)
    with Client(start().port) as client:
        client.command("EHLO printer")
        assert client.message(LETTER.removesuffix(b".\r\n")).startswith("250")


@pytest.mark.postgres
def test_a_database_that_does_not_answer_gives_451_at_once_and_recovers(acme_account, start):
    if connection.vendor != "postgresql":
        pytest.skip("needs PostgreSQL")
    running = start(silent_after=0.3, accept_timeout=20)
    clients = [signed_in(running) for _ in range(6)]
    for client in clients:
        client.envelope()
    locked, release = threading.Event(), threading.Event()

    def lock():
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(f"LOCK TABLE {Message._meta.db_table} IN ACCESS EXCLUSIVE MODE")
            locked.set()
            release.wait(30)
        connections.close_all()

    holder = threading.Thread(target=lock)
    holder.start()
    assert locked.wait(10)
    for client in clients:
        client.send(LETTER.removesuffix(b".\r\n") + b".\r\n")
        time.sleep(2 * batching.TOGETHER)  # so that each of the first two has a writer of its own
    deferred = [client.reply() for client in clients[2:]]
    assert {reply[:9] for reply in deferred} == {"451 4.3.0"}
    began = time.monotonic()
    assert clients[5].message(LETTER.removesuffix(b".\r\n")).startswith("451 4.3.0")
    assert time.monotonic() - began < 1
    release.set()
    holder.join()
    assert all(client.reply().startswith("250") for client in clients[:2])
    assert clients[5].message(LETTER.removesuffix(b".\r\n")).startswith("250")
    assert Message.objects.count() == 3
    for client in clients:
        client.close()


def test_fifty_clients_at_once_lose_nothing(acme, start):
    AccountFactory(tenant=acme, name="printer", client_networks=["127.0.0.0/8"], network_authenticated=True)
    running = start()
    accepted, guard = [], threading.Lock()

    def send():
        with Client(running.port) as client:
            client.command("EHLO x")
            for _ in range(6):
                reply = client.message(LETTER.removesuffix(b".\r\n"))
                with guard:
                    accepted.append(reply)

    threads = [threading.Thread(target=send) for _ in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ids = {uuid.UUID(reply.rpartition(" ")[2]) for reply in accepted if reply.startswith("250")}
    assert {reply[:3] for reply in accepted} <= {"250", "451"}
    if connection.vendor == "postgresql":  # SQLite in memory, as tests have it, locks whole tables and waits for none
        assert len(ids) == 300
    assert set(Message.objects.values_list("pk", flat=True)) == ids


def test_a_database_connection_that_broke_is_made_anew(acme_account, start):
    """ACC-2: one restart of the database must not end acceptance."""
    if connection.vendor != "postgresql":
        pytest.skip("SQLite has no connections that break")
    with signed_in(start()) as client:
        assert client.message(LETTER.removesuffix(b".\r\n")).startswith("250")
        for _ in range(3):
            with connection.cursor() as cursor:
                cursor.execute(
                    "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
                    " WHERE datname = current_database() AND pid <> pg_backend_pid()"
                )
            assert client.message(LETTER.removesuffix(b".\r\n")).startswith("250")
    assert Message.objects.count() == 4
