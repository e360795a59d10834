"""Whom a tenant must not mail: skipped at delivery, shown, and kept by people in the admin. EVT-2."""

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from accounts.models import AuditEntry
from accounts.tests.factories import UserFactory
from delivery import control, suppressions
from delivery.models import MessageStatus, Suppression
from delivery.tests.factories import MessageFactory, SuppressionFactory
from delivery.tests.mail import accepted
from delivery.tests.test_sender import BUSY, deliver, make_due, statuses
from providers.tests.factories import RoutingRuleFactory

pytestmark = pytest.mark.django_db
GOOD, GONE = "good@outside.example", "Gone@outside.example"
LIST = "/admin/delivery/suppression/"


@pytest.fixture
def gone(acme):
    return SuppressionFactory(tenant=acme, address="gone@outside.example", reason="bounced", text="550 no such user")


@pytest.fixture
def admin(client, acme):
    person = UserFactory(tenant=acme, role="admin")
    client.force_login(person)
    return person


def test_a_suppressed_recipient_is_skipped_and_the_others_are_mailed(acme_account, box, gone):
    message = accepted(acme_account, None, [GOOD, GONE])
    deliver(message)
    assert [taken.recipients for taken in box.accepted] == [(GOOD,)]
    assert statuses(message) == {GOOD: "delivered", GONE: "suppressed"}
    skipped = message.recipients.get(address=GONE)
    assert skipped.error_code == "on_suppression_list"
    assert skipped.error_text.endswith("Hard bounce (550 no such user)")
    # Whoever sent it is told: it is not `delivered`.
    assert message.status == MessageStatus.PARTIAL
    assert message.status_reason == skipped.error_text
    [event] = message.events.filter(type="suppressed")
    assert (event.recipient_id, event.data["recipient"]) == (skipped.pk, GONE)


def test_a_message_all_of_whose_recipients_are_suppressed_has_failed_with_the_reason(acme_account, box, gone):
    message = accepted(acme_account, None, [GONE])
    deliver(message)
    assert box.accepted == []
    assert message.status == MessageStatus.FAILED
    assert "Hard bounce" in message.status_reason
    assert message.delivery_logs.count() == 0


def test_another_tenants_list_counts_for_nothing(acme_account, globex, box):
    SuppressionFactory(tenant=globex, address=GOOD)
    message = accepted(acme_account, None, [GOOD])
    deliver(message)
    assert message.status == MessageStatus.DELIVERED


@pytest.mark.parametrize("address", ["JANE@outside.example", "jane@outside.example"])
def test_the_case_of_letters_makes_no_other_address(acme, acme_account, box, address):
    SuppressionFactory(tenant=acme, address="jane@outside.example")
    message = accepted(acme_account, None, [address])
    deliver(message)
    assert statuses(message) == {address: "suppressed"}


def test_a_domain_in_its_own_letters_is_the_same_as_in_ascii(acme, acme_account, box):
    SuppressionFactory(tenant=acme, address="jane@xn--mller-kva.example")
    message = MessageFactory(account=acme_account, recipients=["jane@müller.example"])
    address = message.recipients.get().address
    assert suppressions.reasons([(acme.pk, address)]).keys() == {(acme.pk, address)}


def test_an_address_suppressed_while_a_message_waits_is_skipped_at_the_next_try(acme, acme_account, box):
    message = accepted(acme_account, None, [GONE])
    box.answers.append(BUSY)
    deliver(message)
    assert message.status == MessageStatus.RETRYING
    SuppressionFactory(tenant=acme, address="gone@outside.example")
    make_due(message)
    deliver(message)
    assert box.accepted == []
    assert statuses(message) == {GONE: "suppressed"}


def test_a_recipient_taken_off_the_list_can_be_retried(acme_account, box, gone, operator):
    message = accepted(acme_account, None, [GOOD, GONE])
    deliver(message)
    control.retry([message.pk], actor=operator)
    deliver(message)
    assert statuses(message)[GONE] == "suppressed"
    gone.delete()
    control.retry([message.pk], actor=operator)
    deliver(message)
    assert statuses(message) == {GOOD: "delivered", GONE: "delivered"}
    assert [taken.recipients for taken in box.accepted] == [(GOOD,), (GONE,)]


def test_what_a_rule_discards_stays_discarded(acme, acme_account, box, gone):
    RoutingRuleFactory(tenant=acme, action="discard")
    message = accepted(acme_account, None, [GOOD])
    deliver(message)
    assert message.status == MessageStatus.DISCARDED


def test_a_claim_asks_for_suppressions_once(acme, acme_account, box):
    SuppressionFactory(tenant=acme, address="x3@outside.example")
    messages = [accepted(acme_account, None, [f"x{n}@outside.example"]) for n in range(8)]
    with CaptureQueriesContext(
        connection,
    ) as queries:
        deliver(*messages)
    asked = [q["sql"] for q in queries if 'FROM "delivery_suppression"' in q["sql"]]
    assert len(asked) == 1
    assert [str(message.status) for message in messages] == ["delivered"] * 3 + ["failed"] + ["delivered"] * 4


def test_a_person_enters_an_address_and_removes_it_again(client, admin, acme):
    assert client.post(f"{LIST}add/", {"address": "Jane@Outside.example", "text": "asked us to"}).status_code == 302
    row = Suppression.objects.get()
    assert (row.tenant, row.address, row.reason) == (acme, "jane@outside.example", "manual")
    again = client.post(f"{LIST}add/", {"address": "JANE@outside.example"})
    assert "This address is suppressed already." in again.content.decode()
    assert client.post(f"{LIST}{row.pk}/delete/", {"post": "yes"}).status_code == 302
    assert not Suppression.objects.exists()
    assert client.post(f"{LIST}add/", {"address": "jane@outside.example"}).status_code == 302
    verbs = AuditEntry.objects.filter(tenant=acme, action__startswith="suppression").values_list("action", flat=True)
    assert sorted(verbs) == ["suppression.created", "suppression.created", "suppression.deleted"]


@pytest.mark.parametrize("wrong", ["jane", "@outside.example", "jane@", "a b@c d.example", "<jane@outside.example>"])
def test_what_is_no_address_is_refused(client, admin, wrong):
    answer = client.post(f"{LIST}add/", {"address": wrong})
    assert answer.status_code == 200
    assert not Suppression.objects.exists()


def test_the_list_shows_and_finds_what_providers_told(client, admin, acme, globex, acme_account):
    message = MessageFactory(account=acme_account)
    row = SuppressionFactory(tenant=acme, address="gone@outside.example", reason="complained", message=message)
    SuppressionFactory(tenant=acme, address="other@elsewhere.example")
    SuppressionFactory(tenant=globex, address="theirs@outside.example")
    for term, found in {
        "": {"gone@outside.example", "other@elsewhere.example"},
        "GONE@outside.example": {"gone@outside.example"},
        "@outside.example": {"gone@outside.example"},
        "elsewhere": {"other@elsewhere.example"},
    }.items():
        rows = client.get(LIST, {"q": term}).context["cl"].result_list
        assert {one.address for one in rows} == found
    page = client.get(reverse("admin:delivery_suppression_change", args=[row.pk])).content.decode()
    assert reverse("admin:delivery_message_change", args=[message.pk]) in page
    assert "Complaint" in page
