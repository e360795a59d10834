"""`/webhooks/<provider id>/`, called as services call it. EVT-1, EVT-2."""

import http.client
import uuid
from datetime import UTC, datetime
from urllib.parse import urlsplit

import pytest
from django.db import OperationalError

from delivery import callbacks, webhook_views
from delivery.models import Suppression
from delivery.tests.factories import DeliveryLogFactory, MessageFactory
from delivery.tests.mail import accepted, raw_message
from delivery.tests.test_sender import deliver, statuses
from providers import registry
from providers.tests import webhook_services
from providers.tests.factories import ProviderFactory
from providers.tests.standins import SendGridStandIn
from providers.tests.webhook_services import SERVICES, Mandrill, Postmark, SendGrid

NOWHERE = b"There is no such webhook.\n"
SOMEONE = "someone@outside.example"


@pytest.fixture(autouse=True)
def _amazon(tmp_path):
    with webhook_services.amazon(tmp_path) as service, webhook_services.reaching(service):
        yield service


def row(tenant, service, **values):
    """A provider row that knows the service's secret. (That it can also send is of no interest here.)"""
    return ProviderFactory(tenant=tenant, type=service.type, config=service.config, **values)


def address(provider):
    return f"/webhooks/{provider.pk}/"


def post(client, provider, headers, body, path=None):
    content_type = headers.get("Content-Type", "application/json")
    return client.post(path or address(provider), body, content_type=content_type, headers=headers)


def tell(client, provider, service, *events):
    url = f"http://testserver{address(provider)}"
    return [post(client, provider, headers, body).status_code for headers, body in service.call(events, url=url)]


def sent_by(provider, account, service, to=SOMEONE):
    message = MessageFactory(account=account, status="delivered", recipients=[to])
    message.recipients.update(
        provider=provider, provider_message_id=service.id, status="delivered", delivered_at=datetime.now(UTC)
    )
    return message


@pytest.mark.django_db
@pytest.mark.parametrize("type_", SERVICES)
def test_a_bounce_told_by_any_service_reaches_its_recipient(client, acme, acme_account, type_):
    service = SERVICES[type_]()
    provider = row(acme, service)
    message = sent_by(provider, acme_account, service)
    assert tell(client, provider, service, service.event("bounced", to=SOMEONE)) == [200]
    assert statuses(message) == {SOMEONE: "bounced"}
    assert Suppression.objects.get().address == SOMEONE


@pytest.mark.django_db
@pytest.mark.parametrize("type_", SERVICES)
def test_a_foreign_secret_is_refused_and_changes_nothing(client, acme, globex, acme_account, type_):
    """globex's service, signing rightly for globex, at acme's address."""
    service, theirs = SERVICES[type_](), SERVICES[type_]()
    provider = row(acme, service)
    row(globex, theirs)
    message = sent_by(provider, acme_account, service)
    assert tell(client, provider, theirs, theirs.event("bounced", to=SOMEONE)) == [403]
    assert statuses(message) == {SOMEONE: "delivered"}
    assert not message.events.filter(type="bounced").exists()


@pytest.mark.django_db
def test_what_is_not_there_says_nothing_of_why(client, acme):
    smtp = ProviderFactory(tenant=acme, type="smtp", config={"host": "mx.example"})
    stdout = ProviderFactory(tenant=acme, type="memory")
    for path in (
        address(smtp),
        address(stdout),
        f"/webhooks/{uuid.uuid4()}/",
        "/webhooks/x/",
        "/webhooks/x",
    ):
        for answer in (client.post(path, b"{}", content_type="application/json"), client.get(path)):
            assert (answer.status_code, answer.content) == (404, NOWHERE), path


@pytest.mark.django_db
def test_a_provider_switched_off_still_tells_of_the_mail_it_has_taken(client, acme, acme_account):
    """EVT-1, EVT-2: its bounces come for days, and nobody tells them twice."""
    service = Postmark()
    off = row(acme, service, enabled=False)
    message = sent_by(off, acme_account, service)
    assert tell(client, off, service, service.event("bounced", to=SOMEONE)) == [200]
    assert statuses(message) == {SOMEONE: "bounced"}
    assert Suppression.objects.filter(tenant=acme, address=SOMEONE).exists()


