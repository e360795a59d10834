"""Scheduled send as a client meets it, on the real floors below: DEL-11, SMTP-16."""

import pytest

from accounts.tests.factories import PASSWORD
from delivery.models import Message
from relay.handler import Domain
from relay.tests.listening import Client, Running

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.redis]
LETTER = b"X-Send-At: %b\r\nFrom: App <app@acme.example>\r\nTo: bob@example.org\r\nSubject: x\r\n\r\nhello\r\n"


def test_a_date_that_cannot_be_followed_is_told_at_once_and_nothing_is_kept(acme_account):
    with Running(Domain()) as running, Client(running.port) as client:
        client.sign_in(username="crm@acme", password=PASSWORD)
        assert client.message(LETTER % b"next Tuesday").startswith("550 5.6.0 X-Send-At cannot be read: give a date")
        assert client.message(LETTER % b"2999-01-01T00:00:00Z").startswith(
            "550 5.6.0 The message is to be sent on 2999"
        )
    assert not Message.objects.exists()
