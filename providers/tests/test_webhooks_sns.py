"""Amazon SNS: whose signature, whose topic, whose certificate. EVT-1."""

import json
import socket
import time
from datetime import UTC, datetime, timedelta

import pytest
import urllib3

from providers.tests import webhook_services
from providers.tests.webhook_payloads import WHEN
from providers.tests.webhook_services import REGION, URL, Ses, as_request, certificate
from providers.webhooks import aws, registry
from providers.webhooks.contract import Told, WebhookRefused

SIGNED = f"https://sns.{REGION}.amazonaws.com/SimpleNotificationService-0123456789abcdef.pem"


@pytest.fixture
def amazon(tmp_path):
    with webhook_services.amazon(tmp_path) as service, webhook_services.reaching(service):
        yield service


def receive(service, headers, body):
    return registry.receiver("ses", service.config).receive(as_request(headers, body))


def told(service, payload, **changes):
    return receive(service, *service.signed(payload, URL, datetime.now(UTC), **changes))


def refused(service, headers, body):
    with pytest.raises(WebhookRefused) as refusal:
        receive(service, headers, body)
    return refusal.value.status


@pytest.mark.parametrize("version", ["1", "2"])
def test_both_signature_versions_are_checked(amazon, version):
    service = Ses(version)
    [event] = told(service, service.event("bounced"))
    assert (event.type, event.hard, event.occurred_at) == (Told.BOUNCED, True, WHEN)
    assert event.text == "smtp; 550 5.1.1 user unknown"
    other = "1" if version == "2" else "2"
    headers, body = service.signed(service.event("bounced"), URL, datetime.now(UTC))
    body = json.dumps(json.loads(body) | {"SignatureVersion": other}).encode()
    assert refused(service, headers, body) == 403


@pytest.mark.parametrize("version", ["3", "", "02"])
def test_a_signature_of_another_kind_is_none(amazon, version):
    service = Ses()
    headers, body = service.signed(service.event("bounced"), URL, datetime.now(UTC))
    body = json.dumps(json.loads(body) | {"SignatureVersion": version}).encode()
    assert refused(service, headers, body) == 403


@pytest.mark.parametrize("kind", ["bounced", "complained", "confirmed"])
def test_notifications_are_read_like_published_events(amazon, kind):
    service = Ses()
    published = service.event(kind)
    notified = {"notificationType" if name == "eventType" else name: value for name, value in published.items()}
    events = [told(service, payload)[0] for payload in (published, notified)]
    assert events[0] == events[1]  # and so they are one event


def test_the_certificate_is_fetched_once(amazon):
    service = Ses()
    for _ in range(3):
        told(service, service.event("bounced"))
    assert amazon.fetched == ["/SimpleNotificationService-0123456789abcdef.pem"]


@pytest.mark.parametrize(
    "url",
    [
        "https://sns.evil.example/SimpleNotificationService-0123456789abcdef.pem",
        f"http://sns.{REGION}.amazonaws.com/SimpleNotificationService-0123456789abcdef.pem",
        f"https://sns.{REGION}.amazonaws.com.evil.example/SimpleNotificationService-0123456789abcdef.pem",
        f"https://sns.{REGION}.amazonaws.com@evil.example/SimpleNotificationService-0123456789abcdef.pem",
        f"https://evil.example#sns.{REGION}.amazonaws.com/SimpleNotificationService-0123456789abcdef.pem",
        f"https://evil.example\\.sns.{REGION}.amazonaws.com/SimpleNotificationService-0123456789abcdef.pem",
        f"https://s3.{REGION}.amazonaws.com/SimpleNotificationService-0123456789abcdef.pem",
        f"https://sns.{REGION}.amazonaws.com:8443/SimpleNotificationService-0123456789abcdef.pem",
        f"https://sns.{REGION}.amazonaws.com/?Action=GetTopic",
        f"https://sns.{REGION}.amazonaws.com/x/SimpleNotificationService-0123456789abcdef.pem",
        f"https://SNS.{REGION}.amazonaws.com/../SimpleNotificationService-0.pem",
        "https://sns.us-east-1.amazonaws.com/SimpleNotificationService-0123456789abcdef.pem",  # another region
        "https://[::1/SimpleNotificationService-0123456789abcdef.pem",
        "file:///etc/passwd",
        "",
    ],
)
def test_only_a_certificate_at_amazons_own_address_is_fetched(amazon, url):
    service = Ses()
    assert (
        refused(service, *service.signed(service.event("bounced"), URL, datetime.now(UTC), SigningCertURL=url)) == 403
    )
    assert amazon.fetched == []


def test_the_hosts_of_the_chinese_regions_are_amazons_too():
    assert aws.region_of("https://sns.cn-north-1.amazonaws.com.cn/x") == "cn-north-1"
    assert aws.region_of("https://sns.us-gov-west-1.amazonaws.com/x") == "us-gov-west-1"


@pytest.mark.parametrize(
    "pem",
    [
        certificate("evil.example"),
        certificate("sns.amazonaws.com.evil.example"),
        certificate(begins=-timedelta(days=100), lasts=timedelta(days=50)),
        certificate(begins=timedelta(days=2)),
    ],
    ids=["another name", "a longer name", "expired", "not yet valid"],
)
def test_a_certificate_that_is_not_snss_own_and_valid_signs_nothing(amazon, pem):
    amazon.pem = pem
    service = Ses()
    assert refused(service, *service.signed(service.event("bounced"), URL, datetime.now(UTC))) == 403


