"""PRV-13: a provider is tried out in the admin, and says so in its own words."""

import re
from datetime import timedelta
from email import message_from_bytes
from email.policy import default

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from accounts import shared_state
from accounts.models import AuditEntry
from accounts.tests.factories import AccountFactory, UserFactory
from providers import registry, trial
from providers.backends.memory import MemoryBackend
from providers.exceptions import PermanentFailure, TemporaryFailure
from providers.models import Provider
from providers.tests.factories import ProviderFactory
from providers.tests.harness import KEYS, rigged
from providers.tests.standins import SendGridStandIn, SmtpSink

pytestmark = pytest.mark.django_db
MESSAGE = {"what": "message", "sender": "test@acme.example", "recipient": "admin@acme.example"}


@pytest.fixture
def admin(client, acme):
    person = UserFactory(tenant=acme, role="admin", email="admin@acme.example")
    AccountFactory(tenant=acme, allowed_senders=["acme.example", "*.acme.example"])
    client.force_login(person)
    return person


@pytest.fixture
def service():
    with SendGridStandIn() as service:
        yield service


@pytest.fixture
def provider(acme, service):
    return sendgrid(acme, service)


@pytest.fixture
def operator_client(operator, acme, monkeypatch):
    """Operators may also use the types that only tests use."""
    monkeypatch.setattr(registry, "_FOR_TESTS", frozenset())
    client = Client()
    client.force_login(operator)
    return client


def url_of(provider):
    return reverse("admin:providers_provider_trial", args=[provider.pk])


def text_of(answer):
    assert answer.status_code == 200
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", answer.content.decode()))


def sendgrid(acme, service, **values):
    return ProviderFactory(tenant=acme, name="grid", type="sendgrid", config=service.config(), **values)


def test_the_connection_is_tested_and_nothing_is_sent(client, admin, acme):
    with SendGridStandIn() as service:
        provider = sendgrid(acme, service)
        page = text_of(client.post(url_of(provider), {"what": "connection"}))
        assert "The settings work." in page
        assert "mail.send" in page
        assert re.search(r"Time \d+ ms", page)
        assert service.accepted == []
    entry = AuditEntry.objects.get()
    assert (entry.action, entry.actor, entry.target_id) == ("provider.tested", admin, str(provider.pk))


def test_a_wrong_key_is_told_in_the_services_words_and_not_shown(client, admin, acme):
    with SendGridStandIn() as service:
        config = {**service.config(), "api_key": "key-of-nobody-5555"}
        provider = ProviderFactory(tenant=acme, type="sendgrid", config=config)
        answer = client.post(url_of(provider), {"what": "connection"})
    page = text_of(answer)
    assert "The test failed; below is what is known." in page
    assert "authorization required" in page
    assert "Reply code 401" in page
    assert "key-of-nobody-5555" not in answer.content.decode()


def test_a_test_message_goes_out_through_this_provider_and_says_who_asked(client, admin, acme):
    with SmtpSink() as sink:
        provider = ProviderFactory(tenant=acme, name="smarthost", type="smtp", config=sink.config())
        other = ProviderFactory(tenant=acme, name="other", config={"box": "other"})
        page = text_of(client.post(url_of(provider), MESSAGE))
        [mail] = sink.accepted
    assert "The provider took the message." in page
    assert "lossless" in page
    assert (mail.mail_from, mail.recipients) == ("test@acme.example", ["admin@acme.example"])
    message = message_from_bytes(mail.data, policy=default)
    assert (message["From"], message["To"]) == ("test@acme.example", "admin@acme.example")
    assert message["Auto-Submitted"] == "auto-generated"
    body = " ".join(message.get_content().split())
    assert "admin@acme.example asked for it" in body
    assert "the provider 'smarthost' (smtp) of Acme" in body
    assert MemoryBackend.box("other").accepted == []
    entry = AuditEntry.objects.get()
    assert entry.action == "provider.test_message"
    assert entry.changes == {"from": "test@acme.example", "to": "admin@acme.example"}
    assert other.pk != provider.pk


def test_the_message_passes_every_strict_service(rig, acme):
    provider = ProviderFactory(tenant=acme, type=rig.type, config=rig.config())
    result = trial.send(provider, "test@acme.example", "admin@acme.example", "admin@acme.example")
    assert result.good, result
    assert result.verdict
    assert rig.reached() == ["admin@acme.example"]
    assert not any(key in result.text for key in KEYS)


def test_what_a_service_refuses_is_told_with_its_verdict(client, admin, acme):
    with SendGridStandIn() as service:
        service.unverified.add("test@acme.example")
        page = text_of(client.post(url_of(sendgrid(acme, service)), MESSAGE))
    assert "The provider did not take the message." in page
    assert "Code sender_not_verified" in page
    assert "Reply code 403" in page
    assert "What it does to this message" in page


