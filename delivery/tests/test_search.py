"""Search in the admin, each kind where an index has it, never another tenant's (ADM-2, ADM-5, SEC-2)."""

import pytest
from django.urls import reverse

from accounts import pages
from accounts.tests.factories import UserFactory
from delivery import search
from delivery.tests.factories import DeliveryLogFactory, EventFactory, MessageFactory, RecipientFactory
from providers.tests.factories import ProviderFactory

pytestmark = pytest.mark.django_db


@pytest.fixture
def ask(client, acme):
    client.force_login(UserFactory(tenant=acme, role="owner"))

    def keys(model, **query):
        page = client.get(reverse(f"admin:delivery_{model}_changelist"), query)
        assert page.status_code == 200
        return {row.pk for row in page.context["cl"].result_list}

    return keys


@pytest.fixture
def message(acme):
    return MessageFactory(account__tenant=acme, mail_from="App@acme.example", subject="Blue shoes", recipients=[])


@pytest.fixture(autouse=True)
def theirs(globex):
    """As like ours as it can be."""
    message = MessageFactory(account__tenant=globex, mail_from="App@acme.example", subject="Blue shoes", recipients=[])
    provider = ProviderFactory(tenant=globex)
    RecipientFactory(message=message, address="Anna@b.example", provider=provider, provider_message_id="P-1")
    EventFactory(message=message, provider=provider, provider_event_id="E-1")
    DeliveryLogFactory(message=message, provider=provider, provider_message_id="P-1", error_code="refused")


@pytest.mark.parametrize(
    "term", ["App@acme.example", "Anna@b.example", "P-1", "shoes blue", '"blue shoes"', "id", "header"]
)
def test_a_message_is_found_by_what_people_know_of_it(ask, message, acme, term):
    MessageFactory(account__tenant=acme, subject="Red hats", recipients=[])
    provider = ProviderFactory(tenant=acme)
    RecipientFactory(message=message, address="Anna@b.example", provider=provider, provider_message_id="P-1")
    term = {"id": str(message.pk), "header": message.message_id_header}.get(term, term)
    assert ask("message", q=term) == {message.pk}


def test_a_message_sent_through_a_shared_provider_is_found_by_its_id(ask, message):
    RecipientFactory(message=message, provider=ProviderFactory(tenant=None), provider_message_id="shared-1")
    assert ask("message", q="shared-1") == {message.pk}


def test_words_are_looked_for_in_the_newest_messages_only_and_the_page_says_so(ask, message, acme, monkeypatch, client):
    MessageFactory(account__tenant=acme, subject="Red hats", recipients=[])
    monkeypatch.setattr(pages, "NEWEST", 1)
    assert ask("message", q="shoes") == set()
    assert len(ask("message", q="hats")) == 1
    page = client.get(reverse("admin:delivery_message_changelist")).content.decode()
    assert "of the newest 50,000 messages" in page


def test_attempts_are_found_by_the_providers_id_and_by_error_code(ask, message):
    log = DeliveryLogFactory(message=message, provider_message_id="P-1", error_code="refused")
    DeliveryLogFactory(message=message)
    RecipientFactory(message=message, provider=log.provider, provider_message_id="P-1")
    assert ask("deliverylog", q="P-1") == {log.pk}
    assert ask("deliverylog", q="refused") == {log.pk}


def test_an_event_is_found_by_the_providers_id(ask, message, acme):
    event = EventFactory(message=message, provider=ProviderFactory(tenant=acme), provider_event_id="E-1")
    assert ask("event", q="E-1") == {event.pk}


def test_a_recipient_is_found_by_address_and_by_the_providers_id(ask, message, acme):
    provider = ProviderFactory(tenant=acme)
    row = RecipientFactory(message=message, address="anna@b.example", provider=provider, provider_message_id="P-1")
    assert ask("recipient", q="Anna@b.example") == ask("recipient", q="P-1") == {row.pk}


def test_a_filter_without_an_index_looks_at_the_newest_rows_and_says_so(ask, message, client, monkeypatch):
    old = DeliveryLogFactory(message=message, fidelity="lossless")
    DeliveryLogFactory(message=message)
    assert ask("deliverylog", fidelity__exact="lossless") == {old.pk}
    monkeypatch.setattr(pages, "NEWEST", 1)
    page = client.get(reverse("admin:delivery_deliverylog_changelist"), {"fidelity__exact": "lossless"})
    assert set(page.context["cl"].result_list) == set()
    assert "the newest 50,000 rows only" in page.content.decode()
    by_index = client.get(reverse("admin:delivery_deliverylog_changelist"), {"status__exact": "delivered"})
    assert "rows only" not in by_index.content.decode()
    assert len(by_index.context["cl"].result_list) == 2


def test_an_address_that_got_very_much_is_found_by_its_newest_messages(ask, acme, monkeypatch):
    monkeypatch.setattr(search, "MOST", 2)
    messages = [MessageFactory(account__tenant=acme, recipients=["busy@b.example"]) for _ in range(3)]
    assert ask("message", q="busy@b.example") == {message.pk for message in messages[1:]}