@pytest.mark.parametrize("trouble", ["down", "no certificate", "endless", "moved"])
def test_a_certificate_that_cannot_be_fetched_is_our_trouble(amazon, trouble):
    if trouble in {"down", "moved"}:
        amazon.status = 500 if trouble == "down" else 302
    else:
        amazon.pem = b"<html>" if trouble == "no certificate" else b"x" * 1_000_000
    service = Ses()
    headers, body = service.signed(service.event("bounced"), URL, datetime.now(UTC))
    assert refused(service, headers, body) == 503
    amazon.status, amazon.pem = 200, certificate()
    assert len(receive(service, headers, body)) == 1


def test_a_server_without_amazons_certificate_of_tls_is_not_believed(tmp_path):
    with webhook_services.amazon(tmp_path, name="sns.evil.example") as service, webhook_services.reaching(service):
        ses = Ses()
        assert refused(ses, *ses.signed(ses.event("bounced"), URL, datetime.now(UTC))) == 503
        assert service.fetched == []


def test_another_topic_is_refused_though_amazon_signed_it(amazon):
    """Anybody may make a topic and subscribe acme's address to it."""
    acme, globex = Ses(), Ses()
    headers, body = globex.signed(globex.event("bounced"), URL, datetime.now(UTC))
    assert refused(acme, headers, body) == 403
    assert refused(acme, *globex.subscription()) == 403
    assert amazon.confirmed == []


def test_several_topics_may_be_named(amazon):
    one, other = Ses(), Ses()
    config = {"webhook_topics": f"{one.topic}\n{other.topic}"}
    for service in (one, other):
        headers, body = service.signed(service.event("bounced"), URL, datetime.now(UTC))
        assert len(registry.receiver("ses", config).receive(as_request(headers, body))) == 1


def test_a_subscription_to_the_rows_topic_is_confirmed(amazon):
    service = Ses()
    assert receive(service, *service.subscription()) == []
    [asked] = amazon.confirmed
    assert asked["TopicArn"] == [service.topic]


@pytest.mark.parametrize(
    "url",
    [
        "https://evil.example/?Action=ConfirmSubscription",
        f"https://sns.{REGION}.amazonaws.com/?Action=DeleteTopic&TopicArn=x",
        f"https://sns.{REGION}.amazonaws.com/?Action=ConfirmSubscription&TopicArn=other&Token=t",
        "https://sns.us-east-1.amazonaws.com/?Action=ConfirmSubscription",
        f"http://sns.{REGION}.amazonaws.com/?Action=ConfirmSubscription",
    ],
)
def test_a_confirmation_only_goes_where_the_topic_is_and_only_confirms(amazon, url):
    service = Ses()
    assert refused(service, *service.subscription(SubscribeURL=url)) == 403
    assert amazon.confirmed == []


def test_a_confirmation_that_fails_is_asked_for_again(amazon):
    service = Ses()
    told(service, service.event("opened"))  # the certificate is known
    amazon.status = 500
    assert refused(service, *service.subscription()) == 503


def test_greetings_and_farewells_tell_nothing(amazon):
    service = Ses()
    assert told(service, "Successfully validated SNS topic for Amazon SES event publishing.") == []
    assert receive(service, *service.subscription(Type="UnsubscribeConfirmation")) == []
    assert amazon.confirmed == []


def test_every_recipient_of_a_bounce_is_told_of(amazon):
    service = Ses()
    payload = service.event("bounced")
    first = payload["bounce"]["bouncedRecipients"][0]
    payload["bounce"]["bouncedRecipients"].append(first | {"emailAddress": "joe@outside.example"})
    events = told(service, payload)
    assert [event.recipient for event in events] == ["jane@outside.example", "joe@outside.example"]
    assert len({event.event_id for event in events}) == 2


def test_of_several_who_may_have_complained_nobody_is_accused(amazon):
    """SES names everybody at that receiver: "recipients who might have submitted the complaint"."""
    service = Ses()
    payload = service.event("complained")
    payload["complaint"]["complainedRecipients"].append({"emailAddress": "joe@outside.example"})
    [event] = told(service, payload)
    assert (event.type, event.recipient) == (Told.COMPLAINED, "")
    assert "joe@outside.example" in event.text


@pytest.mark.parametrize(("kind", "hard"), [("Permanent", True), ("Transient", False), ("Undetermined", False)])
def test_only_a_permanent_bounce_is_hard(amazon, kind, hard):
    service = Ses()
    payload = service.event("bounced")
    payload["bounce"]["bounceType"] = kind
    assert told(service, payload)[0].hard is hard


def test_a_rendering_failure_is_told_of_every_recipient(amazon):
    service = Ses()
    payload = {
        "eventType": "Rendering Failure",
        "mail": service.event("bounced")["mail"] | {"destination": ["a@x.example", "b@x.example"]},
        "failure": {"errorMessage": "Attribute 'name' is not present", "templateName": "T"},
    }
    events = told(service, payload)
    assert [(event.type, event.recipient) for event in events] == [
        (Told.FAILED, "a@x.example"),
        (Told.FAILED, "b@x.example"),
    ]
    assert "Attribute" in events[0].text


def test_fetching_gives_up_in_time(monkeypatch, tmp_path):
    """A server that says nothing holds no web thread for long."""
    monkeypatch.setattr(aws, "TIMEOUT", urllib3.Timeout(connect=0.3, read=0.3))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        reach = aws.Aws(connect_to=silent.getsockname())
        started = time.monotonic()
        with pytest.raises(WebhookRefused) as refusal:
            reach.certificate(SIGNED, as_request({}, b""))
        assert refusal.value.status == 503
        assert time.monotonic() - started < 3
