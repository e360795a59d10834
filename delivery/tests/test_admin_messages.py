"""Messages, attempts and events in the admin: DEL-9, RET-5, STO-7."""

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from accounts.models import AuditEntry
from accounts.tests.factories import AccountFactory, UserFactory
from delivery import control, message_admin, read_only_admin
from delivery.models import Event, Message
from delivery.tests.factories import DeliveryLogFactory, EventFactory, MessageFactory, RecipientFactory
from providers.tests.factories import ProviderFactory

pytestmark = pytest.mark.django_db(transaction=True)
LIST = "/admin/delivery/message/"
ACTIONS = {
    "hold": (control.WAITING, "held", "held"),
    "release": (("held", "enqueue_failed"), "queued", "released"),
    "retry": (
        ("retrying", "scheduled", "failed", "partial", "dlq", "storage_error", "enqueue_failed"),
        "queued",
        "retried",
    ),
    "cancel": ((*control.WAITING, "held"), "cancelled", "cancelled"),
}
LABELS = {"hold": "Hold", "release": "Release", "retry": "Retry now", "cancel": "Cancel"}


@pytest.fixture
def admin(client, acme):
    person = UserFactory(tenant=acme, role="admin", email="admin@acme.example")
    client.force_login(person)
    return person


def page_of(row):
    return reverse(f"admin:delivery_{row._meta.model_name}_change", args=[row.pk])


def button(message, action):
    return reverse("admin:delivery_message_do", args=[message.pk, action])


def do(client, action, *messages, where=""):
    chosen = {"action": action, "_selected_action": [str(message.pk) for message in messages]}
    return client.post(LIST + where, chosen, follow=True).content.decode()


@pytest.mark.parametrize("action", ACTIONS)
def test_an_action_changes_what_it_fits_counts_it_and_says_why_not_the_rest(
    client, admin, acme_account, broker, action
):
    fits, becomes, done = ACTIONS[action]
    fitting = [MessageFactory(account=acme_account, status=status) for status in fits]
    other = MessageFactory(account=acme_account, status="delivered")
    page = do(client, action, *fitting, other)
    assert f"{len(fitting)} of {len(fitting) + 1} messages {done}." in page
    assert "1 not: The message is delivered." in page
    assert {message.status for message in Message.objects.exclude(pk=other.pk)} == {becomes}
    assert Message.objects.get(pk=other.pk).status == "delivered"
    audited = AuditEntry.objects.filter(action=f"message.{done}", actor=admin)
    assert set(audited.values_list("target_id", flat=True)) == {str(message.pk) for message in fitting}
    assert Event.objects.filter(message__in=fitting).count() == len(fitting)


@pytest.mark.parametrize("status", Message._meta.get_field("status").flatchoices)
def test_a_message_page_has_the_buttons_that_fit_its_status(client, admin, acme_account, broker, status):
    message = MessageFactory(account=acme_account, status=status[0])
    page = client.get(page_of(message)).content.decode()
    for action, (fits, _, _) in ACTIONS.items():
        assert (button(message, action) in page) == (status[0] in fits), action
        if status[0] in fits:
            assert f">{LABELS[action]}</button>" in page
        else:
            assert client.post(button(message, action)).status_code == 403
    assert Message.objects.get(pk=message.pk).status == status[0]


def test_a_button_acts_and_comes_back_to_the_page(client, admin, acme_account, broker):
    message = MessageFactory(account=acme_account, status="queued")
    answer = client.post(button(message, "hold"), follow=True)
    assert answer.request["PATH_INFO"] == page_of(message)
    assert "1 message held." in answer.content.decode()
    assert Message.objects.get().status_reason == "Held by admin@acme.example."


@pytest.mark.parametrize("role", ["user", "viewer"])
def test_who_may_not_act_has_no_actions(client, acme_account, role):
    message = MessageFactory(account=acme_account, status="queued")
    client.force_login(UserFactory(tenant=acme_account.tenant, role=role))
    for action in ACTIONS:
        assert client.post(button(message, action)).status_code == 403
        client.post(LIST, {"action": action, "_selected_action": str(message.pk)})
    assert Message.objects.get().status == "queued"
    if role == "user":
        assert 'name="action"' not in client.get(LIST).content.decode()


def test_more_than_a_request_should_do_is_refused(client, admin, acme_account, broker, monkeypatch):
    for _ in range(3):
        MessageFactory(account=acme_account, recipients=[])
    monkeypatch.setattr(message_admin, "MOST_AT_ONCE", 2)
    assert "nothing was done" in do(client, "hold", *Message.objects.all())
    assert set(Message.objects.values_list("status", flat=True)) == {"queued"}


def test_the_page_of_a_message_shows_its_recipients_attempts_and_events_and_no_body(client, admin, acme_account):
    message = MessageFactory(account=acme_account, subject="Rechnung ☂", recipients=["joe@outside.example"])
    provider = ProviderFactory(tenant=acme_account.tenant, name="primary provider")
    DeliveryLogFactory(message=message, provider=provider, status="failed", error_text="550 no such user")
    EventFactory(message=message, type="held", data={"reason": "by hand"})
    page = client.get(page_of(message)).content.decode()
    shown = ("Rechnung ☂", "joe@outside.example", "primary provider", "550 no such user", "by hand", message.store_key)
    assert [text for text in shown if text not in page] == []
    assert "<textarea" not in page
    assert 'name="_save"' not in page