@pytest.mark.django_db
@pytest.mark.parametrize("when", ["0001-01-01T00:00:00+14:00", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59-12:00"])
def test_a_time_no_database_keeps_costs_neither_the_event_nor_its_neighbours(client, acme, acme_account, when):
    """EVT-1: many services send the year 1 for a field that is empty."""
    service = Postmark()
    provider = row(acme, service)
    message = sent_by(provider, acme_account, service)
    event = service.event("bounced", to=SOMEONE) | {"BouncedAt": when}
    assert tell(client, provider, service, event) == [200]
    assert statuses(message) == {SOMEONE: "bounced"}
    age = datetime.now(UTC) - message.events.get(type="bounced").occurred_at
    assert age.total_seconds() < 60
    assert tell(client, provider, service, event) == [200]
    assert message.events.filter(type="bounced").count() == 1


@pytest.mark.django_db
def test_the_address_works_with_and_without_its_slash_and_answers_probes(client, acme, acme_account):
    service = Postmark()
    provider = row(acme, service)
    sent_by(provider, acme_account, service)
    [(headers, body)] = service.call([service.event("confirmed", to=SOMEONE)])
    for path in (address(provider), address(provider).rstrip("/")):
        assert post(client, provider, headers, body, path).status_code == 200
        assert client.get(path).status_code == 200
        assert client.head(path).status_code == 200
        assert client.put(path).status_code == 405


@pytest.mark.django_db
def test_no_token_of_ours_is_asked_for(acme, acme_account):
    from django.test import Client

    service = Postmark()
    provider = row(acme, service)
    strict = Client(enforce_csrf_checks=True)
    assert tell(strict, provider, service, service.event("confirmed")) == [200]


@pytest.mark.django_db
def test_a_row_without_a_secret_refuses(client, acme):
    service = Postmark()
    provider = ProviderFactory(tenant=acme, type="postmark", config={"server_token": "t"})
    assert tell(client, provider, service, service.event("bounced")) == [403]


@pytest.mark.django_db
def test_nonsense_is_malformed(client, acme):
    service = Postmark()
    provider = row(acme, service)
    [(headers, _)] = service.call([service.event("bounced")])
    for body in (b"", b"{", b"[" * 100_000, b"\xff\xfe", b'"x"'):
        assert post(client, provider, headers, body).status_code == 400


@pytest.mark.django_db
def test_a_body_too_large_is_refused(client, acme):
    service = Postmark()
    provider = row(acme, service)
    [(headers, body)] = service.call([service.event("bounced")])
    assert post(client, provider, headers, body + b" " * webhook_views.MAX_BODY).status_code == 413
    assert post(client, provider, headers, body + b" " * (3 * 1024 * 1024)).status_code == 200


@pytest.mark.django_db
def test_our_own_trouble_asks_the_service_to_come_again(client, acme, acme_account, monkeypatch):
    service = Postmark()
    provider = row(acme, service)
    message = sent_by(provider, acme_account, service)
    event = service.event("bounced", to=SOMEONE)
    real = callbacks.log_of_events.record

    def break_off(rows):
        real(rows)
        raise OperationalError("server closed the connection unexpectedly")

    monkeypatch.setattr(callbacks.log_of_events, "record", break_off)
    assert tell(client, provider, service, event) == [503]
    assert statuses(message) == {SOMEONE: "delivered"}
    monkeypatch.undo()
    assert tell(client, provider, service, event) == [200]
    assert statuses(message) == {SOMEONE: "bounced"}


@pytest.mark.django_db
def test_a_shared_store_that_is_away_does_not_cost_an_event(client, acme, acme_account, settings):
    service = SERVICES["mailgun"]()
    provider = row(acme, service)
    message = sent_by(provider, acme_account, service)
    event = service.event("bounced", to=SOMEONE)
    there = settings.SHARED_STATE_URL
    settings.SHARED_STATE_URL = "redis://127.0.0.1:1/0"
    assert tell(client, provider, service, event) == [503]
    settings.SHARED_STATE_URL = there
    assert statuses(message) == {SOMEONE: "delivered"}
    assert tell(client, provider, service, event) == [200]
    assert statuses(message) == {SOMEONE: "bounced"}


@pytest.mark.django_db
def test_too_many_early_events_ask_the_service_to_come_again(client, acme, acme_account, monkeypatch):
    service = Postmark()
    provider = row(acme, service)
    DeliveryLogFactory(message__account=acme_account, provider=provider, status="sending")
    monkeypatch.setattr(callbacks, "EARLY_MOST", 1)
    assert tell(client, provider, service, service.event("bounced")) == [200]
    assert tell(client, provider, service, service.event("complained")) == [503]


@pytest.mark.django_db
def test_mandrill_signs_the_public_address(client, acme, acme_account, settings):
    settings.WEB_PUBLIC_URL = "https://mail.acme.example"
    service = Mandrill()
    provider = row(acme, service)
    message = sent_by(provider, acme_account, service)
    for url, status in (
        (f"http://testserver{address(provider)}", 403),
        (f"https://mail.acme.example{address(provider)}", 200),
    ):
        [(headers, body)] = service.call([service.event("bounced", to=SOMEONE)], url=url)
        assert post(client, provider, headers, body).status_code == status
    assert statuses(message) == {SOMEONE: "bounced"}


@pytest.mark.django_db
def test_no_secret_and_no_body_is_in_the_log(client, acme, acme_account, caplog, capsys):
    caplog.set_level("DEBUG")
    for type_ in SERVICES:
        service, theirs = SERVICES[type_](), SERVICES[type_]()
        provider = row(acme, service)
        sent_by(provider, acme_account, service)
        tell(client, provider, service, service.event("bounced", to=SOMEONE))
        tell(client, provider, theirs, theirs.event("bounced", to="private@outside.example"))
        logged = caplog.text + "".join(capsys.readouterr())
        for value in (*service.config.values(), *theirs.config.values()):
            if value != "acme":
                assert str(value) not in logged
        assert "private@outside.example" not in logged


@pytest.mark.django_db(transaction=True)
def test_from_sending_to_the_skipped_next_message_over_http(live_server, acme, acme_account, broker):
    """A mail through the stand-in of SendGrid, its bounce to the running web server, and the next mail."""
    service = SendGrid()
    with SendGridStandIn() as api:
        provider = ProviderFactory(tenant=acme, type="sendgrid", config=api.config() | service.config)
        message = accepted(acme_account)
        deliver(message)
        recipient = message.recipients.get()
        assert (recipient.status, len(api.accepted)) == ("delivered", 1)
        events = [
            service.event("deferred", recipient.provider_message_id, SOMEONE),
            service.event("bounced", recipient.provider_message_id, "Someone@Outside.example"),
            service.event("confirmed", recipient.provider_message_id, SOMEONE),
            service.event("confirmed", "of-another-application", SOMEONE),
        ]
        [(headers, body)] = service.call(events)
        where = urlsplit(live_server.url)
        for _ in range(2):  # SendGrid may send again what it has sent
            web = http.client.HTTPConnection(where.hostname, where.port, timeout=10)
            web.request("POST", address(provider), body, headers)
            assert web.getresponse().status == 200
            web.close()
        recipient.refresh_from_db()
        assert (recipient.status, recipient.error_code) == ("bounced", "5.1.1")
        assert [e.type for e in message.events.all()].count("bounced") == 1
        following = accepted(acme_account, raw_message("X-Second: yes"))
        deliver(following)
        assert statuses(following) == {SOMEONE: "suppressed"}
        assert following.status == "failed"
        assert "Hard bounce" in following.status_reason
        assert len(api.accepted) == 1


def test_every_type_we_send_with_that_has_webhooks_asks_for_its_secret():
    for type_ in SERVICES:
        if type_ not in registry.types():
            continue
        names = {spec.name for spec in registry.backend_class(type_).config_fields}
        assert set(SERVICES[type_]().config) <= names, type_