def test_the_form_proposes_the_tenants_domain_and_the_persons_own_address(client, admin, provider):
    page = client.get(url_of(provider)).content.decode()
    assert 'value="test@acme.example"' in page
    assert 'value="admin@acme.example"' in page
    assert "csrfmiddlewaretoken" in page


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"sender": "ceo@globex.example"}, "No account of this tenant may send from globex.example."),
        ({"sender": "nonsense"}, "Enter a valid email address."),
        ({"recipient": ""}, "This field is required."),
        ({"recipient": "a@b.example\r\nBcc: x@y.example"}, "Enter a valid email address."),
        ({"recipient": "a@b.example, c@d.example"}, "Enter a valid email address."),
    ],
)
def test_a_wrong_address_sends_nothing(client, admin, service, provider, change, text):
    page = text_of(client.post(url_of(provider), {**MESSAGE, **change}))
    assert text in page.replace("&#x27;", "'")
    assert service.requests == 0
    assert not AuditEntry.objects.exists()


def test_operators_may_send_from_any_domain_through_a_shared_provider(operator_client):
    provider = ProviderFactory(tenant=None, name="shared", config={"box": "shared"})
    page = text_of(operator_client.post(url_of(provider), {**MESSAGE, "sender": "ops@platform.example"}))
    assert "The provider took the message." in page
    assert b"of the platform" in MemoryBackend.box("shared").accepted[0].raw


def test_a_provider_that_is_disabled_or_unhealthy_can_be_tried_and_stays_so(operator_client, acme):
    until = timezone.now() + timedelta(hours=1)
    provider = ProviderFactory(tenant=acme, enabled=False, unhealthy_until=until, unhealthy_reason="down")
    answer = operator_client.post(url_of(provider), MESSAGE)
    page = text_of(answer)
    assert "The provider took the message." in page
    assert "not enabled" in page
    assert Provider.objects.get().unhealthy_until == until


def test_more_than_ten_a_minute_are_refused(client, admin, service, provider):
    pages = [text_of(client.post(url_of(provider), MESSAGE)) for _ in range(12)]
    assert ["Wait a little" in page for page in pages] == [False] * 10 + [True] * 2
    assert len(service.accepted) == 10
    assert 0 < shared_state.client().ttl(shared_state.key("trial", admin.pk)) <= 60


def test_without_the_shared_store_nothing_is_sent_and_connections_are_tested(
    client, admin, service, provider, settings
):
    settings.SHARED_STATE_URL = "redis://127.0.0.1:1/0"
    assert "the shared store does not answer" in text_of(client.post(url_of(provider), MESSAGE))
    assert "The settings work." in text_of(client.post(url_of(provider), {"what": "connection"}))
    assert service.accepted == []


@pytest.mark.parametrize(("role", "status"), [("owner", 200), ("admin", 200), ("user", 403), ("viewer", 403)])
def test_only_those_who_may_change_a_provider_may_try_it(client, acme, provider, role, status):
    client.force_login(UserFactory(tenant=acme, role=role))
    assert client.get(url_of(provider)).status_code == status
    assert client.post(url_of(provider), {"what": "connection"}).status_code == status
    link = f'href="{url_of(provider)}"'
    page = client.get(reverse("admin:providers_provider_change", args=[provider.pk])).content.decode()
    assert (link in page) == (status == 200)


def test_another_tenants_provider_and_the_shared_ones_are_not_there(client, admin, globex):
    for provider in (ProviderFactory(tenant=globex), ProviderFactory(tenant=None)):
        for method in (client.get, client.post):
            assert method(url_of(provider)).status_code == 404


def test_types_that_act_on_our_own_machine_are_the_operators(client, admin, acme, tmp_path):
    provider = ProviderFactory(tenant=acme, type="file", config={"directory": str(tmp_path)})
    assert client.post(url_of(provider), {"what": "connection"}).status_code == 403


def test_a_post_from_elsewhere_is_refused(admin, acme):
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(admin)
    assert strict.post(url_of(ProviderFactory(tenant=acme)), {"what": "connection"}).status_code == 403


def test_settings_that_cannot_be_used_are_told(client, admin, acme):
    provider = ProviderFactory(tenant=acme, type="smtp", config={})
    assert "host: required" in text_of(client.post(url_of(provider), {"what": "connection"}))


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (TemporaryFailure("Read timed out", code="timeout", outcome_unknown=True), "It may have taken the message"),
        (PermanentFailure("<b>No</b>", code="refused", status_code=550), "&lt;b&gt;No&lt;/b&gt;"),
        (42, "The memory backend failed (TypeError)."),
    ],
)
def test_whatever_a_backend_does_there_is_an_answer(operator_client, acme, answer, text):
    provider = ProviderFactory(tenant=acme, config={"box": "trial"})
    MemoryBackend.box("trial").answers.append(answer)
    assert text in operator_client.post(url_of(provider), MESSAGE).content.decode()


def test_a_service_that_does_not_answer_keeps_nobody_waiting(acme, monkeypatch, tmp_path):
    monkeypatch.setattr(trial, "LONGEST", 0.3)
    with rigged("sendgrid", tmp_path, monkeypatch) as rig:
        rig.service.hang_next(2)
        result = trial.check(ProviderFactory(tenant=acme, type="sendgrid", config=rig.config()))
    assert not result.good
    assert result.code == "timeout"
    assert result.duration_ms < 1500
