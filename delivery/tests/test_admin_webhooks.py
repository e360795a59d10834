"""Tenants' people make and mend their webhooks in the admin. EVT-3, ADM-2, SEC-1, SEC-5."""

import re
from datetime import timedelta

import pytest
from django.urls import reverse
from django.utils import timezone

from accounts.models import AuditEntry
from accounts.tests.factories import AccountFactory, UserFactory
from delivery.models import Webhook, WebhookDelivery
from delivery.tests.factories import EventFactory, MessageFactory, WebhookDeliveryFactory, WebhookFactory
from delivery.tests.subscribers import Receiver, reply

pytestmark = pytest.mark.django_db
ADD = reverse("admin:delivery_webhook_add")


@pytest.fixture
def owner(client, acme):
    user = UserFactory(tenant=acme)
    client.force_login(user)
    return user


@pytest.fixture
def receiver(settings):
    settings.WEBHOOK_PRIVATE_NETWORKS = True
    listening = Receiver("whsec_of_a_test")
    yield listening
    listening.close()


def page(webhook, view="change"):
    return reverse(f"admin:delivery_webhook_{view}", args=[webhook.pk])


def press(client, webhook, action):
    url = reverse("admin:delivery_webhook_do", args=[webhook.pk, action])
    return client.post(url, {"confirmed": "yes"}, follow=True).content.decode()


def entries():
    return list(AuditEntry.objects.order_by("pk").values_list("action", flat=True))


def test_a_new_webhook_shows_its_secret_once(client, owner, acme):
    form = {"name": "crm", "url": "https://hooks.acme.example/in?k=v", "event_types": ["mail.bounced", "mail.failed"]}
    shown = client.post(ADD, form).content.decode()
    webhook = Webhook.objects.get()
    assert (webhook.tenant, webhook.event_types) == (acme, ["mail.bounced", "mail.failed"])
    secret = webhook.secrets["current"]
    assert re.fullmatch(r"whsec_\w{43}", secret)
    assert secret in shown
    assert "HMAC-SHA-256" in shown
    assert secret not in client.get(page(webhook)).content.decode()
    (entry,) = AuditEntry.objects.filter(action="webhook.created")
    assert secret not in str(entry.changes)


@pytest.mark.parametrize(
    "url",
    [
        "http://hooks.acme.example/",
        "https://localhost/",
        "https://10.0.0.1/",
        "https://[::1]/",
        "https://169.254.169.254/latest",
        "https://user:password@hooks.acme.example/",
        "https://db.internal/",
        "ftp://hooks.acme.example/",
    ],
)
def test_an_address_no_webhook_may_have_is_refused(url, client, owner):
    assert client.post(ADD, {"name": "crm", "url": url}).context["adminform"].form.errors.keys() == {"url"}
    assert not Webhook.objects.exists()


@pytest.mark.parametrize(("private", "told"), [(False, "https:// only."), (True, "in private networks too")])
def test_the_form_says_which_addresses_are_taken(private, told, client, owner, settings):
    settings.WEBHOOK_PRIVATE_NETWORKS = private
    assert told in client.get(ADD).content.decode()


def test_an_account_of_another_tenant_is_refused(client, owner, operator, acme, globex_account):
    form = {"name": "crm", "url": "https://hooks.acme.example/", "account": globex_account.pk}
    assert "account" in client.post(ADD, form).context["adminform"].form.errors
    client.force_login(operator)
    assert "account" in client.post(ADD, {**form, "tenant": acme.pk}).context["adminform"].form.errors
    assert not Webhook.objects.exists()


def test_a_change_is_audited_and_leaves_the_rest_alone(client, owner, acme):
    webhook = WebhookFactory(tenant=acme, name="crm", failures=7, next_attempt_at=timezone.now() + timedelta(hours=1))
    account = AccountFactory(tenant=acme)
    form = {"name": "crm", "url": "https://new.acme.example/", "account": account.pk}
    client.post(page(webhook), form)
    webhook.refresh_from_db()
    assert (webhook.url, webhook.account, webhook.failures) == ("https://new.acme.example/", account, 0)
    assert webhook.secrets == {"current": "whsec_of_a_test"}
    assert webhook.next_attempt_at is None
    (entry,) = AuditEntry.objects.all()
    assert entry.changes.keys() == {"url", "account"}


def test_a_new_secret_leaves_the_old_one_valid_for_a_day(client, owner, acme):
    webhook = WebhookFactory(tenant=acme)
    shown = press(client, webhook, "issue_new_secret")
    webhook.refresh_from_db()
    assert webhook.secrets["current"] in shown
    assert webhook.secrets["previous"] == "whsec_of_a_test"
    assert entries() == ["webhook.secret_issued"]


