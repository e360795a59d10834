"""Refused sessions: gathered, bounded, written, and found by whose they are (SMTP-18)."""

import threading

import pytest
from django.db import DatabaseError, connection
from django.test.utils import CaptureQueriesContext

from accounts.credentials import issue_api_key
from accounts.tests.factories import AccountFactory, UserFactory
from delivery import metrics, refusals, refused_rows
from delivery.models import RefusedSession
from delivery.refusals import Gathered, Recorder, Refusal
from delivery.tests.factories import RefusedSessionFactory

LIST = "/admin/delivery/refusedsession/"


@pytest.fixture(autouse=True)
def _nothing_known():
    refused_rows.forget()


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def refusal(**fields):
    return Refusal(**{"source": "smtp", "reason": "wrong_password", "client_ip": "192.0.2.7", **fields})


def dropped():
    return metrics.REFUSALS_DROPPED._value.get()


def test_equal_refusals_of_a_minute_are_one_row_and_a_count_and_of_another_minute_another():
    clock = Clock()
    gathered = Gathered(clock)
    for session in range(5):
        gathered.note(refusal(username="crm@acme", session_id=str(session)))
    [kept] = gathered.take()
    assert (kept.count, kept.refusal.session_id) == (5, "0")
    gathered.note(refusal(username="CRM@acme"))
    [again] = gathered.take()
    assert (again.id, again.count) == (kept.id, 6)
    clock.now = refusals.WINDOW
    gathered.note(refusal(username="crm@acme"))
    assert gathered.take()[0].id != kept.id
    assert gathered.take() == []


@pytest.mark.parametrize(
    "varied",
    [
        lambda number: {"username": f"user{number}"},
        lambda number: {"username": "crm@acme", "client_ip": f"198.51.{number // 250}.{number % 250}"},
        lambda number: {"mail_from": f"x{number}@spam.example", "client_ip": f"2001:db8::{number:x}"},
    ],
    ids=["a client that tries many names", "many clients that try one name", "a client with many addresses"],
)
def test_a_bot_fills_no_table_and_every_attempt_is_counted(varied):
    gathered = Gathered(Clock())
    before = dropped()
    for number in range(400):
        gathered.note(refusal(**varied(number)))
    kept = gathered.take()
    # Those of a /64 have an address each, so that what is left of each is a row of its own.
    assert len(kept) <= refusals.MOST
    assert sum(one.count for one in kept) + dropped() - before == 400
    assert len([one for one in kept if one.refusal.mail_from or one.refusal.username]) <= refusals.MOST_OF_ONE + 1


def test_above_a_number_of_refusals_a_minute_the_rest_is_dropped_and_counted():
    clock, before = Clock(), dropped()
    gathered = Gathered(clock)
    for number in range(refusals.MOST + 30):
        gathered.note(refusal(client_ip=f"10.{number // 250}.{number % 250}.1"))
    assert len(gathered.take()) == refusals.MOST
    assert dropped() == before + 30
    clock.now = refusals.WINDOW
    assert gathered.note(refusal())


def test_what_could_not_be_written_is_written_later_with_what_was_counted_since():
    failing, written, tried = [DatabaseError(), DatabaseError()], [], threading.Event()

    def write(kept):
        tried.set()
        if failing:
            raise failing.pop()
        written.extend(kept)

    recorder = Recorder(write, every=0.01)
    recorder.note(refusal())
    assert tried.wait(5)
    recorder.note(refusal())
    while failing:
        tried.clear()
        assert tried.wait(5)
    recorder.close()
    assert {kept.id for kept in written} == {written[0].id}
    assert max(kept.count for kept in written) == 2


def test_the_thread_ends_when_nothing_is_left_and_begins_anew():
    written = []
    recorder = Recorder(written.extend, every=0.01)
    for expected in (1, 2):
        recorder.note(refusal(username=str(expected)))
        thread = recorder._thread
        if thread is not None:
            thread.join(5)
        assert len(written) == expected
    recorder.close()