def test_a_thousand_recipients_do_not_make_a_page_of_a_thousand_rows(client, admin, acme_account):
    message = MessageFactory(account=acme_account, recipients=[])
    for number in range(read_only_admin.FirstRows.most + 5):
        RecipientFactory(message=message, address=f"r{number:04}@outside.example")
    page = client.get(page_of(message)).content.decode()
    assert page.count("@outside.example") <= 2 * read_only_admin.FirstRows.most
    assert "r0000@outside.example" in page
    assert "r0104@outside.example" not in page


def listed(client, query, model="message"):
    answer = client.get(f"/admin/delivery/{model}/", query)
    assert answer.status_code == 200
    return set(answer.context["cl"].queryset)


def test_messages_are_found_by_what_people_have_at_hand(client, admin, acme_account):
    message = MessageFactory(
        account=acme_account,
        subject="Quarterly figures",
        mail_from="cfo@acme.example",
        recipients=["joe@outside.example"],
    )
    MessageFactory(account=acme_account, subject="Lunch")
    for term in (
        str(message.pk),
        message.pk.hex,
        f" {message.pk} ",
        message.message_id_header,
        "joe@outside.example",
        "JOE@outside.example",
        "cfo@acme.example",
        "quarterly",
        "figures quarterly",
    ):
        assert listed(client, {"q": term}) == {message}, term
    for term in ("nothing", str(admin.pk), "<no@such>", "nobody@outside.example", "%"):
        assert listed(client, {"q": term}) == set(), term


def test_messages_of_another_tenant_are_not_found_by_id(client, admin, globex_account):
    message = MessageFactory(account=globex_account)
    assert listed(client, {"q": str(message.pk)}) == set()
    assert listed(client, {"account__id__exact": str(globex_account.pk)}) == set()


def test_messages_are_filtered_by_account(client, admin, acme_account):
    other = AccountFactory(tenant=acme_account.tenant)
    message = MessageFactory(account=other)
    MessageFactory(account=acme_account)
    assert listed(client, {"account__id__exact": str(other.pk)}) == {message}


def test_attempts_events_and_recipients_are_found_by_message_and_filtered(client, admin, acme_account):
    provider = ProviderFactory(tenant=acme_account.tenant, type="smtp", config={"host": "mx"})
    log = DeliveryLogFactory(message__account=acme_account, provider=provider, results={"a@b.example": {"code": "250"}})
    DeliveryLogFactory(message__account=acme_account, provider__type="sendgrid")
    event = EventFactory(message=log.message, type="bounced")
    for model, row in (("deliverylog", log), ("event", event), ("recipient", log.message.recipients.get())):
        assert listed(client, {"q": str(log.message.pk)}, model) == {row}
        assert listed(client, {"q": str(row.pk)}, model) == {row}
        assert client.get(page_of(row)).status_code == 200
    assert listed(client, {"provider_type": "smtp"}, "deliverylog") == {log}
    assert listed(client, {"provider__id__exact": str(provider.pk)}, "deliverylog") == {log}
    assert listed(client, {"type__exact": "bounced"}, "event") == {event}
    assert "a@b.example" in client.get(page_of(log)).content.decode()


def test_attempts_link_to_their_message_for_those_who_may_see_it_only(client, acme_account):
    log = DeliveryLogFactory(message__account=acme_account)
    link = f'href="{page_of(log.message)}"'
    for role, linked in (("user", True), ("viewer", False)):
        client.force_login(UserFactory(tenant=acme_account.tenant, role=role))
        for page in ("/admin/delivery/deliverylog/", page_of(log)):
            text = client.get(page).content.decode()
            assert (link in text) == linked
            assert str(log.message.pk) in text


@pytest.mark.parametrize("model", ["message", "deliverylog", "event", "recipient"])
def test_a_list_takes_the_same_number_of_queries_however_long(client, admin, acme_account, model):
    def queries():
        with CaptureQueriesContext(connection) as captured:
            client.get(f"/admin/delivery/{model}/")
        return len(captured)

    def make(number):
        for _ in range(number):
            EventFactory(message=DeliveryLogFactory(message__account=acme_account).message)

    make(2)
    few = queries()
    make(10)
    assert queries() <= few


@pytest.mark.parametrize("in_bulk", [False, True])
def test_an_account_with_mail_is_not_deleted_and_its_mail_is_not_loaded_to_say_so(client, acme_account, in_bulk):
    client.force_login(UserFactory(tenant=acme_account.tenant, role="owner"))
    for _ in range(3):
        MessageFactory(account=acme_account, subject="not to be listed")
    if in_bulk:
        chosen = {"action": "delete_selected", "_selected_action": [str(acme_account.pk)], "post": "yes"}
        page = client.post("/admin/accounts/account/", chosen).content.decode()
    else:
        page = client.get(reverse("admin:accounts_account_delete", args=[acme_account.pk])).content.decode()
        client.post(reverse("admin:accounts_account_delete", args=[acme_account.pk]), {"post": "yes"})
    assert "messages that belong to it" in page
    assert "not to be listed" not in page
    assert acme_account.messages.count() == 3
    assert not AuditEntry.objects.exists()
