"""What the pages of messages, attempts and events show, and how: ADM-2, DEL-7."""

import re

import pytest
from django.apps import apps
from django.contrib import admin as django_admin
from django.urls import reverse

from accounts.tests.factories import UserFactory
from delivery import control
from delivery.models import Event, Recipient, RecipientStatus
from delivery.read_only_admin import in_words
from delivery.tests.factories import (
    ArchiveCopyFactory,
    DeliveryLogFactory,
    EventFactory,
    MessageFactory,
    NoticeFactory,
    WebhookDeliveryFactory,
)
from providers import registry

pytestmark = pytest.mark.django_db
TYPED = ("q=%00", "status__exact=%00", "dead=%00", "p=x", "id=x", "e=1")
LISTS = [f"/admin/delivery/{model}/" for model in ("message", "deliverylog", "event", "recipient")]


@pytest.fixture
def admin(client, acme):
    person = UserFactory(tenant=acme, role="admin", email="admin@acme.example")
    client.force_login(person)
    return person


def page_of(row):
    return reverse(f"admin:delivery_{row._meta.model_name}_change", args=[row.pk])


def shown(client, url):
    answer = client.get(url)
    assert answer.status_code == 200
    return answer.content.decode()


def test_times_have_seconds_and_zone_everywhere(client, admin, acme_account):
    log = DeliveryLogFactory(message__account=acme_account)
    event = EventFactory(message=log.message)
    for row, moment in ((log.message, log.message.accepted_at), (log, log.created_at), (event, event.occurred_at)):
        for url in (page_of(row), page_of(row).rpartition(str(row.pk))[0]):
            assert f"{moment:%Y-%m-%d %H:%M:%S} UTC" in shown(client, url), url
    page = shown(client, page_of(log.message))
    for moment in (log.created_at, event.occurred_at):
        assert f"{moment:%Y-%m-%d %H:%M:%S} UTC" in page


@pytest.mark.parametrize("url", LISTS)
def test_the_newest_comes_first(client, admin, acme_account, url):
    for _ in range(3):
        EventFactory(message=DeliveryLogFactory(message__account=acme_account).message)
    keys = [row.pk for row in client.get(url).context["cl"].result_list]
    assert len(keys) >= 3
    assert keys == sorted(keys, reverse=True)


def test_the_timeline_of_a_message_is_told_from_its_beginning(client, admin, acme_account):
    message = MessageFactory(account=acme_account)
    for text in ("first thing", "second thing"):
        EventFactory(message=message, data={"reason": text})
    page = shown(client, page_of(message))
    assert page.index("first thing") < page.index("second thing")


def test_a_providers_yes_is_a_reply_and_no_error(client, admin, acme_account):
    message = MessageFactory(account=acme_account, status="delivered")
    Recipient.objects.update(status="delivered", error_code="250", error_text="2.0.0 Ok: queued as 4711")
    recipient = message.recipients.get()
    for url in (page_of(message), page_of(recipient)):
        page = shown(client, url)
        assert "2.0.0 Ok: queued as 4711" in page
        assert "Reply code" in page
    assert "error" not in re.sub(r"errornote|errorlist", "", shown(client, page_of(recipient))).lower()
    assert "Reply code" in shown(client, "/admin/delivery/recipient/")


def test_what_a_provider_does_to_a_message_is_told(client, admin, acme_account):
    """PRV-4: in the list, on the attempt's page and below the message."""
    told = {
        ("lossless", ()): "lossless",
        ("lossy", ("header X-Kind", "header List-Id")): "headers lost: X-Kind, List-Id",
        ("broken", ("signature (multipart/signed)",)): "signature broken; signature (multipart/signed)",
    }
    for (fidelity, lost), text in told.items():
        log = DeliveryLogFactory(message__account=acme_account, fidelity=fidelity, lost=list(lost))
        for url in (LISTS[1], page_of(log), page_of(log.message)):
            assert text in shown(client, url)
    assert client.get(f"{LISTS[1]}?fidelity__exact=broken").context["cl"].result_count == 1


def test_filters_offer_what_can_occur(client, admin, acme_account):
    EventFactory(message__account=acme_account)

    def offered(model, name):
        return set(re.findall(rf"\?{name}__exact=(\w+)", shown(client, f"/admin/delivery/{model}/")))

    assert offered("message", "source") == set()
    assert {"queued", "scheduled", "held", "dlq", "storage_error"} <= offered("message", "status")
    assert {"received", "scheduled", "held", "delivered", "dead_letter"} <= offered("event", "type")
    assert {"opened", "clicked", "bounced", "complained", "unsubscribed", "suppressed"} <= offered("event", "type")
    assert set(RecipientStatus.values) == offered("recipient", "status")


def test_a_dead_letter_is_called_one(client, admin, acme_account):
    message = MessageFactory(account=acme_account, status="dlq")
    DeliveryLogFactory(message=message, status="dlq")
    for url in (*LISTS[:2], page_of(message)):
        page = shown(client, url)
        assert "Dead letter" in page
        assert "Dlq" not in page