@pytest.mark.django_db
def test_whose_a_refusal_is_follows_from_the_account_the_username_or_the_sender(
    acme, acme_account, globex, globex_account
):
    acme_account.allowed_senders = ["acme.example", "*.acme.example", "shared.example"]
    acme_account.save()
    globex_account.allowed_senders = ["globex.example", "shared.example"]
    globex_account.save()
    cases = [
        (refusal(account_id=acme_account.pk, tenant_id=acme.pk), acme, acme_account),
        (refusal(username="CRM@acme"), acme, acme_account),
        (refusal(username="nobody"), None, None),
        (refusal(mail_from="x@acme.example"), acme, None),
        (refusal(mail_from="x@mail.ACME.example"), acme, None),
        (refusal(mail_from="x@globex.example"), globex, None),
        (refusal(mail_from="x@sub.globex.example"), None, None),
        (refusal(mail_from="x@shared.example"), None, None),
        (refusal(mail_from="<>"), None, None),
        (refusal(account_id=refusals.Kept(refusal(), None, None).id), None, None),
    ]
    for given, tenant, account in cases:
        RefusedSession.objects.all().delete()
        gathered = Gathered()
        gathered.note(given)
        refused_rows.write(gathered.take())
        row = RefusedSession.objects.get()
        assert (row.tenant, row.account) == (tenant, account), given


@pytest.mark.django_db
def test_many_are_written_in_a_few_statements_and_counted_up_in_their_rows(acme_account):
    gathered = Gathered()
    for number in range(100):
        gathered.note(refusal(client_ip=f"10.0.{number}.1", username="crm@acme" if number < 10 else ""))
    with CaptureQueriesContext(connection) as captured:
        refused_rows.write(gathered.take())
    assert len(captured) <= 4
    gathered.note(refusal(client_ip="10.0.99.1"))
    refused_rows.write(gathered.take())
    assert RefusedSession.objects.count() == 100
    assert RefusedSession.objects.get(client_ip="10.0.99.1").count == 2


@pytest.mark.django_db
def test_what_no_database_takes_is_written_all_the_same():
    odd = "a\x00b\ud800\n" + "x" * 9000
    refusals.tell(refusal(username=odd, mail_from=odd, recipient=odd, helo=odd, reply=odd, client_ip="unknown"))
    row = RefusedSession.objects.get()
    assert row.username.startswith("a\ufffdb\ufffd")
    assert (len(row.username), len(row.mail_from), row.client_ip) == (255, 320, None)


@pytest.mark.django_db
def test_they_are_found_by_what_people_have_at_hand(client, acme, globex):
    client.force_login(UserFactory(tenant=acme, role="viewer"))
    row = RefusedSessionFactory(
        tenant=acme,
        username="crm@acme",
        client_ip="2001:db8::7",
        session_id="ab12",
        mail_from="joe@foreign.example",
        recipient="ann@outside.example",
    )
    RefusedSessionFactory(tenant=acme, reason="tls_failed", client_ip="192.0.2.1")
    RefusedSessionFactory(tenant=globex, username="crm@acme")
    RefusedSessionFactory(tenant=None, username="crm@acme")
    for term in (
        "2001:DB8:0::7",
        "CRM@acme",
        "ab12",
        "joe@foreign.example",
        "ann@outside.example",
        "sender_not_allowed",
        str(row.pk),
    ):
        assert list(client.get(LIST, {"q": term}).context["cl"].queryset) == [row], term
    assert list(client.get(LIST, {"reason": "sender_not_allowed"}).context["cl"].queryset) == [row]
    page = client.get(f"{LIST}{row.pk}/change/").content.decode()
    assert "May not send from this address" in page
    assert "allowed sender domains" in page


@pytest.mark.django_db
def test_the_api_lists_those_of_the_tenant_or_of_the_account(client, acme_account, globex):
    other = AccountFactory(tenant=acme_account.tenant)
    rows = [RefusedSessionFactory(tenant=acme_account.tenant, account=one) for one in (acme_account, other, None)]
    RefusedSessionFactory(tenant=globex)
    _, secret = issue_api_key(acme_account, ["logs:read"])
    found = client.get("/api/v1/refused-sessions/", headers={"authorization": f"Bearer {secret}"})
    assert [one["id"] for one in found.json()["results"]] == [str(rows[0].pk)]
    _, weak = issue_api_key(acme_account, ["send"])
    assert client.get("/api/v1/refused-sessions/", headers={"authorization": f"Bearer {weak}"}).status_code == 403
