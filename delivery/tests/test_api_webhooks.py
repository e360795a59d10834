"""Webhooks over the API: a secret told once, tried out, rotated; what was sent, and sending it again. EVT-3, API-1,
API-3."""

from datetime import timedelta

import pytest
from django.utils import timezone
from rest_framework.test import APIClient

from accounts import credentials
from accounts.models import AuditEntry
from accounts.tests.api_client import signed_in
from accounts.tests.factories import AccountFactory, UserFactory
from delivery.models import Webhook, WebhookAttempt, WebhookDelivery
from delivery.outgoing import webhooks
from delivery.tests.factories import EventFactory, MessageFactory, WebhookDeliveryFactory, WebhookFactory
from delivery.tests.subscribers import Receiver

pytestmark = pytest.mark.django_db
LIST, DELIVERIES = "/api/v1/webhooks/", "/api/v1/webhook-deliveries/"
NEW = {"name": "crm", "url": "https://hooks.acme.example/in", "event_types": ["mail.bounced"]}


@pytest.fixture
def client(acme):
    return signed_in(UserFactory(tenant=acme, role="admin"))


@pytest.fixture
def key_client(acme_account):
    _, text = credentials.issue_api_key(acme_account, ["webhooks"])
    return APIClient(headers={"Authorization": f"Bearer {text}"})


@pytest.fixture
def receiver(settings):
    settings.WEBHOOK_PRIVATE_NETWORKS = True
    listening = Receiver("whsec_of_a_test")
    yield listening
    listening.close()


def one(webhook):
    return f"{LIST}{webhook.pk}/"


class TestMaking:
    def test_the_secret_is_told_once(self, client, acme):
        made = client.post(LIST, NEW, format="json").json()
        webhook = Webhook.objects.get()
        assert (webhook.tenant, made["secret"]) == (acme, webhook.secrets["current"])
        told = [client.get(LIST), client.get(one(webhook)), client.patch(one(webhook), {"name": "x"}, format="json")]
        assert all(made["secret"] not in answer.content.decode() for answer in told)
        assert made["secret"] not in str(list(AuditEntry.objects.values_list("changes", flat=True)))

    @pytest.mark.parametrize(
        "change",
        [
            {"url": "http://hooks.acme.example/"},
            {"url": "https://127.0.0.1/"},
            {"url": "https://user:word@hooks.acme.example/"},
            {"event_types": ["mail.eaten"]},
            {"event_types": "mail.bounced"},
            {"name": ""},
            {"secrets": {"current": "x"}},
        ],
    )
    def test_what_cannot_be_is_refused(self, client, change):
        answer = client.post(LIST, {**NEW, **change}, format="json")
        assert answer.status_code == 400
        assert set(answer.json()["details"]) == set(change)
        assert not Webhook.objects.exists()

    def test_a_tenant_has_no_more_than_so_many(self, client, acme, monkeypatch):
        monkeypatch.setattr(webhooks, "MOST", 1)
        WebhookFactory(tenant=acme)
        assert client.post(LIST, NEW, format="json").status_code == 409

    def test_an_account_of_another_tenant_is_not_there(self, client, globex_account):
        assert (
            "account" in client.post(LIST, {**NEW, "account": str(globex_account.pk)}, format="json").json()["details"]
        )

    def test_a_key_hears_of_its_account_only(self, key_client, acme, acme_account):
        other = AccountFactory(tenant=acme)
        WebhookFactory(tenant=acme), WebhookFactory(tenant=acme, account=other)
        for account in (str(other.pk), None):
            assert key_client.post(LIST, {**NEW, "account": account}, format="json").status_code == 400
        made = key_client.post(LIST, NEW, format="json").json()
        assert made["account"] == str(acme_account.pk)
        assert [row["id"] for row in key_client.get(LIST).json()["results"]] == [made["id"]]
        assert key_client.patch(f"{LIST}{made['id']}/", {"account": None}, format="json").status_code == 400


