"""The page of a message and what is in it: ADM-2, ADM-4, DEL-9."""

from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from accounts.ids import uuid7
from accounts.tests.factories import UserFactory
from delivery import message_page, timeline
from delivery.models import DeliveryLog, Event, Message, Recipient
from delivery.tests.factories import DeliveryLogFactory, EventFactory, MessageFactory

pytestmark = pytest.mark.django_db
T0 = datetime(2026, 11, 1, 12, 0, tzinfo=UTC)


@pytest.fixture
def reader(client, acme):
    person = UserFactory(tenant=acme, role="owner", email="olga@acme.example", reads_bodies=True)
    client.force_login(person)
    return person


def page_of(message):
    return reverse("admin:delivery_message_change", args=[message.pk])


def after(seconds):
    return T0 + timedelta(seconds=seconds)


def test_the_timeline_is_what_happened_in_the_order_it_happened():
    logs = [
        DeliveryLog(
            id=uuid7(), attempt_number=1, provider_name="primary", provider_type="smtp", status="retrying",
            created_at=after(2), duration_ms=300, response_code=451, error_code="4.7.1", error_text="try later",
            recipients=[f"r{number}@x.example" for number in range(12)],
        ),
        DeliveryLog(
            id=uuid7(), attempt_number=2, provider_name="primary", provider_type="smtp", status="delivered",
            created_at=after(62), duration_ms=250, response_code=250, provider_message_id="q-4711",
        ),
    ]  # fmt: skip
    key = uuid7()
    events = [
        Event(id=uuid7(), type="confirmed", occurred_at=after(3700), provider_id=key,
              data={"recipient": "r0@x.example", "text": "2.0.0 OK", "code": "250"}),
        Event(id=uuid7(), type="received", occurred_at=T0, data={"source": "smtp", "recipients": 12}),
        Event(id=uuid7(), type="retrying", occurred_at=after(2.5), data={"reason": "later", "tries": 1}),
    ]  # fmt: skip
    told = timeline.entries(events, logs, {key: "primary"})
    assert [entry.label for entry in told] == ["Received", "attempt 1", "Retrying", "attempt 2", "Confirmed"]
    assert [entry.since and entry.since.total_seconds() for entry in told] == [None, 2, 0.5, 59.5, 3638]
    first, second, last = told[1], told[3], told[4]
    assert (first.code, first.words, first.provider) == ("451 4.7.1", "try later", "primary (smtp)")
    assert (len(first.recipients), first.more_recipients) == (5, 7)
    assert (second.provider_message_id, second.took) == ("q-4711", timedelta(milliseconds=250))
    assert (last.recipients, last.provider, last.code, last.words) == (("r0@x.example",), "primary", "250", "2.0.0 OK")
    assert (told[0].more_recipients, dict(told[0].facts), dict(told[2].facts)) == (12, {"source": "smtp"}, {"tries": 1})


@pytest.mark.parametrize(
    ("seconds", "told"), [(0.25, "250 ms"), (3.2, "3.2 s"), (245, "4 min 5 s"), (183_700, "2 d 3 h"), (-2, "-2.0 s")]
)
def test_durations_are_told_in_the_units_people_use(seconds, told):
    assert message_page.duration(seconds) == told


def test_the_page_says_what_comes_next_and_when(client, reader, acme_account):
    waiting = MessageFactory(account=acme_account, status="retrying", next_attempt_at=T0, status_reason="try later")
    page = client.get(page_of(waiting)).content.decode()
    assert "It is tried again at 2026-11-01 12:00:00 UTC." in page
    assert "try later" in page
    for status, _ in Message._meta.get_field("status").flatchoices:
        assert message_page.next_step(Message(status=status, queue="q", next_attempt_at=None))


def test_a_thousand_recipients_and_many_steps_cost_no_more_queries_than_one(client, reader, acme_account):
    small = MessageFactory(account=acme_account)
    client.get(page_of(small))
    with CaptureQueriesContext(connection) as few:
        client.get(page_of(small))
    big = MessageFactory(account=acme_account, recipients=[])
    addresses = [f"r{number:04}@outside.example" for number in range(1000)]
    Recipient.objects.bulk_create(Recipient(message=big, address=one, updated_at=T0) for one in addresses)
    Message.objects.filter(pk=big.pk).update(recipient_count=1000)
    for number in range(3):
        DeliveryLogFactory(message=big, attempt_number=number + 1, recipients=addresses)
    Event.objects.bulk_create(
        Event(tenant=big.tenant, message=big, type="opened", occurred_at=T0, data={"recipient": one})
        for one in addresses[:250]
    )
    EventFactory(message=big)
    with CaptureQueriesContext(connection) as many:
        page = client.get(page_of(big)).content.decode()
    assert len(many) == len(few)
    assert "r0099@outside.example" in page
    assert "These are the first 100 of 1000" in page
    assert "These are the first 200 steps" in page
    assert "r0999@" not in page


def test_a_list_without_dead_letters_says_that_nothing_was_given_up(client, reader, acme_account):
    MessageFactory(account=acme_account, status="delivered")
    url = reverse("admin:delivery_deadletter_changelist")
    assert "Nothing has been given up." in client.get(url).content.decode()
    MessageFactory(account=acme_account, status="dlq")
    assert "Nothing has been given up." not in client.get(url).content.decode()
