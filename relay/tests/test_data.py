"""DATA: what is stored is what was sent, with one Received field before it (SMTP-8, SMTP-17)."""

import hashlib
import os
import smtplib
import socket
import uuid
from email.utils import parsedate_to_datetime
from pathlib import Path

import pytest

from delivery.exceptions import Deferred, Rejected
from delivery.submission import Accepted
from relay.tests.listening import ACME, PASSWORD, client_context, cut_off, without_trace


def stuffed(message):
    return (b"\r\n" + message).replace(b"\r\n.", b"\r\n..")[2:]


BIG = (
    b"Subject: big\r\n\r\n"
    + b"\r\n".join(hashlib.sha512(b"%d" % n).hexdigest().encode() for n in range(60_000))
    + b"\r\n"
)
LINES = {
    "plain": b"Subject: x\r\n\r\nhello\r\n",
    "empty": b"",
    "no body": b"Subject: x\r\n",
    "8-bit undeclared": "Subject: grüße\r\n\r\nfür\r\n".encode("latin-1"),
    "dots": b"Subject: x\r\n\r\n.\r\n..\r\n...\r\n.a\r\n",
    "dot first": b".a: b\r\n\r\n",
    "long line": b"Subject: x\r\n\r\n" + b"y" * 300_000 + b"\r\n",
    "blank line first": b"\r\nSubject: not a header\r\n",
    "every octet": b"Subject: x\r\n\r\n" + bytes(set(range(256)) - {0, 10, 13}) + b"\r\n",
    "3 MB spooled": BIG[:3_000_000] + b"\r\n",
}


@pytest.mark.parametrize("message", LINES.values(), ids=LINES.keys())
def test_octets_are_kept(printer, recorder, message):
    assert printer.message(stuffed(message)).startswith("250 2.0.0 Ok: queued as ")
    assert recorder.body == message


@pytest.mark.parametrize("cut", [1, 2, 3, 4, 5])
def test_the_marker_may_come_in_pieces(printer, recorder, cut):
    printer.envelope()
    printer.send(b"a: b\r\n.\r\n"[: 4 + cut])
    printer.send(b"a: b\r\n.\r\n"[4 + cut :])
    assert printer.reply().startswith("250")
    assert recorder.body == b"a: b\r\n"


def test_the_corpus_goes_through_unchanged(printer, recorder):
    corpus = Path(__file__).resolve().parents[3] / "shared" / "corpora"
    if not corpus.is_dir():
        pytest.skip("no ../shared/corpora beside the project")
    sent = []
    for path in sorted(corpus.glob("*.eml")):
        message = (
            path.read_bytes().replace(b"\r\n", b"\n").replace(b"\r", b"").replace(b"\0", b"").replace(b"\n", b"\r\n")
        )
        message = message if message.endswith(b"\r\n") else message + b"\r\n"
        assert printer.message(stuffed(message)).startswith("250"), path.name
        sent.append(message)
    assert [without_trace(body) for body in recorder.bodies] == sent


def test_the_reply_names_the_message(printer, recorder):
    reply = printer.message(b"\r\n")
    assert uuid.UUID(reply.removeprefix("250 2.0.0 Ok: queued as ")) == recorder.messages[0].message_id


def test_one_received_field_is_put_first(signed_in, recorder):
    signed_in.message(b"Subject: x\r\n\r\n", "bob@example.org")
    field = recorder.bodies[0].removesuffix(b"Subject: x\r\n\r\n").replace(b"\r\n\t", b" ").decode()
    message = recorder.messages[0]
    assert field.startswith("Received: from client.example ([127.0.0.1]) by localhost with ESMTPSA (TLSv1.3 ")
    assert f" id {message.message_id} for <bob@example.org>; " in field
    assert abs((parsedate_to_datetime(field.rsplit("; ")[1].strip()) - message.received_at).total_seconds()) < 2


def test_with_several_recipients_none_is_named(printer, recorder):
    printer.message(b"\r\n", "bob@example.org", "secret@example.org")
    assert b"secret" not in recorder.bodies[0]


def test_smtputf8_is_told_onwards(printer, recorder):
    printer.commands("MAIL FROM:<jörg@acme.example> SMTPUTF8", "RCPT TO:<bücher@example.org>", "DATA")
    assert printer.command(".").startswith("250")
    assert recorder.messages[0].smtputf8
    assert b"with UTF8SMTP id" in recorder.bodies[0].replace(b"\r\n\t", b" ")
    assert recorder.messages[0].recipients == ("bücher@example.org",)


def test_the_submission_says_where_it_came_from(printer, recorder):
    printer.message(b"\r\n")
    [message] = recorder.messages
    assert message.source == "smtp"
    assert message.client_ip == "127.0.0.1"
    assert message.session_id
    assert message.account_id == ACME.account_id


def test_data_needs_mail_and_rcpt(printer):
    assert printer.command("DATA").startswith("503 5.5.1 Send MAIL")
    printer.command("MAIL FROM:<app@acme.example>")
    assert printer.command("DATA").startswith("503 5.5.1 Send RCPT")
    printer.command("RCPT TO:<bob@example.org>")
    assert printer.command("DATA now").startswith("501")
    assert printer.command("DATA").startswith("354")
    assert printer.command(".").startswith("250")
    assert printer.command("DATA").startswith("503")


