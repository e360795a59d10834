"""The SMTP type against a server that keeps exact bytes (PRV-3, PRV-4, PRV-7, PRV-11)."""

import dataclasses
import socket
import ssl
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import trustme

from providers import registry
from providers.backends import smtp as smtp_module
from providers.backends.smtp_wire import own_name, stuffed
from providers.base import RecipientStatus
from providers.exceptions import BadSettings, Misconfigured, PermanentFailure, TemporaryFailure, TooLarge, Unsupported
from providers.fidelity import Fidelity
from providers.tests.messages import ANNA, BERT, CARA, outbound, parse, text_only
from providers.tests.signing import Signer
from providers.tests.standins import SmtpSink
from providers.tests.standins.smtp import CUT

PLAIN = b"Subject: x\r\n\r\nbody\r\n"


@pytest.fixture
def sink():
    with SmtpSink() as sink:
        yield sink


@pytest.fixture
def connect():
    backends = []

    def make(sink, timeout=5.0, **more):
        backends.append(registry.connect("smtp", sink.config(**more), timeout))
        return backends[-1]

    yield make
    for backend in backends:
        backend.close()


@pytest.fixture(scope="module")
def ca():
    return trustme.CA()


@pytest.fixture
def tls(ca):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("localhost").configure_cert(context)
    return context


@pytest.fixture
def ca_certificate(ca):
    return ca.cert_pem.bytes().decode()


# Bytes

EXACT = [
    b"",
    b"Subject: x\r\n\r\n",
    b".\r\n",
    b"..\r\n",
    b".leading\r\n..two\r\n.\r\n",
    b"Subject: x\r\n\r\n.\r\n.\r\n\r\n.\r\n",
    b"Subject: x\r\n\r\n" + b".\r\n" * 500,
    b"\r\n",
    b"\r\n\r\n\r\n",
    b"x" * 5000 + b"\r\n",
    bytes(n for n in range(256) if n not in (10, 13)) + b"\r\n",
    b"Subject: big\r\n\r\n" + (b"." + b"x" * 75 + b"\r\n") * 20_000,
]


@pytest.mark.parametrize("raw", EXACT, ids=lambda raw: f"{len(raw)}-{raw[:12]!r}")
def test_the_bytes_arrive_as_they_are(sink, connect, raw):
    connect(sink).send(outbound(raw))
    assert sink.accepted[0].data == raw


def test_a_last_line_without_end_gets_one(sink, connect):
    connect(sink).send(outbound(b"Subject: x\r\n\r\nend"))
    assert sink.accepted[0].data == b"Subject: x\r\n\r\nend\r\n"


@pytest.mark.parametrize("raw", [b"a\nb\r\n", b"a\rb\r\n", b"x\r\n\n.\r\n", b"x\n.\n", b"x\r\n.\r", b"\n", b"x\r\r\n"])
def test_bare_line_ends_are_not_sent(sink, connect, raw):
    """Servers differ in what ends a line there, so that a second message could be smuggled in."""
    with pytest.raises(Unsupported) as caught:
        connect(sink).send(outbound(raw))
    assert caught.value.code == "bare_newline"
    assert sink.connections == 0


def test_nothing_in_the_message_can_end_it_early():
    for raw in EXACT:
        wire = stuffed(raw)
        assert (b"\r\n" + wire).index(b"\r\n.\r\n") == len(wire) - 3


# Envelope


def test_sender_recipients_and_parameters_are_told_as_they_are(sink, connect):
    recipients = [ANNA, '"anna b"@globex.test', "Anna+tag@[192.0.2.1]"]
    connect(sink).send(outbound(PLAIN, recipients, mail_from=""))
    (mail,) = sink.accepted
    assert (mail.mail_from, mail.recipients) == ("", recipients)
    assert mail.parameters == [f"SIZE={len(PLAIN)}"]
    assert sink.commands[0] == "ehlo client.test"


def test_eight_bit_content_is_announced(sink, connect):
    connect(sink).send(outbound(text_only()))
    assert "BODY=8BITMIME" in sink.accepted[0].parameters
    assert "SMTPUTF8" not in sink.accepted[0].parameters