def test_what_an_event_knows_is_told_in_words(client, admin, acme_account):
    data = {
        "passed_over": [{"provider": "Main"}, {"provider": "Spare"}],
        "recipients": {"anna_b@x.example": "delivered"},
    }
    event = EventFactory(
        message__account=acme_account,
        type="delivered",
        data={"at": "2026-11-22T17:13:11.5+00:00", "hard": True, "text": "<b>", **data},
    )
    for url in (page_of(event), page_of(event.message), "/admin/delivery/event/"):
        page = shown(client, url)
        for told in ("passed over: provider: Main; provider: Spare", "anna_b@x.example: delivered"):
            assert told in page, url
        assert "hard: yes" in page
        assert "at: 2026-11-22 17:13:11 UTC" in page
        assert "&lt;b&gt;" in page
        assert "&quot;Main&quot;" not in page


def test_the_results_of_an_attempt_are_told_in_words(client, admin, acme_account):
    log = DeliveryLogFactory(message__account=acme_account, results={"anna@x.example": {"status": "failed"}})
    assert "anna@x.example: status: failed" in shown(client, page_of(log))
    log.results = {}
    log.save()
    assert "{}" not in shown(client, page_of(log))


def test_operators_filter_messages_by_tenant(client, operator, acme_account, globex_account):
    message = MessageFactory(account=acme_account)
    MessageFactory(account=globex_account)
    client.force_login(operator)
    query = f"tenant__id__exact={acme_account.tenant_id}"
    for model in ("message", "deliverylog", "event"):
        page = shown(client, f"/admin/delivery/{model}/")
        assert f"?{query}" in page
    assert list(client.get(f"{LISTS[0]}?{query}").context["cl"].queryset) == [message]


def test_tenants_are_not_told_which_operator_acted(client, admin, operator, acme_account, broker):
    message = MessageFactory(account=acme_account, status="queued")
    control.hold([message.pk], actor=operator)
    control.cancel([message.pk], actor=operator)
    assert {event.data["by"] for event in Event.objects.all()} == {"the platform operator"}
    for url in (page_of(message), "/admin/delivery/event/", page_of(message.recipients.get())):
        page = shown(client, url)
        assert operator.email not in page
        assert "the platform operator" in page


@pytest.mark.parametrize(
    "url",
    [f"{url}?{query}" for url in LISTS for query in ("q=%00", "status__exact=%00", "dead=%00", "p=x", "id=x", "e=1")],
)
def test_what_somebody_types_into_the_address_bar_is_no_crash(client, admin, url):
    assert client.get(url).status_code in {200, 302, 400}


def test_a_key_that_is_none_is_refused(client, admin, acme_account):
    MessageFactory(account=acme_account, status="queued")
    for key in ("nonsense", "\x00", ""):
        assert client.post(LISTS[0], {"action": "hold", "_selected_action": key}).status_code == 400


def test_no_help_text_or_label_speaks_in_ids_of_our_specification():
    texts = []
    for model in django_admin.site._registry:
        if model._meta.app_label in {"accounts", "providers", "delivery"}:
            texts += [str(field.help_text) for field in model._meta.fields]
            texts += [str(field.verbose_name) for field in model._meta.fields]
            texts += [str(label) for field in model._meta.fields for _, label in field.flatchoices]
    for model, model_admin in django_admin.site._registry.items():
        form = model_admin.form
        texts += [str(field.help_text) for field in form.base_fields.values()] if model._meta.fields else []
        texts += [str(form._meta.help_texts or {})] if getattr(form, "_meta", None) else []
    for type_ in registry.types():
        texts += [f"{spec.label} {spec.help}" for spec in registry.backend_class(type_).config_fields]
    assert len(texts) > 150
    assert apps.is_installed("delivery")
    assert [text for text in texts if re.search(r"\b(?!RFC|UTF|SHA|ISO)[A-Z]{2,4}-\d+", text)] == []


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("2026-11-22T17:13:11.5+01:00", "2026-11-22 16:13:11 UTC"),
        ("2026-99-22T17:13:11+00:00", "2026-99-22T17:13:11+00:00"),
        ("0001-01-01T00:00:00+14:00", "0001-01-01T00:00:00+14:00"),
        ("2026-11-22T is no time", "2026-11-22T is no time"),
        ({}, "-"),
        ([None, False, 3], "-; no; 3"),
    ],
)
def test_what_looks_like_a_time_and_is_none_stays_as_it_is(value, words):
    assert in_words(value) == words


def test_a_message_leads_to_all_that_came_of_it_and_back(client, admin, acme_account):
    told = MessageFactory(account=acme_account, source="notice")
    notice = NoticeFactory(message__account=acme_account, sent=told)
    message = notice.message
    copy = ArchiveCopyFactory(message=message)
    delivery = WebhookDeliveryFactory(webhook__tenant=acme_account.tenant, event__message=message)
    for row in (copy, delivery, notice):
        assert page_of(message) in shown(client, page_of(row))
        listed = f"{page_of(row).partition(str(row.pk))[0]}?q={message.pk}"
        assert page_of(row) in shown(client, listed)
    page = shown(client, page_of(message))
    assert f"/admin/delivery/archivecopy/?q={message.pk}" in page
    assert f"/admin/delivery/webhookdelivery/?q={message.pk}" in page
    assert f"/admin/delivery/notice/?q={told.pk}" in shown(client, page_of(told))
    assert page_of(notice) in shown(client, f"/admin/delivery/notice/?q={told.pk}")
    key = message.pk
    message.delete()
    assert f"{key} (deleted)" in shown(client, page_of(copy))
