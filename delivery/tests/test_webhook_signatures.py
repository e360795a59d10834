"""A receiver can tell that a request is ours, also while the secret is changed. EVT-3."""

import hashlib
import hmac
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection

from delivery.models import Webhook
from delivery.outgoing import signatures, webhooks
from delivery.tests.factories import WebhookFactory

NOW = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)
BODY = '{"id":"1","subject":"Grüße"}'.encode()


def code(secret, stamp):
    return hmac.new(secret.encode(), str(stamp).encode() + b"." + BODY, hashlib.sha256).hexdigest()


def test_the_signature_is_over_time_and_body():
    header = signatures.header({"current": "whsec_new"}, BODY, NOW)
    assert header == f"t=1777636800,v1={code('whsec_new', 1777636800)}"
    assert header != signatures.header({"current": "whsec_new"}, BODY, NOW + timedelta(seconds=1))
    assert header != signatures.header({"current": "whsec_new"}, BODY + b" ", NOW)


def test_during_a_rotation_both_secrets_sign_and_afterwards_the_new_one_alone():
    secrets = {
        "current": "whsec_new",
        "previous": "whsec_old",
        "previous_until": (NOW + timedelta(hours=1)).isoformat(),
    }
    stamp = int(NOW.timestamp())
    expected = f"t={stamp},v1={code('whsec_new', stamp)},v1={code('whsec_old', stamp)}"
    assert signatures.header(secrets, BODY, NOW) == expected
    later = signatures.header(secrets, BODY, NOW + timedelta(hours=1))
    assert later.count("v1=") == 1
    assert code("whsec_new", stamp + 3600) in later


@pytest.mark.django_db
def test_a_rotation_keeps_one_previous_secret_for_a_day():
    webhook = WebhookFactory(secret="whsec_first")
    second, third = webhooks.rotate(webhook), webhooks.rotate(webhook)
    secrets = Webhook.objects.get().secrets
    assert (secrets["current"], secrets["previous"]) == (third, second)
    until = datetime.fromisoformat(secrets["previous_until"]) - datetime.now(UTC)
    assert timedelta(hours=23, minutes=59) < until <= timedelta(hours=24)


@pytest.mark.django_db
def test_a_secret_lost_with_its_key_is_replaced():
    webhook = WebhookFactory()
    with connection.cursor() as cursor:
        cursor.execute("UPDATE delivery_webhook SET secrets = 'gAAAA'")
    secret = webhooks.rotate(webhook)
    assert Webhook.objects.get().secrets == {"current": secret}


@pytest.mark.django_db
def test_secrets_are_encrypted_in_the_database():
    WebhookFactory(secret="whsec_in_clear")
    with connection.cursor() as cursor:
        cursor.execute("SELECT secrets FROM delivery_webhook")
        (stored,) = cursor.fetchone()
    assert "whsec" not in stored