def test_eight_bit_content_is_encoded_anew_for_a_seven_bit_server(connect):
    """PRV-4: nothing of it is lost, and who asks before the next message is told."""
    message = outbound(text_only())
    with SmtpSink(features=("PIPELINING",)) as sink:
        backend = connect(sink)
        assert backend.verdict(message).fidelity is Fidelity.LOSSLESS  # nobody knows the server yet
        backend.send(message)
        backend.send(outbound(PLAIN))
        assert backend.verdict(message).fidelity is Fidelity.MAPPED
        assert backend.verdict(outbound(PLAIN)).fidelity is Fidelity.LOSSLESS
        first, second = sink.accepted
        assert first.data.isascii()
        assert parse(first.data).text == message.content.text
        assert "BODY=8BITMIME" not in first.parameters
        assert second.data == PLAIN
        assert sink.connections == 1


def test_signed_eight_bit_content_is_not_sent_to_a_seven_bit_server(connect):
    """PRV-4: never signed mail."""
    with SmtpSink(features=("PIPELINING",)) as sink:
        backend = connect(sink)
        with pytest.raises(Unsupported) as caught:
            backend.send(outbound(Signer("shop@acme.test").dkim(text_only().as_bytes())))
        assert caught.value.code == "8bitmime_required"
        backend.send(outbound(PLAIN))
        assert (len(sink.accepted), sink.connections) == (1, 1)


@pytest.mark.parametrize(
    ("mail_from", "recipient", "raw"),
    [
        ("jörg@acme.test", ANNA, PLAIN),
        ("a@acme.test", "jörg@globex.test", PLAIN),
        ("a@acme.test", ANNA, "Subject: Grüße\r\n\r\nx\r\n".encode()),
    ],
)
def test_smtputf8_is_used_where_offered_and_required_where_needed(connect, mail_from, recipient, raw):
    message = outbound(raw, [recipient], mail_from=mail_from, smtputf8=True)
    with SmtpSink() as sink:
        connect(sink).send(message)
        assert "SMTPUTF8" in sink.accepted[0].parameters
        assert (sink.accepted[0].mail_from, sink.accepted[0].recipients) == (mail_from, [recipient])
    with SmtpSink(features=("8BITMIME",)) as sink:
        with pytest.raises(Unsupported) as caught:
            connect(sink).send(message)
        assert caught.value.code == "smtputf8_required"


def test_domains_are_written_in_ascii_for_a_server_without_smtputf8(connect):
    with SmtpSink(features=("8BITMIME",)) as sink:
        result = connect(sink).send(outbound(PLAIN, ["anna@bücher.example"], smtputf8=True))
        assert sink.accepted[0].recipients == ["anna@xn--bcher-kva.example"]
    assert list(result.recipients) == ["anna@bücher.example"]


def test_a_message_above_the_announced_size_is_not_sent(connect):
    with SmtpSink(features=("SIZE 1000",)) as sink:
        with pytest.raises(TooLarge) as caught:
            connect(sink).send(outbound(PLAIN + b"x" * 2000 + b"\r\n"))
        assert caught.value.code == "too_large"
        assert not any(command.startswith("MAIL") for command in sink.commands)


INJECTIONS = ["a@x.test>\r\nRCPT TO:<b@x.test", "a b@x.test", "a@x.test> SIZE=1", "a\x00@x.test", "<a@x.test>"]


@pytest.mark.parametrize("address", INJECTIONS)
def test_an_address_cannot_become_a_command(sink, connect, address):
    backend = connect(sink)
    for message in (outbound(PLAIN, [address]), outbound(PLAIN, mail_from=address)):
        with pytest.raises(PermanentFailure) as caught:
            backend.send(message)
        assert caught.value.code == "bad_address"
    assert sink.accepted == []
    backend.send(outbound(PLAIN))
    assert len(sink.accepted) == 1


# Refusals


def statuses(result):
    return [one.status.value for one in result.recipients.values()]


def test_recipients_are_refused_one_by_one(sink, connect):
    sink.refused = {BERT: "550 5.1.1 No such user", CARA: "451 4.2.1 Try later"}
    result = connect(sink).send(outbound(PLAIN, [ANNA, BERT, CARA]))
    assert statuses(result) == ["delivered", "failed", "deferred"]
    assert (result.recipients[BERT].code, result.recipients[BERT].text) == ("550", "5.1.1 No such user")
    assert sink.accepted[0].recipients == [ANNA]
    assert result.provider_message_id == result.recipients[ANNA].provider_message_id != ""


def test_when_all_recipients_are_refused_nothing_is_sent_and_the_session_goes_on(sink, connect):
    sink.refused = {ANNA: "550 5.1.1 No such user", BERT: "450 4.2.0 Greylisted"}
    backend = connect(sink)
    assert statuses(backend.send(outbound(PLAIN, [ANNA, BERT]))) == ["failed", "deferred"]
    backend.send(outbound(PLAIN, [CARA]))
    assert "DATA" not in sink.commands[: sink.commands.index("RSET")]
    assert (len(sink.accepted), sink.connections) == (1, 1)


