"""Rows made and written many at a time."""

import pytest
from django.utils import timezone

from accounts.ids import uuid7
from delivery import rows
from delivery.models import Event, Message, Recipient
from delivery.tests.mail import accepted


def test_a_row_from_a_blank_is_the_row_a_constructor_makes(acme_account):
    now, id_ = timezone.now(), uuid7()
    fields = {"id": id_, "message_id": uuid7(), "address": "x@outside.example", "updated_at": now}
    made = rows.Blank(Recipient, *fields)(*fields.values())
    built = Recipient(**fields)
    assert {f.attname: getattr(made, f.attname) for f in Recipient._meta.concrete_fields} == {
        f.attname: getattr(built, f.attname) for f in Recipient._meta.concrete_fields
    }
    assert made._state.adding
    assert made == built


def test_a_row_from_a_blank_can_be_written_changed_and_followed(acme_account):
    message = accepted(acme_account)
    blank = rows.Blank(Recipient, "id", "message_id", "address", "updated_at")
    one, other = (blank(uuid7(), message.pk, f"{n}@outside.example", timezone.now()) for n in "ab")
    rows.insert_all([one, other])
    one.status = "failed"
    rows.update_each([one], ["status"])
    assert {r.address: r.status for r in message.recipients.exclude(address__startswith="someone")} == {
        "a@outside.example": "failed",
        "b@outside.example": "pending",
    }
    assert other.message == message


def test_values_that_rows_would_share_and_names_of_nothing_are_refused():
    with pytest.raises(TypeError, match="data"):
        rows.Blank(Event, "id", "tenant_id", "message_id", "type", "occurred_at")
    with pytest.raises(TypeError, match="subjct"):
        rows.Blank(Message, "subjct")