def test_a_test_shows_what_the_server_answers(client, owner, acme, receiver):
    webhook = WebhookFactory(tenant=acme, url=receiver.url)
    assert "It answered 204" in press(client, webhook, "send_test")
    (payload,) = receiver.told()
    assert (payload["type"], payload["tenant"]["slug"]) == ("test", "acme")
    receiver.answer = lambda handler: reply(handler, 418, b"<b>short and stout")
    shown = press(client, webhook, "send_test")
    assert "It answered 418" in shown
    assert "&lt;b&gt;short and stout" in shown
    receiver.close()
    assert "Nobody answers there" in press(client, webhook, "send_test")
    assert not WebhookDelivery.objects.exists()
    assert entries() == ["webhook.tested"] * 3
    receiver.server.server_close()


def test_tests_are_limited(client, owner, acme, receiver, monkeypatch):
    monkeypatch.setattr("providers.trial.PER_MINUTE", 1)
    webhook = WebhookFactory(tenant=acme, url=receiver.url)
    press(client, webhook, "send_test")
    assert "Not sent" in press(client, webhook, "send_test")
    assert len(receiver.requests) == 1


def test_a_disabled_webhook_is_enabled_again_and_what_waited_is_due(client, owner, acme):
    webhook = WebhookFactory(tenant=acme, enabled=False, disabled_reason="It has failed", failures=30)
    delivery = WebhookDeliveryFactory(webhook=webhook, tries=9, next_attempt_at=timezone.now() + timedelta(hours=1))
    assert "1 deliveries that have waited" in press(client, webhook, "enable")
    webhook.refresh_from_db()
    delivery.refresh_from_db()
    assert (webhook.enabled, webhook.disabled_reason, webhook.failures) == (True, "", 0)
    assert (delivery.tries, delivery.next_attempt_at <= timezone.now()) == (0, True)
    press(client, webhook, "disable")
    webhook.refresh_from_db()
    assert (webhook.enabled, webhook.disabled_reason) == (False, f"Disabled by {owner.email}.")
    assert entries() == ["webhook.enabled", "webhook.disabled"]


def test_what_was_given_up_is_replayed_by_a_button(client, owner, acme):
    webhook = WebhookFactory(tenant=acme)
    assert "replay_failed" not in client.get(page(webhook)).content.decode().partition("changelist")[0]
    failed = WebhookDeliveryFactory(webhook=webhook, status="failed", tries=29, finished_at=timezone.now())
    assert "1 are sent again" in press(client, webhook, "replay_failed")
    failed.refresh_from_db()
    assert (failed.status, failed.tries, failed.finished_at) == ("pending", 0, None)
    assert entries() == ["webhook.replayed"]


def test_a_time_is_replayed_with_what_the_webhook_was_never_told_of(client, owner, acme, acme_account, globex_account):
    webhook = WebhookFactory(tenant=acme, event_types=["mail.delivered"])
    message = MessageFactory(account=acme_account)
    told = WebhookDeliveryFactory(
        webhook=webhook, status="delivered", event=EventFactory(message=message, type="delivered")
    )
    untold = EventFactory(message=message, type="delivered")
    EventFactory(message=message, type="opened")
    EventFactory(message=MessageFactory(account=globex_account), type="delivered")
    url = page(webhook, "replay")
    assert client.get(url).status_code == 200
    now = timezone.now()

    def replay(since, until):
        form = {
            f"{name}_{n}": part
            for name, when in (("since", since), ("until", until))
            for n, part in enumerate((when.strftime("%Y-%m-%d"), when.strftime("%H:%M:%S")))
        }
        before = set(WebhookDelivery.objects.values_list("pk", "status"))
        counted = client.post(url, form).content.decode()
        assert set(WebhookDelivery.objects.values_list("pk", "status")) == before
        return counted + client.post(url, {**form, "confirmed": "yes"}, follow=True).content.decode()

    assert "Nothing this webhook wants was recorded" in replay(now - timedelta(hours=2), now - timedelta(hours=1))
    assert "The end comes before" in replay(now, now - timedelta(hours=1))
    page_shown = replay(now - timedelta(hours=1), now + timedelta(hours=1))
    assert "2 events will be sent again." in page_shown
    assert "2 events are sent again" in page_shown
    told.refresh_from_db()
    assert told.status == "pending"
    assert set(WebhookDelivery.objects.values_list("event_id", flat=True)) == {told.event_id, untold.pk}