@pytest.mark.parametrize("features", [("PIPELINING",), ()])
def test_a_server_that_takes_fewer_recipients_defers_the_rest(connect, features):
    with SmtpSink(features=features, max_recipients=3) as sink:
        result = connect(sink).send(outbound(PLAIN, [f"r{n}@x.test" for n in range(70)]))
        assert statuses(result) == ["delivered"] * 3 + ["deferred"] * 67


@pytest.mark.parametrize(
    ("reply", "status"),
    [("552 Too many recipients", "deferred"), ("552 5.5.3 Too many", "deferred"), ("552 5.2.2 Mailbox full", "failed")],
)
def test_552_for_a_later_recipient(sink, connect, reply, status):
    sink.refused = {BERT: reply}
    assert statuses(connect(sink).send(outbound(PLAIN, [ANNA, BERT]))) == ["delivered", status]


REFUSALS = [
    ("MAIL", "451 4.7.1 Try later", TemporaryFailure, "deferred"),
    ("MAIL", "503 5.5.1 Bad sequence", TemporaryFailure, "deferred"),
    ("MAIL", "550 5.7.1 Sender not allowed", Unsupported, "sender_refused"),
    ("MAIL", "552 5.3.4 Too big", TooLarge, "too_large"),
    ("MAIL", "530 5.7.0 Authentication required", Misconfigured, "bad_credentials"),
    ("RCPT", "530 5.7.0 Must issue a STARTTLS command first", Misconfigured, "relay_denied"),
    ("RCPT", "554 5.7.1 Relay access denied", Misconfigured, "relay_denied"),
    ("DATA", "451 4.3.0 Try later", TemporaryFailure, "deferred"),
    ("DATA", "554 5.5.1 No", PermanentFailure, "refused"),
    (".", "451 4.3.0 Try later", TemporaryFailure, "deferred"),
    (".", "421 4.3.2 Shutting down", TemporaryFailure, "deferred"),
    (".", "550 5.7.1 Spam", PermanentFailure, "refused"),
    (".", "552 5.3.4 Too big", TooLarge, "too_large"),
    (".", "554 5.2.3 Too big", TooLarge, "too_large"),
    (".", "535 5.7.8 Who are you", Misconfigured, "bad_credentials"),
]


@pytest.mark.parametrize(("verb", "reply", "kind", "code"), REFUSALS)
def test_refusals_have_their_class(sink, connect, verb, reply, kind, code):
    sink.replies = {verb: [reply]}
    backend = connect(sink)
    with pytest.raises(kind) as caught:
        backend.send(outbound(PLAIN))
    assert type(caught.value) is kind
    assert (caught.value.code, caught.value.status_code) == (code, int(reply[:3]))
    assert reply[4:] in caught.value.text
    assert not getattr(caught.value, "outcome_unknown", False)
    assert sink.accepted == []
    backend.send(outbound(PLAIN))  # the next message is not harmed
    assert len(sink.accepted) == 1


def test_with_a_login_a_denied_relay_is_about_the_recipient(connect):
    with SmtpSink(users={"acme": "secret"}, refused={ANNA: "554 5.7.1 Relay access denied"}) as sink:
        backend = connect(sink, username="acme", password="secret")
        assert statuses(backend.send(outbound(PLAIN))) == ["failed"]


# Connections


def test_messages_share_a_session(sink, connect):
    backend = connect(sink)
    for _ in range(5):
        backend.send(outbound(PLAIN))
    assert {mail.session for mail in sink.accepted} == {1}
    assert "RSET" not in sink.commands


def test_threads_have_sessions_of_their_own(sink, connect):
    backend, start = connect(sink), threading.Barrier(6)
    sink.delay = 0.02

    def work(_):
        start.wait(5)
        for _ in range(4):
            backend.send(outbound(PLAIN))

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(work, range(6)))
    assert len(sink.accepted) == 24
    assert sink.connections <= 6


@pytest.mark.parametrize("first_command", [CUT, "421 4.4.2 Idle for too long"])
def test_a_kept_session_that_has_ended_is_replaced_without_a_word(sink, connect, first_command):
    backend = connect(sink)
    backend.send(outbound(PLAIN))
    sink.replies = {"MAIL": [first_command]}
    backend.send(outbound(PLAIN))
    assert [mail.session for mail in sink.accepted] == [1, 2]


