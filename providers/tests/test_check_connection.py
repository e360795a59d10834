"""PRV-13: whether the settings work, in the service's own words, without sending anything."""

import re

import pytest

from providers import registry
from providers.exceptions import Misconfigured, ProviderError, TemporaryFailure, Unsupported
from providers.tests.harness import KEYS, rigged
from providers.tests.standins import SmtpSink

WITHOUT: frozenset[str] = frozenset()
"""Types of services that offer no call for it."""


def test_good_settings_are_told_in_the_services_words_and_nothing_is_sent(rig):
    text = rig.backend().check_connection()
    assert text
    assert len(text) < 600
    assert not any(key in text for key in KEYS)
    assert rig.reached() == []


def test_a_wrong_key_is_told_and_not_shown(network_rig):
    if network_rig.type in WITHOUT:
        pytest.skip(f"{network_rig.type} offers nothing to ask")
    with pytest.raises(Misconfigured) as caught:
        network_rig.backend("key-of-nobody-5555").check_connection()
    assert caught.value.code == "bad_credentials"
    assert "key-of-nobody-5555" not in caught.value.text


def test_a_service_that_is_down_is_told(service_rig):
    if service_rig.type in WITHOUT:
        pytest.skip(f"{service_rig.type} offers nothing to ask")
    service_rig.service.fail_next(503, times=3)
    with pytest.raises(TemporaryFailure):
        service_rig.backend().check_connection()


def test_another_server_is_not_taken_for_the_service(service_rig):
    service_rig.service.answer_next(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}")
    with pytest.raises(ProviderError) as caught:
        service_rig.backend().check_connection()
    assert caught.value.code in {"wrong_url", "bad_answer"}


@pytest.fixture
def rig_of(tmp_path, monkeypatch):
    managers = []

    def make(type_):
        managers.append(rigged(type_, tmp_path, monkeypatch))
        return managers[-1].__enter__()

    yield make
    for manager in managers:
        manager.__exit__(None, None, None)


@pytest.mark.parametrize(
    ("type_", "change", "error", "text"),
    [
        ("sendgrid", {"scopes": ["stats.read"]}, Misconfigured, "lacks the permission mail.send"),
        ("brevo", {"relay_enabled": False}, Misconfigured, "transactional mail is not enabled"),
        ("mailjet", {"senders": {"a@acme.test": "Inactive"}}, Misconfigured, "no active sender"),
        ("mailgun", {"domain_state": "disabled"}, Misconfigured, "disabled"),
        ("sparkpost", {"status": "suspended"}, Misconfigured, "suspended"),
        ("mailersend", {"remaining": 0}, TemporaryFailure, "No requests left until 2026-11-23"),
    ],
)
def test_credentials_that_are_of_no_use_are_no_success(rig_of, type_, change, error, text):
    rig = rig_of(type_)
    for name, value in change.items():
        setattr(rig.service, name, value)
    with pytest.raises(error, match=text):
        rig.backend().check_connection()


@pytest.mark.parametrize(
    ("type_", "change", "text"),
    [
        ("sendgrid", {}, "may send"),
        ("postmark", {}, "Server 'Staging Testing'"),
        ("postmark", {"delivery_type": "Sandbox"}, "delivers to nobody"),
        ("brevo", {}, "Account Acme"),
        ("mailjet", {}, r"active senders: \*@acme.test\."),
        ("resend", {}, r"domains: acme.test \(verified\)"),
        ("resend", {"sending_only": True}, "This API key is restricted to only send emails"),
        ("mailersend", {}, "999 of 1000 requests left"),
        ("mandrill", {}, "PONG!"),
        ("postal", {}, "The key is known"),
        ("scaleway", {}, r"domains: acme.test \(checked\)"),
        ("mailtrap", {}, "The token is known"),
        ("mailgun", {}, "Domain mg.acme.test: active"),
        ("sparkpost", {}, "Account Acme: active"),
    ],
)
def test_each_service_says_what_it_has_to_say(rig_of, type_, change, text):
    rig = rig_of(type_)
    for name, value in change.items():
        setattr(rig.service, name, value)
    assert re.search(text, rig.backend().check_connection())


def test_a_message_stream_that_does_not_exist_is_told(rig_of):
    rig = rig_of("postmark")
    good = registry.connect("postmark", {**rig.config(), "message_stream": "outbound"})
    assert "message stream 'outbound'" in good.check_connection()
    bad = registry.connect("postmark", {**rig.config(), "message_stream": "no/such?"})
    with pytest.raises(Misconfigured, match="does not exist") as caught:
        bad.check_connection()
    assert caught.value.code == "bad_stream"


def test_a_mail_server_is_greeted_and_signed_in_to_and_left():
    with SmtpSink(users={"acme": "sesame-4711"}) as sink:
        backend = registry.connect("smtp", sink.config(username="acme", password="sesame-4711"), timeout=5)
        text = backend.check_connection()
        assert text.startswith("250")
        assert "8BITMIME" in text
        assert "signed in as acme" in text
        verbs = [command.split(" ")[0].upper() for command in sink.commands]
        assert "NOOP" in verbs
        assert "MAIL" not in verbs
        assert sink.accepted == []


@pytest.mark.parametrize(("reply", "error"), [("421 4.3.2 Later", TemporaryFailure), (0, TemporaryFailure)])
def test_a_mail_server_that_is_not_there_is_told(reply, error):
    with SmtpSink() as sink:
        config = sink.config()
        sink.replies["CONNECT"] = [reply] if reply else []
        if not reply:
            sink.__exit__(None, None, None)
        with pytest.raises(error):
            registry.connect("smtp", config, timeout=2).check_connection()


def test_a_directory_that_cannot_be_written_to_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    backend = registry.connect("file", {"directory": str(tmp_path / "file" / "below")})
    with pytest.raises(Misconfigured, match="Cannot write"):
        backend.check_connection()
    good = registry.connect("file", {"directory": str(tmp_path / "new")})
    assert good.check_connection() == "The directory can be written to."
    assert list((tmp_path / "new").iterdir()) == []


def test_a_type_without_such_a_call_says_so():
    class Silent(registry.backend_class("memory")):
        check_connection = registry.backend_class("file").__mro__[1].check_connection

    with pytest.raises(Unsupported, match="send a test message"):
        Silent({}).check_connection()
