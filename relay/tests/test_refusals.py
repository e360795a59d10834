"""What the listener refuses leaves a row, with what is known of the session and no secret in it (SMTP-18)."""

import socket

import pytest

from delivery.exceptions import Deferred
from delivery.models import RefusedSession
from relay.handler import Domain
from relay.metrics import REFUSED
from relay.tests.listening import ACME, Running
from relay.tests.test_auth import GOOD_PLAIN, b64

SECRET = "hunter2-not-for-anybody"


@pytest.fixture
def noted(listen, recorder):
    """Runs a conversation of a client that has said EHLO over TLS, and gives back what was refused."""

    def run(*lines, signed_in=True, secure=True, **changes):
        running = listen(**changes)
        with running.client() as client:
            if secure:
                client.hello()
            else:
                client.command("EHLO x")
            if signed_in:
                assert client.command(f"AUTH PLAIN {GOOD_PLAIN}").startswith("235")
            for line in lines:
                client.command(line)
        running.stop()
        return [kept.refusal for kept in recorder.refusals]

    return run


@pytest.mark.parametrize(
    ("lines", "reason", "fields"),
    [
        (["MAIL FROM:<joe@foreign.example>"], "sender_not_allowed", {"mail_from": "joe@foreign.example"}),
        (["MAIL FROM:<app@acme.example> SIZE=99999999999"], "message_too_big", {"size": 99999999999}),
        (["MAIL FROM:<app@acme.example> X=1"], "unknown_parameter", {}),
        (
            ["MAIL FROM:<app@acme.example>", "RCPT TO:<ann@outside.example>", "RCPT TO:<bert@>"],
            "bad_recipient_syntax",
            {"recipient": "<bert@>", "recipient_count": 1},
        ),
        (
            ["MAIL FROM:<app@acme.example>", "RCPT TO:<ann@outside.example>", "DATA", "a\0b\r\n."],
            "nul_octet",
            {"recipient": "ann@outside.example", "mail_from": "app@acme.example"},
        ),
    ],
)
def test_what_an_account_is_refused_is_kept_with_its_account_and_envelope(noted, lines, reason, fields):
    [refusal] = noted(*lines)
    assert (refusal.reason, refusal.account_id, refusal.tenant_id) == (reason, ACME.account_id, ACME.tenant_id)
    assert (refusal.username, refusal.client_ip, refusal.helo) == ("crm@acme", "127.0.0.1", "client.example")
    assert {name: getattr(refusal, name) for name in fields} == fields
    assert refusal.tls.startswith("TLSv1.")
    assert refusal.reply[:3] in {"550", "552", "555", "501"}
    assert refusal.session_id


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (f"AUTH PLAIN {b64(chr(0) + 'crm@acme' + chr(0) + SECRET)}", "wrong_password"),
        (f"AUTH PLAIN {b64('other' + chr(0) + 'crm@acme' + chr(0) + SECRET)}", "acts_for_another"),
        (f"AUTH PLAIN {b64('crm@acme' + chr(0) + SECRET)}", "bad_credentials_form"),
        (f"AUTH CRAM-MD5 {b64(SECRET)}", "unknown_mechanism"),
        ("MAIL FROM:<app@acme.example>", "authentication_required"),
    ],
)
def test_a_login_that_is_refused_is_kept_with_the_username_and_without_the_password(noted, line, reason):
    [refusal] = noted(line, signed_in=False)
    assert refusal.reason == reason
    assert refusal.username == ("crm@acme" if reason in {"wrong_password", "acts_for_another"} else "")
    assert SECRET not in repr(refusal)
    assert b64(SECRET)[:-4] not in repr(refusal)


def test_a_client_that_uses_no_tls_is_told_apart(noted):
    found = noted("AUTH PLAIN", "MAIL FROM:<app@acme.example>", signed_in=False, secure=False)
    assert [one.reason for one in found] == ["encryption_required", "starttls_required"]
    assert found[1].mail_from == "app@acme.example"


@pytest.mark.parametrize("implicit", [True, False])
def test_a_tls_handshake_that_fails_is_kept_and_a_probe_that_goes_away_is_not(listen, recorder, implicit):
    running = listen()
    port = running.tls_port if implicit else running.port
    for garbage in (b"no TLS at all\r\n" * 20, b""):
        with socket.create_connection(("127.0.0.1", port), timeout=10) as wire:
            if not implicit:
                for line in (b"", b"EHLO x\r\n", b"STARTTLS\r\n"):
                    wire.sendall(line)
                    while not wire.recv(4096).splitlines()[-1].startswith((b"220 ", b"250 ")):
                        pass
            wire.sendall(garbage)
            if garbage:
                wire.shutdown(socket.SHUT_WR)
                while wire.recv(4096):
                    pass
    running.stop()
    assert [kept.refusal.reason for kept in recorder.refusals] == ["tls_failed"]
    assert recorder.refusals[0].refusal.client_ip == "127.0.0.1"


def test_what_acceptance_refuses_is_kept_as_it_is_counted(noted, recorder):
    before = REFUSED.labels("quota")._value.get()
    recorder.answer = lambda submission: Deferred("The quota is used up", code="quota", status="4.2.2")
    lines = ["MAIL FROM:<app@acme.example>", "RCPT TO:<ann@outside.example>", "DATA", "Subject: x\r\n\r\nx\r\n."]
    [refusal] = noted(*lines)
    assert (refusal.reason, refusal.reply) == ("quota", "452 4.2.2 The quota is used up")
    assert REFUSED.labels("quota")._value.get() == before + 1


def test_a_connection_too_many_is_kept(listen, recorder):
    running = listen(max_connections_per_address=1)
    with running.client(), running.client() as second:
        assert second.at_end()
    running.stop()
    assert [kept.refusal.reason for kept in recorder.refusals] == ["max_connections_per_address"]


@pytest.mark.django_db(transaction=True)
def test_the_row_is_there_when_the_listener_has_stopped(acme_account):
    with Running(Domain()) as running, running.client() as client:
        client.hello()
        client.command(f"AUTH PLAIN {b64(chr(0) + 'CRM@acme' + chr(0) + SECRET)}")
    row = RefusedSession.objects.get()
    assert (row.reason, row.account, row.username) == ("wrong_password", acme_account, "CRM@acme")
    assert all(SECRET not in str(value) for value in vars(row).values())
