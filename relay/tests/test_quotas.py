"""Quotas as a client meets them, on the real floors below: LIM-1, SMTP-14."""

import re

import pytest

from accounts.tests.factories import PASSWORD
from delivery.models import Message
from relay.handler import Domain
from relay.tests.listening import Client, Running

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.redis]
LETTER = b"From: App <app@acme.example>\r\nTo: bob@example.org\r\nSubject: x\r\n\r\nhello\r\n"


@pytest.fixture
def client(acme_account):
    with Running(Domain()) as running, Client(running.port) as connected:
        yield connected


def limit(owner, **limits):
    for period, most in limits.items():
        setattr(owner, f"messages_per_{period}", most)
    owner.save()


def sign_in(client):
    return client.sign_in(username="crm@acme", password=PASSWORD)


def test_more_than_a_rate_is_put_off_with_a_time_and_the_connection_goes_on(acme_account, client):
    limit(acme_account, minute=2)
    sign_in(client)
    assert [client.message(LETTER)[:3] for _ in range(2)] == ["250", "250"]
    reply = client.message(LETTER)
    assert re.fullmatch(r"451 4\.7\.1 This account may send 2 messages a minute; try again in 6[01] s", reply)
    assert client.command("NOOP").startswith("250")
    assert Message.objects.count() == 2


def test_more_than_a_tenants_month_is_452(acme, acme_account, client):
    limit(acme, month=1)
    sign_in(client)
    assert client.message(LETTER).startswith("250")
    reply = client.message(LETTER)
    assert reply.startswith("452 4.2.2 This tenant may send 1 message a month; the next month begins on 20")
    assert Message.objects.count() == 1
