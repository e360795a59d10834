"""A test message is sent from an account's page, as any mail of it: ADM-2, ACC-1, SEC-1."""

import pytest
from django.urls import reverse

from accounts.models import AuditEntry
from accounts.tests.factories import UserFactory
from delivery.models import Message
from providers.tests.factories import ProviderFactory

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def owner(client, acme):
    person = UserFactory(tenant=acme, role="owner", email="owner@acme.example")
    client.force_login(person)
    return person


def url(account):
    return reverse("admin:accounts_account_connect", args=[account.pk])


SENT = {"sender": "test@acme.example", "recipient": "anna@example.com"}


def test_a_test_message_is_accepted_and_its_way_is_shown(client, owner, acme_account):
    ProviderFactory(tenant=acme_account.tenant)
    answer = client.post(url(acme_account), SENT, follow=True)
    message = Message.objects.get()
    assert (message.account_id, message.mail_from, message.source) == (acme_account.pk, "test@acme.example", "http")
    assert answer.redirect_chain[-1][0].endswith(f"/sent/{message.pk}/")
    page = answer.content.decode()
    assert "It was accepted. Now it is queued" in page
    assert "anna@example.com" in page
    assert AuditEntry.objects.get(action="account.test_message").changes["to"] == "anna@example.com"


def test_a_sender_the_account_may_not_use_is_refused_in_the_products_words(client, owner, acme_account):
    page = client.post(url(acme_account), {**SENT, "sender": "boss@globex.example"}).content.decode()
    assert "Not accepted: " in page
    assert 'value="boss@globex.example"' in page
    assert not Message.objects.exists()


@pytest.mark.parametrize("wrong", [{"recipient": "nobody"}, {"sender": ""}])
def test_what_is_no_address_is_told_at_its_field(client, owner, acme_account, wrong):
    assert client.post(url(acme_account), {**SENT, **wrong}).context["send_form"].errors
    assert not Message.objects.exists()


def test_only_those_who_may_change_the_account_send_from_it(client, acme, acme_account, globex_account):
    client.force_login(UserFactory(tenant=acme, role="admin"))
    assert client.post(url(acme_account), SENT).status_code == 403
    assert b"Send a test message" not in client.get(url(acme_account)).content
    client.force_login(UserFactory(tenant=acme, role="owner"))
    assert client.post(url(globex_account), SENT).status_code == 404
    assert not Message.objects.exists()