@pytest.mark.parametrize(("since", "until"), [("0001-01-01", "2026-01-01"), ("2026-01-01", "9999-12-31")])
def test_a_time_nobody_can_count_with_is_refused(since, until, client, owner, acme):
    form = {"since_0": since, "since_1": "00:00:00", "until_0": until, "until_1": "23:59:59"}
    answer = client.post(page(WebhookFactory(tenant=acme), "replay"), form)
    assert "Nothing was recorded then." in answer.content.decode()


def test_a_tenant_has_so_many_webhooks_and_no_more(client, owner, acme, globex, monkeypatch):
    """Each makes a row of every event."""
    monkeypatch.setattr("delivery.outgoing.webhooks.MOST", 2)
    WebhookFactory(tenant=globex)
    for name in ("one", "two", "three"):
        answer = client.post(ADD, {"name": name, "url": "https://hooks.acme.example/"})
    assert "at most 2 webhooks" in answer.content.decode()
    assert Webhook.objects.filter(tenant=acme).count() == 2
    changed = Webhook.objects.filter(tenant=acme).earliest("name")
    client.post(page(changed), {"name": "renamed", "url": changed.url})
    assert Webhook.objects.filter(name="renamed").exists()


def test_the_time_offered_for_replay_is_the_last_day_or_since_it_fails(client, owner, acme):
    for failing_since, hours in ((None, 24), (timezone.now() - timedelta(hours=3), 3)):
        webhook = WebhookFactory(tenant=acme, failing_since=failing_since)
        initial = client.get(page(webhook, "replay")).context["form"].initial
        assert round((initial["until"] - initial["since"]) / timedelta(hours=1)) == hours


def test_too_much_at_once_is_refused_and_changes_nothing(client, owner, acme, monkeypatch):
    monkeypatch.setattr("delivery.outgoing.webhooks.MOST_REPLAYED", 1)
    webhook = WebhookFactory(tenant=acme)
    for _ in range(2):
        WebhookDeliveryFactory(webhook=webhook, status="failed")
    assert "choose a shorter time" in press(client, webhook, "replay_failed")
    assert not WebhookDelivery.objects.filter(status="pending").exists()


def test_a_delivery_shows_its_attempts_and_is_replayed(client, owner, acme):
    delivery = WebhookDeliveryFactory(webhook__tenant=acme, status="failed")
    delivery.attempts.create(response_code=503, error_text="busy", duration_ms=12, created_at=timezone.now())
    url = reverse("admin:delivery_webhookdelivery_change", args=[delivery.pk])
    assert "busy" in client.get(url).content.decode()
    type(delivery.event).objects.update(type="dead_letter")
    assert "mail.failed (dead_letter)" in client.get(url).content.decode()
    listed = client.get(reverse("admin:delivery_webhookdelivery_changelist"), {"q": str(delivery.event.message_id)})
    assert listed.context["cl"].result_count == 1
    client.post(reverse("admin:delivery_webhookdelivery_do", args=[delivery.pk, "replay"]))
    delivery.refresh_from_db()
    assert delivery.status == "pending"
    assert entries() == ["webhookdelivery.replayed"]


def test_a_webhook_is_deleted_with_what_it_was_sent(client, owner, acme):
    delivery = WebhookDeliveryFactory(webhook__tenant=acme)
    delivery.attempts.create(response_code=503, created_at=timezone.now())
    client.post(page(delivery.webhook, "delete"), {"post": "yes"})
    assert not Webhook.objects.exists()
    assert not WebhookDelivery.objects.exists()
    assert entries() == ["webhook.deleted"]


@pytest.mark.parametrize("action", ["send_test", "issue_new_secret", "disable", "replay_failed"])
def test_who_may_only_read_changes_nothing(action, client, acme, receiver):
    client.force_login(UserFactory(tenant=acme, role="user"))
    delivery = WebhookDeliveryFactory(webhook__tenant=acme, webhook__url=receiver.url, status="failed")
    webhook = delivery.webhook
    assert client.post(reverse("admin:delivery_webhook_do", args=[webhook.pk, action])).status_code == 403
    assert client.post(reverse("admin:delivery_webhookdelivery_do", args=[delivery.pk, "replay"])).status_code == 403
    assert client.post(page(webhook, "replay")).status_code == 403
    assert receiver.requests == []
    webhook.refresh_from_db()
    delivery.refresh_from_db()
    assert (webhook.enabled, webhook.secrets, delivery.status) == (True, {"current": "whsec_of_a_test"}, "failed")


def test_the_replay_page_of_another_tenant_is_not_found(client, owner, globex):
    theirs = WebhookFactory(tenant=globex)
    for answer in (client.get(page(theirs, "replay")), client.post(page(theirs, "replay"))):
        assert answer.status_code == 404