def test_several_messages_on_one_connection_have_nothing_in_common(printer, recorder):
    printer.message(b"a: 1\r\n", "one@example.org")
    printer.message(b"b: 2\r\n", "two@example.org")
    assert [message.recipients for message in recorder.messages] == [("one@example.org",), ("two@example.org",)]
    assert b"a: 1" not in recorder.bodies[1]


def test_a_message_above_the_limit_is_read_to_its_end_and_refused(listen, recorder):
    recorder.known_networks["127.0.0.1"] = ACME
    with listen(max_message_size=100_000).client() as client:
        client.command("EHLO x")
        line = b"x" * 98 + b"\r\n"
        assert client.message(line * 1000).startswith("250")
        assert client.message(line * 1001).startswith("552 5.3.4")
        assert client.message(line).startswith("250")


def test_a_message_that_does_not_end_is_cut_off(listen, recorder):
    recorder.known_networks["127.0.0.1"] = ACME
    with listen(max_message_size=100_000, spool_threshold=10_000).client() as client:
        client.command("EHLO x")
        client.envelope()
        assert cut_off(lambda: client.send(b"x" * 100_000))
    assert recorder.messages == []


def test_a_nul_octet_is_refused(printer):
    assert printer.message(b"Subject: x\r\n\r\na\0b\r\n").startswith("550 5.6.0")


@pytest.mark.parametrize(("count", "reply"), [(50, "250"), (51, "554 5.4.6")])
def test_a_message_that_has_passed_too_many_hosts_is_a_loop(printer, count, reply):
    fields = b"Received: from a by b; Mon, 1 Jan 2024 00:00:00 +0000\r\n" * count
    assert printer.message(fields + b"Subject: x\r\n\r\n" + fields).startswith(reply)


def test_a_loop_is_seen_in_a_spooled_message_too(listen, recorder):
    recorder.known_networks["127.0.0.1"] = ACME
    with listen(spool_threshold=2000, max_received_headers=10).client() as client:
        client.command("EHLO x")
        looping = b"Received: from a by b; x\r\n" * 11 + b"\r\n" + BIG[:50_000] + b"\r\n"
        assert client.message(looping).startswith("554 5.4.6")


@pytest.mark.parametrize(
    ("answer", "reply"),
    [
        (Rejected("No such sender.", code="x", status="5.7.1"), "550 5.7.1 No such sender."),
        (Rejected("Too big for all.", code="x", status="5.3.4"), "552 5.3.4 Too big for all."),
        (Deferred("Store is full.", code="x", status="4.3.1"), "452 4.3.1 Store is full."),
        (Deferred("Slow down.", code="x", status="4.7.1"), "451 4.7.1 Slow down."),
    ],
)
def test_what_acceptance_refuses_is_told_in_its_words(printer, recorder, answer, reply):
    recorder.answer = lambda submission: answer
    assert printer.message(b"\r\n") == reply
    assert printer.command("NOOP").startswith("250")


def test_a_failure_inside_is_temporary_and_tells_nothing(printer, recorder):
    def fail(submission):
        raise RuntimeError("password of the database")

    recorder.answer = fail
    assert printer.message(b"\r\n") == "451 4.3.0 Temporary failure; try again later"
    recorder.answer = lambda submission: Accepted(submission.message_id)
    assert printer.message(b"\r\n").startswith("250")


def test_a_full_disk_is_our_failure_and_the_conversation_goes_on(listen, recorder, tmp_path):
    recorder.known_networks["127.0.0.1"] = ACME
    not_a_directory = tmp_path / "file"
    not_a_directory.write_text("")
    with listen(spool_threshold=2000, spool_path=str(not_a_directory)).client() as client:
        client.command("EHLO x")
        assert client.message(BIG[:100_000] + b"\r\n").startswith("451 4.3.0")
        assert client.message(b"small: 1\r\n").startswith("250")


def test_a_client_that_goes_away_in_the_middle_leaves_nothing(listener, printer, recorder):
    printer.envelope()
    printer.send(b"Subject: half\r\n\r\nhel")
    printer.close()
    with listener.client() as other:
        other.command("NOOP")
    assert recorder.messages == []


def test_a_client_that_only_stops_sending_still_gets_its_reply(printer, recorder):
    printer.envelope()
    printer.send(b"Subject: x\r\n.\r\nQUIT\r\n")
    printer.socket.shutdown(socket.SHUT_WR)
    assert printer.reply().startswith("250")
    assert printer.reply().startswith("221")


def test_smtplib_delivers_ten_megabytes_over_tls(listener, recorder):
    body = b"Subject: big\r\n\r\n" + b"\r\n".join(os.urandom(30).hex().encode() for _ in range(165_000)) + b"\r\n"
    with smtplib.SMTP("127.0.0.1", listener.port) as client:
        client.starttls(context=client_context())
        client.login("crm@acme", PASSWORD)
        client.sendmail("app@acme.example", ["bob@example.org"], body)
    assert recorder.body == body