def test_a_fresh_session_that_ends_is_a_failure(sink, connect):
    sink.replies = {"MAIL": [CUT]}
    with pytest.raises(TemporaryFailure) as caught:
        connect(sink).send(outbound(PLAIN))
    assert (caught.value.code, caught.value.outcome_unknown, sink.connections) == ("connection_lost", False, 1)


def test_a_session_idle_for_long_is_not_used_again(sink, connect):
    backend = connect(sink, idle_seconds=0)
    backend.send(outbound(PLAIN))
    threading.Event().wait(0.01)
    backend.send(outbound(PLAIN))
    assert [mail.session for mail in sink.accepted] == [1, 2]


def test_a_session_ends_after_so_many_messages(sink, connect, monkeypatch):
    monkeypatch.setattr(smtp_module, "MAX_TRANSACTIONS", 2)
    backend = connect(sink)
    for _ in range(5):
        backend.send(outbound(PLAIN))
    assert [mail.session for mail in sink.accepted] == [1, 1, 2, 2, 3]


@pytest.mark.parametrize("verb", ["RCPT", "DATA"])
def test_a_connection_lost_before_the_message_is_certain(sink, connect, verb):
    sink.replies = {verb: [CUT]}
    with pytest.raises(TemporaryFailure) as caught:
        connect(sink).send(outbound(PLAIN))
    assert (caught.value.code, caught.value.outcome_unknown) == ("connection_lost", False)


@pytest.mark.parametrize(
    ("order", "code"), [(CUT, "connection_lost"), (1.5, "timeout"), ("garbage", "connection_lost")]
)
def test_no_reply_to_the_final_dot_leaves_the_outcome_unknown(sink, connect, order, code):
    sink.replies = {".": [order]}
    backend = connect(sink, timeout=5)
    backend.config["data_timeout"] = 1  # less than anybody may set
    with pytest.raises(TemporaryFailure) as caught:
        backend.send(outbound(PLAIN))
    assert (caught.value.code, caught.value.outcome_unknown) == (code, True)
    backend.send(outbound(PLAIN))
    assert sink.accepted[-1].session == 2


def test_a_reply_to_the_final_dot_may_take_longer_than_other_waits(sink, connect):
    sink.delay = 0.6
    connect(sink, timeout=0.3).send(outbound(PLAIN))
    assert len(sink.accepted) == 1


def test_a_connection_cut_in_the_middle_of_the_message_is_certain(sink, connect, monkeypatch):
    def cut(session):
        session.fill()
        session.connection.close()
        raise ConnectionError

    monkeypatch.setattr("providers.tests.standins.smtp._Session._content", cut)
    with pytest.raises(TemporaryFailure) as caught:
        connect(sink).send(outbound(b"Subject: x\r\n\r\n" + b"x" * 20_000_000 + b"\r\n"))
    assert (caught.value.code, caught.value.outcome_unknown) == ("connection_lost", False)


@pytest.mark.parametrize(
    ("greeting", "kind", "code"),
    [
        ("421 4.3.2 Too busy", TemporaryFailure, "unavailable"),
        ("450 4.3.2 Later", TemporaryFailure, "unavailable"),
        ("554 5.7.1 You are on a list", Misconfigured, "turned_away"),
        (CUT, TemporaryFailure, "connection_failed"),
        ("garbage", TemporaryFailure, "unavailable"),
    ],
)
def test_greetings(sink, connect, greeting, kind, code):
    sink.replies = {"CONNECT": [greeting]}
    with pytest.raises(kind) as caught:
        connect(sink).send(outbound(PLAIN))
    assert (type(caught.value), caught.value.code) == (kind, code)
    assert caught.value.status_code == (int(greeting[:3]) if greeting[0].isdigit() else None)


def test_a_server_that_says_nothing_times_out(connect):
    with socket.create_server(("127.0.0.1", 0)) as server:
        config = {"host": "127.0.0.1", "port": server.getsockname()[1], "security": "none"}
        with pytest.raises(TemporaryFailure) as caught:
            registry.connect("smtp", config, 0.2).send(outbound(PLAIN))
    assert (caught.value.code, caught.value.outcome_unknown) == ("connect_timeout", False)


def test_an_unknown_host_is_temporary():
    with pytest.raises(TemporaryFailure) as caught:
        registry.connect("smtp", {"host": "no-such-host.invalid", "security": "none"}, 2).send(outbound(PLAIN))
    assert caught.value.code == "connection_failed"


