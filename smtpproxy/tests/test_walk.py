"""One message through everything: SMTP with TLS and password, policy, store, rows, broker, worker, provider, admin."""

import smtplib
import uuid

import pytest
from celery.contrib.testing.worker import start_worker
from django.urls import reverse

from accounts.tests.factories import PASSWORD, UserFactory
from delivery import store
from delivery.models import DeliveryLog, Event, Message
from providers import connections
from providers.backends.memory import MemoryBackend
from providers.tests.factories import ProviderFactory
from relay.handler import Domain
from relay.tests.listening import Running
from smtpproxy.celery import app
from smtpproxy.tests import services

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.redis]
LETTER = (
    b"From: Crm <crm@acme.example>\r\n"
    b"To: One <one@outside.example>\r\n"
    b"Subject: =?utf-8?q?Angebot_f=C3=BCr_Sie?=\r\n"
    b"Content-Type: text/plain; charset=utf-8\r\n"
    b"Content-Transfer-Encoding: 8bit\r\n"
    b"\r\n"
    b"Gr\xc3\xbc\xc3\x9fe,\r\n..a line that began with a dot\r\n"
)


@pytest.fixture
def worker(acme):
    """A Celery worker in a thread of this process; its tasks come from the real broker."""
    app.control.purge()
    with start_worker(app, pool="solo", perform_ping_check=False, shutdown_timeout=20):
        yield
    app.control.purge()
    connections.forget_all()
    MemoryBackend.reset()


@pytest.fixture
def listener(acme):
    with Running(Domain()) as running:
        yield running
        running.stop()


def _send(listener, *, username="crm@acme", sender="crm@acme.example", recipients=("one@outside.example",)):
    with smtplib.SMTP("127.0.0.1", listener.port, timeout=20) as client:
        client.starttls()
        client.login(username, PASSWORD)
        code, text = client.mail(sender, ["BODY=8BITMIME"])
        if code == 250:
            for recipient in recipients:
                client.rcpt(recipient)
            code, text = client.data(LETTER)
        return code, text.decode()


def test_one_message_walks_through_everything(acme, acme_account, listener, worker, client):
    provider = ProviderFactory(tenant=acme, name="primary")
    recipients = ("one@outside.example", "blind@outside.example")

    code, text = _send(listener, recipients=recipients)
    assert code == 250
    message_id = uuid.UUID(text.rpartition(" ")[2])
    box = MemoryBackend.box()
    services.wait_until(lambda: Message.objects.filter(pk=message_id, status="delivered").exists(), "delivery", 20)

    [sent] = box.accepted
    received, _, rest = sent.raw.partition(b"From: Crm")
    assert b"From: Crm" + rest == LETTER
    assert received.startswith(b"Received: ")
    assert (sent.mail_from, sorted(sent.recipients)) == ("crm@acme.example", sorted(recipients))

    message = Message.objects.get(pk=message_id)
    assert (message.tenant, message.account, message.subject) == (acme, acme_account, "Angebot für Sie")
    assert {row.address: row.status for row in message.recipients.all()} == dict.fromkeys(recipients, "delivered")
    assert store.read(message.store_key) == sent.raw
    [attempt] = DeliveryLog.objects.filter(message=message)
    assert (attempt.status, attempt.provider, attempt.attempt_number) == ("delivered", provider, 1)
    events = list(Event.objects.filter(message=message).values_list("type", flat=True))
    assert events[0] == "received"
    assert "delivered" in events

    client.force_login(UserFactory(tenant=acme, role="admin"))
    page = client.get(reverse("admin:delivery_message_change", args=[message_id]))
    assert page.status_code == 200
    for shown in ("Angebot für Sie", *recipients, "primary"):
        assert shown in page.content.decode()


def test_another_tenant_neither_sends_in_its_name_nor_sees_its_mail(
    acme, acme_account, globex, globex_account, listener, worker, client
):
    ProviderFactory(tenant=acme)
    code, text = _send(listener, username="erp@globex")
    assert (code, text[:5]) == (550, "5.7.1")
    assert not Message.objects.exists()

    code, text = _send(listener)
    assert code == 250
    client.force_login(UserFactory(tenant=globex, role="owner"))
    page = client.get(reverse("admin:delivery_message_change", args=[text.rpartition(" ")[2]]), follow=True)
    assert "Angebot" not in page.content.decode()
    assert "Angebot" not in client.get(reverse("admin:delivery_message_changelist")).content.decode()
