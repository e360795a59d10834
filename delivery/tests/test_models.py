"""What the database itself refuses on this floor, whatever code or person writes."""

import pytest
from django.db import IntegrityError, connection, transaction
from django.utils import timezone

from accounts.ids import uuid7
from delivery.models import DUE_STATUSES, DeliveryLog, Event, Message, MessageStatus, Recipient
from delivery.tests.factories import DeliveryLogFactory, EventFactory, MessageFactory, RecipientFactory
from providers.tests.factories import ProviderFactory

pytestmark = pytest.mark.django_db


def refused(constraint, model, **fields):
    expected = constraint if connection.vendor == "postgresql" else None
    with pytest.raises(IntegrityError, match=expected), transaction.atomic():
        model.objects.bulk_create([model(**fields)])


def test_a_message_has_a_known_status(acme_account):
    message = MessageFactory(account=acme_account, status=MessageStatus.DELIVERED)
    with pytest.raises(IntegrityError), transaction.atomic():
        Message.objects.filter(pk=message.pk).update(status="asleep")


@pytest.mark.parametrize("status", MessageStatus.values)
def test_a_message_has_a_next_look_exactly_when_it_is_due(acme_account, status):
    message = MessageFactory(account=acme_account, status=status)
    other = None if status in DUE_STATUSES else timezone.now()
    with pytest.raises(IntegrityError), transaction.atomic():
        Message.objects.filter(pk=message.pk).update(next_attempt_at=other)


def test_an_address_is_in_a_message_once(acme_account):
    recipient = RecipientFactory(message=MessageFactory(account=acme_account))
    now = timezone.now()
    refused(
        "recipient_once_in_message", Recipient, message=recipient.message, address=recipient.address, updated_at=now
    )
    refused("recipient_status_known", Recipient, message=recipient.message, address="x", status="?", updated_at=now)


def test_an_attempt_has_a_known_status(acme_account):
    log = DeliveryLogFactory(message__account=acme_account)
    with pytest.raises(IntegrityError), transaction.atomic():
        DeliveryLog.objects.filter(pk=log.pk).update(status="asleep")


def test_an_event_has_a_known_type_and_is_told_once_by_a_provider(acme_account):
    provider = ProviderFactory(tenant=acme_account.tenant)
    event = EventFactory(message__account=acme_account, provider=provider, provider_event_id="e1")
    same = {"tenant": event.tenant, "message": event.message, "occurred_at": event.occurred_at}
    refused("event_type_known", Event, type="asleep", **same)
    refused("event_told_once", Event, type="bounced", provider=provider, provider_event_id="e1", **same)
    for _ in range(2):  # ours have no such id and may repeat
        Event.objects.bulk_create([Event(type="retrying", provider=provider, **same)])


def test_a_tenant_with_mail_cannot_be_deleted_past_the_models(acme_account):
    MessageFactory(account=acme_account)
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM accounts_tenant")
    with pytest.raises(IntegrityError):
        connection.check_constraints()
    # Leave the transaction whole, for its own end checks constraints too.
    transaction.set_rollback(True)


def test_a_row_says_its_name(acme_account):
    log = DeliveryLogFactory(message__account=acme_account, provider_name="primary", attempt_number=3)
    event = EventFactory(message=log.message)
    recipient = RecipientFactory(message=log.message, address="a@b.example")
    assert [str(row) for row in (log, event, recipient)] == ["primary #3", "received", "a@b.example"]
    assert str(log.message) == str(log.message.pk)
    assert uuid7() > log.message.pk