def test_a_server_without_ehlo_is_greeted_the_old_way(sink, connect):
    sink.replies = {"EHLO": ["500 What?"]}
    connect(sink).send(outbound(PLAIN))
    assert sink.accepted[0].parameters == []


# TLS and AUTH


@pytest.mark.parametrize("implicit", [False, True])
def test_tls_with_the_configured_authority(tls, ca_certificate, connect, implicit):
    with SmtpSink(tls=tls, implicit=implicit) as sink:
        connect(sink, ca_certificate=ca_certificate).send(outbound(PLAIN))
        assert sink.accepted[0].tls


@pytest.mark.parametrize("implicit", [False, True])
def test_an_untrusted_certificate_is_refused(tls, connect, implicit):
    with SmtpSink(tls=tls, implicit=implicit) as sink:
        with pytest.raises(Misconfigured) as caught:
            connect(sink).send(outbound(PLAIN))
        assert caught.value.code == "tls_certificate"
        assert not any(command.startswith("MAIL") for command in sink.commands)


def test_a_certificate_for_another_name_is_refused(ca, ca_certificate, connect):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("other.test").configure_cert(context)
    with SmtpSink(tls=context) as sink, pytest.raises(Misconfigured) as caught:
        connect(sink, ca_certificate=ca_certificate).send(outbound(PLAIN))
    assert caught.value.code == "tls_certificate"


def test_verification_can_be_switched_off(tls, connect):
    with SmtpSink(tls=tls) as sink:
        connect(sink, verify_certificate=False).send(outbound(PLAIN))
        assert sink.accepted[0].tls


def test_without_starttls_nothing_is_sent_in_the_clear(sink, connect):
    with pytest.raises(Misconfigured) as caught:
        connect(sink, security="starttls").send(outbound(PLAIN))
    assert caught.value.code == "tls_unavailable"
    assert not any(command.startswith("MAIL") for command in sink.commands)


def test_starttls_that_is_put_off_is_temporary(tls, ca_certificate, connect):
    with SmtpSink(tls=tls, replies={"STARTTLS": ["454 4.7.0 Not now"]}) as sink:
        with pytest.raises(TemporaryFailure) as caught:
            connect(sink, ca_certificate=ca_certificate).send(outbound(PLAIN))
        assert caught.value.code == "unavailable"


@pytest.mark.parametrize("mechanisms", [("PLAIN",), ("LOGIN",), ("CRAM-MD5", "PLAIN", "LOGIN"), ("login",)])
def test_auth_uses_what_is_offered_and_takes_any_password(connect, mechanisms):
    with SmtpSink(users={"büro@acme": "pässwört 🔑"}, mechanisms=mechanisms) as sink:
        connect(sink, username="büro@acme", password="pässwört 🔑").send(outbound(PLAIN))
        assert sink.accepted[0].username == "büro@acme"


def test_a_wrong_password_is_told_without_it(connect):
    with SmtpSink(users={"acme": "right-password"}, replies={"AUTH": ["535 5.7.8 No: wrong-password"]}) as sink:
        with pytest.raises(Misconfigured) as caught:
            connect(sink, username="acme", password="wrong-password").send(outbound(PLAIN))
        assert (caught.value.code, caught.value.text) == ("bad_credentials", "535 5.7.8 No: ***")


def test_auth_that_is_put_off_is_temporary(connect):
    with SmtpSink(users={"acme": "secret"}, replies={"AUTH": ["454 4.7.0 Temporary failure"]}) as sink:
        with pytest.raises(TemporaryFailure) as caught:
            connect(sink, username="acme", password="secret").send(outbound(PLAIN))
        assert caught.value.code == "unavailable"


def test_a_server_without_auth_is_a_wrong_row(sink, connect):
    with pytest.raises(Misconfigured) as caught:
        connect(sink, username="acme", password="secret").send(outbound(PLAIN))
    assert caught.value.code == "auth_unavailable"