class TestChanging:
    def test_how_it_stands_is_kept_but_for_another_address(self, client, acme):
        webhook = WebhookFactory(tenant=acme, failures=3, failing_since=timezone.now())
        assert client.patch(one(webhook), {"name": "other"}, format="json").json()["failures"] == 3
        assert client.patch(one(webhook), {"url": "https://new.acme.example/"}, format="json").json()["failures"] == 0

    def test_it_is_disabled_and_enabled(self, client, acme):
        webhook = WebhookFactory(tenant=acme)
        waiting = WebhookDeliveryFactory(webhook=webhook, next_attempt_at=timezone.now() + timedelta(hours=1))
        told = client.patch(one(webhook), {"enabled": False}, format="json").json()
        assert (told["enabled"], told["disabled_reason"][:11]) == (False, "Disabled by")
        told = client.patch(one(webhook), {"enabled": True}, format="json").json()
        assert (told["enabled"], told["disabled_reason"]) == (True, "")
        waiting.refresh_from_db()
        assert waiting.next_attempt_at <= timezone.now()

    def test_both_secrets_sign_during_a_rotation(self, client, acme):
        webhook = WebhookFactory(tenant=acme)
        fresh = client.post(f"{one(webhook)}rotate-secret/").json()["secret"]
        webhook.refresh_from_db()
        assert (webhook.secrets["current"], webhook.secrets["previous"]) == (fresh, "whsec_of_a_test")

    def test_it_goes_with_everything_it_was_sent(self, client, acme):
        webhook = WebhookDeliveryFactory(webhook=WebhookFactory(tenant=acme)).webhook
        assert client.delete(one(webhook)).status_code == 204
        assert not WebhookDelivery.objects.exists()

    def test_a_test_event_is_posted_and_signed(self, client, acme, receiver):
        webhook = WebhookFactory(tenant=acme, url=receiver.url)
        told = client.post(f"{one(webhook)}test/").json()
        assert (told["good"], told["status"]) == (True, 204)
        assert len(receiver.requests) == 1
        assert AuditEntry.objects.get().action == "webhook.tested"


class TestDeliveries:
    @pytest.fixture
    def delivery(self, acme, acme_account):
        webhook = WebhookFactory(tenant=acme, account=acme_account)
        event = EventFactory(message=MessageFactory(account=acme_account), type="bounced")
        made = WebhookDeliveryFactory(webhook=webhook, event=event, status="failed", finished_at=timezone.now())
        WebhookAttempt.objects.create(delivery=made, response_code=500, error_text="oh", created_at=timezone.now())
        return made

    def test_each_filter_narrows(self, client, delivery, acme, globex):
        WebhookDeliveryFactory(webhook=WebhookFactory(tenant=acme))
        WebhookDeliveryFactory(webhook=WebhookFactory(tenant=globex))
        for query in (
            {"webhook": delivery.webhook_id},
            {"status": "failed"},
            {"event": delivery.event_id},
            {"message": delivery.event.message_id},
        ):
            [row] = client.get(DELIVERIES, query).json()["results"]
            assert (row["id"], row["event_type"]) == (str(delivery.pk), "mail.bounced")
        assert len(client.get(DELIVERIES).json()["results"]) == 2

    def test_one_tells_of_each_request(self, client, delivery):
        [attempt] = client.get(f"{DELIVERIES}{delivery.pk}/").json()["attempts"]
        assert (attempt["response_code"], attempt["error_text"]) == (500, "oh")

    def test_one_is_sent_again(self, client, delivery):
        assert client.post(f"{DELIVERIES}{delivery.pk}/replay/").json() == {"events": 1}
        delivery.refresh_from_db()
        assert delivery.status == "pending"
        assert AuditEntry.objects.get().action == "webhookdelivery.replayed"

    def test_what_was_given_up_or_recorded_in_a_time_is_sent_again(self, client, delivery):
        replay = f"{one(delivery.webhook)}replay/"
        assert client.post(replay, {}, format="json").json() == {"events": 1}
        now = timezone.now()
        span = {"since": (now - timedelta(hours=1)).isoformat(), "until": (now + timedelta(hours=1)).isoformat()}
        assert client.post(replay, span, format="json").json() == {"events": 1}
        assert client.post(replay, {"since": span["since"]}, format="json").status_code == 400
        assert client.post(replay, {"since": span["until"], "until": span["since"]}, format="json").status_code == 400

    def test_a_page_is_a_few_queries(self, client, acme, django_assert_max_num_queries):
        webhook = WebhookFactory(tenant=acme)
        for _ in range(5):
            WebhookDeliveryFactory(webhook=webhook)
        with django_assert_max_num_queries(4):  # who asks, and the rows
            assert len(client.get(DELIVERIES).json()["results"]) == 5

    def test_a_key_sees_what_its_accounts_webhooks_were_sent(self, key_client, delivery, acme):
        WebhookDeliveryFactory(webhook=WebhookFactory(tenant=acme))
        [row] = key_client.get(DELIVERIES).json()["results"]
        assert row["id"] == str(delivery.pk)
