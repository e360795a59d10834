"""Amazon SES: envelope and settings (PRV-2, PRV-3, PRV-12)."""

import pytest

from providers import registry
from providers.base import RecipientStatus
from providers.exceptions import BadSettings, Unsupported
from providers.tests.messages import ANNA, BERT, outbound, plain, text_only
from providers.tests.standins.ses import REGION


def test_bounces_go_to_the_envelope_sender(ses_of, ses):
    ses_of().send(outbound(plain(), mail_from="bounce+1@bücher.example"))
    ses_of().send(outbound(plain(), mail_from=""))
    ses_of(bounces_to_sender=False).send(outbound(plain()))
    first, *others = [mail.payload for mail in ses.accepted]
    assert first["FeedbackForwardingEmailAddress"] == "bounce+1@xn--bcher-kva.example"
    assert not any("FeedbackForwardingEmailAddress" in payload for payload in others)


def test_an_unverified_envelope_sender_is_named(ses_of, ses):
    ses.unverified.add("bounce@initech.test")
    with pytest.raises(Unsupported, match=r"bounce@initech\.test") as caught:
        ses_of().send(outbound(plain(), mail_from="bounce@initech.test"))
    assert caught.value.code == "sender_not_verified"


def test_message_and_attempt_are_tags_of_the_mail(ses_of, ses):
    ses.configuration_sets.add("events")
    message = outbound(plain())
    ses_of(configuration_set="events", identity_arn="arn:aws:ses:eu-central-1:1:identity/acme.test").send(message)
    payload = ses.accepted[0].payload
    tags = {tag["Name"]: tag["Value"] for tag in payload["EmailTags"]}
    assert tags == {"smtpproxy-message": message.message_id, "smtpproxy-attempt": message.idempotency_key}
    assert payload["ConfigurationSetName"] == "events"
    assert payload["FromEmailAddressIdentityArn"].endswith("identity/acme.test")
    odd = outbound(plain(), key="not a tag!")
    ses_of().send(odd)
    assert [tag["Name"] for tag in ses.accepted[1].payload["EmailTags"]] == ["smtpproxy-message"]


def test_an_unusual_address_travels_alone_and_fails_alone(ses_of, ses):
    odd = '"a b"@globex.test'
    backend, message = ses_of(format="raw"), outbound(plain(), [ANNA, odd, BERT])
    groups = backend.split(message)
    assert groups == [(ANNA, BERT), (odd,)]
    backend.send(message.for_call(groups[0], "k1"))
    result = backend.send(message.for_call(groups[1], "k2"))
    assert result.recipients[odd].status is RecipientStatus.FAILED
    assert ses.accepted[0].recipients == [ANNA, BERT]


def test_spellings_of_one_address_are_one_recipient(ses_of, ses):
    ses_of(format="raw").send(outbound(plain(), ["anna@bücher.example", "anna@xn--bcher-kva.example"]))
    assert ses.accepted[0].recipients == ["anna@xn--bcher-kva.example"]


def test_the_simple_format_of_smtputf8_addresses_is_not_attempted(ses_of, ses):
    with pytest.raises(Unsupported):
        ses_of().send(outbound(text_only(), mail_from="jörg@acme.test", smtputf8=True))
    assert ses.requests == 0


def test_keys_come_in_pairs_and_regions_are_names():
    for settings, wrong in (
        ({"access_key_id": "AKIA1"}, "secret_access_key"),
        ({"secret_access_key": "s"}, "access_key_id"),
        ({"region": "evil.test/", "access_key_id": "a", "secret_access_key": "b"}, "region"),
        ({"base_url": "ftp://x", "access_key_id": "a", "secret_access_key": "b"}, "base_url"),
    ):
        with pytest.raises(BadSettings) as caught:
            registry.connect("ses", {"region": REGION, **settings})
        assert list(caught.value.problems) == [wrong]


def test_each_region_has_its_own_address():
    keys = {"access_key_id": "a", "secret_access_key": "b"}
    for region, host in (("eu-central-1", "amazonaws.com"), ("cn-north-1", "amazonaws.com.cn")):
        backend = registry.connect("ses", {"region": region, **keys})
        assert backend._client._http.base_url == f"https://email.{region}.{host}/"


def test_only_shared_rows_may_use_the_servers_own_credentials(ses, monkeypatch):
    """A tenant's row would act with the platform's rights."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ses.config()["access_key_id"])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", ses.keys[0])
    config = {"region": REGION, "base_url": ses.url}
    with pytest.raises(BadSettings) as caught:
        registry.connect("ses", config)
    assert list(caught.value.problems) == ["access_key_id"]
    backend = registry.connect("ses", config, shared=True)
    assert backend.send(outbound(plain())).provider_message_id == ses.accepted[0].id
    backend.close()


def test_a_session_token_travels_with_the_request(ses, ses_of, monkeypatch):
    seen = {}
    taken = ses.take

    def take(payload, key, headers):
        seen.update(headers)
        return taken(payload, key, headers)

    ses.take = take
    ses_of(session_token="token-of-acme").send(outbound(plain()))
    assert seen["X-Amz-Security-Token"] == "token-of-acme"
    assert "x-amz-security-token" in seen["Authorization"]