# Settings


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"username": "acme"}, "password: required with a user name"),
        ({"password": "secret"}, "username: required with a password"),
        ({"username": "acme", "password": "secret", "security": "none"}, "security: a user name and password need"),
        ({"security": "maybe"}, "security: must be one of"),
        ({"port": "25"}, "port: must be a whole number"),
        ({"port": True}, "port: must be a whole number"),
        ({"port": 0}, "port: must be at least 1 and at most 65535"),
        ({"port": 65536}, "port: must be at least 1 and at most 65535"),
        ({"data_timeout": 0}, "data_timeout: must be at least 30"),
        ({"data_timeout": 10**12}, "data_timeout: must be at least 30 and at most 300"),
        ({"idle_seconds": -1}, "idle_seconds: must be at least 0"),
        ({"idle_seconds": 10**6}, "idle_seconds: must be at least 0 and at most 300"),
        ({"host": ""}, "host: required"),
        ({"ehlo_name": "two words"}, "ehlo_name: must be a host name, or an address in brackets"),
        ({"ehlo_name": "[127.0.0.1"}, "ehlo_name: "),
        ({"ehlo_name": "[::1]"}, "ehlo_name: "),
        ({"username": "a\x00b", "password": "secret"}, "username: must have no control characters"),
        ({"username": "a\ud800", "password": "secret"}, "username: must have no control characters"),
        ({"ca_file": "/etc/passwd"}, "ca_file: unknown setting"),
        ({"ca_certificate": "trust me"}, "ca_certificate: must be certificates as PEM text"),
        ({"ca_certificate": "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----"}, "ca_certificate: "),
        ({"ca_certificate": "-----BEGIN PRIVATE KEY-----"}, "ca_certificate: must hold certificates only"),
    ],
)
def test_settings_that_cannot_work_are_told_at_once(settings, text):
    with pytest.raises(BadSettings, match=text):
        registry.connect("smtp", {"host": "mail.test", **settings})


@pytest.mark.parametrize(
    "host",
    [
        "mx example",
        "mx.example:25",
        "[::1]",
        "a" * 64 + ".example",
        "a..example",
        "http://mx.example",
        "mx.example/x",
        "user@mx.example",
        "127.1",
        "0x7f000001",
        "2130706433",
        "1.2.3.256",
        "mx\u0000.example",
        "\ud800.example",
    ],
)
def test_what_is_no_host_name_is_refused(host):
    with pytest.raises(BadSettings, match="host: must "):
        registry.connect("smtp", {"host": host})


@pytest.mark.parametrize(
    ("entered", "asked_for"),
    [
        ("MX.Example", "mx.example"),
        ("mx.example.", "mx.example"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("my_host.example", "my_host.example"),
        ("192.0.2.1", "192.0.2.1"),
        ("2001:DB8::1", "2001:db8::1"),
        ("localhost", "localhost"),
    ],
)
def test_a_host_is_asked_for_as_the_dns_sees_it(entered, asked_for):
    assert registry.connect("smtp", {"host": entered})._target.host == asked_for


@pytest.mark.parametrize("name", ["mx.example", "[192.0.2.1]", "[IPv6:2001:db8::1]"])
def test_a_name_for_ehlo_is_a_domain_or_an_address_literal(name):
    assert registry.connect("smtp", {"host": "mx.example", "ehlo_name": name})._target.ehlo_name == name


def test_a_password_goes_without_encryption_only_where_that_is_wanted():
    login = {"username": "acme", "password": "secret", "security": "none"}
    registry.connect("smtp", {"host": "127.0.0.1", **login})
    registry.connect("smtp", {"host": "mx.example", "allow_plaintext": True, **login})


@pytest.mark.parametrize("wrong", [{"port": 10**30}, {"host": "a" * 64 + ".example"}, {"host": "\ud800"}])
def test_a_setting_that_cannot_be_used_has_sent_nothing(wrong):
    """As may stand in a row that was written past the checks."""
    backend = registry.connect("smtp", {"host": "127.0.0.1"}, 1)
    backend._target = dataclasses.replace(backend._target, **wrong)
    with pytest.raises(Misconfigured) as caught:
        backend.send(outbound(PLAIN))
    assert caught.value.code == "bad_config"


def test_a_user_name_that_cannot_be_written_has_sent_nothing(tls, ca_certificate, connect):
    with SmtpSink(tls=tls, users={"acme": "secret"}) as sink:
        backend = connect(sink, ca_certificate=ca_certificate, username="acme", password="secret")
        backend._target = dataclasses.replace(backend._target, password="sesame\ud800")
        with pytest.raises(Misconfigured) as caught:
            backend.send(outbound(PLAIN))
    assert caught.value.code == "bad_config"
    assert "sesame" not in caught.value.text


def test_a_recipient_status_is_one_of_three():
    assert [status.value for status in RecipientStatus] == ["delivered", "deferred", "failed"]


def test_this_host_has_a_name_for_ehlo():
    assert "." in own_name()
