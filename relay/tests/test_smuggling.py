"""Only CR LF . CR LF ends a message, and nothing else starts a second one (SMTP-9)."""

from itertools import product

import pytest

from relay.tests.listening import ACME

ENDS = [b"\n", b"\r", b"\r\n", b"\n\r", b"\r\r\n", b"\r\n\n", b"\0\r\n"]
MARKERS = [before + b"." + after for before, after in product(ENDS, repeat=2)]
MARKERS += [b"\r\n.\0\r\n", b"\r\n\0.\r\n", b"\r\n. \r\n", b"\r\n .\r\n", b"\r\n..\r\n", b"\n\n.\n\n"]
MARKERS += [b"\r\n.\x0b\r\n", b"\r\n.\x85\r\n"]
REAL = b"\r\n.\r\n"
SMUGGLED = b"MAIL FROM:<ceo@acme.example>\r\nRCPT TO:<eve@example.org>\r\nDATA\r\nSubject: smuggled\r\n\r\nboo"


@pytest.fixture(params=["normalise", "reject"])
def talk(request, listen, recorder):
    recorder.known_networks["127.0.0.1"] = ACME
    with listen(bare_lf=request.param).client() as client:
        client.command("EHLO x")
        yield client


@pytest.mark.parametrize("marker", [m for m in MARKERS if REAL not in m])
@pytest.mark.parametrize("in_pieces", [False, True])
def test_nothing_but_the_marker_ends_a_message(talk, recorder, marker, in_pieces):
    talk.envelope()
    stream = b"Subject: first\r\n\r\nbody" + marker + SMUGGLED + REAL
    if in_pieces:
        cut = stream.index(marker) + len(marker) // 2
        talk.send(stream[:cut])
        talk.send(stream[cut:])
    else:
        talk.send(stream)
    reply = talk.reply()
    assert reply.startswith(("250 2.0.0", "550 5.6.11", "550 5.6.0"))
    # One answer for one message, and the conversation is where it ought to be.
    assert talk.command("NOOP").startswith("250 2.0.0 Ok")
    assert len(recorder.messages) == reply.startswith("250")
    for message, body in zip(recorder.messages, recorder.bodies, strict=True):
        assert message.mail_from == "app@acme.example"
        assert message.recipients == ("bob@example.org",)
        assert b"smuggled" in body
        # What is stored has no line end but CR LF, so no server after us can see another message in it.
        assert b"\n" not in body.replace(b"\r\n", b"")
        assert b"\r" not in body.replace(b"\r\n", b"")


def test_a_dot_line_that_comes_of_normalising_is_in_the_message(printer, recorder):
    printer.message(b"Subject: x\r\n\r\nbefore\n.\nafter\r\n")
    assert recorder.body == b"Subject: x\r\n\r\nbefore\r\n.\r\nafter\r\n"


def test_by_default_a_lone_lf_becomes_cr_lf(printer, recorder):
    assert printer.message(b"Subject: script\nX: y\n\nhello\n\r\n").startswith("250")
    assert recorder.body == b"Subject: script\r\nX: y\r\n\r\nhello\r\n\r\n"


def test_a_message_of_lone_lf_only_does_not_end_and_times_out(listen, recorder):
    recorder.known_networks["127.0.0.1"] = ACME
    with listen(data_timeout=0.4).client() as client:
        client.command("EHLO x")
        client.envelope()
        client.send(b"Subject: x\n\nhello\n.\nQUIT\n")
        assert client.reply().startswith("421 4.4.2")
    assert recorder.messages == []


@pytest.mark.parametrize(("bare_lf", "reply"), [("reject", "550 5.6.11"), ("normalise", "250")])
def test_a_lone_lf_is_refused_where_configured(listen, recorder, bare_lf, reply):
    recorder.known_networks["127.0.0.1"] = ACME
    with listen(bare_lf=bare_lf).client() as client:
        client.command("EHLO x")
        assert client.message(b"Subject: x\n\r\nhello\r\n").startswith(reply)


def test_a_lone_cr_is_refused_after_the_whole_message_was_read(printer, recorder):
    printer.envelope()
    printer.send(b"Subject: x\r\n\r\nhe\rllo\r\n")
    printer.send(b"still the message\r\n.\r\n")
    assert printer.reply().startswith("550 5.6.11")
    assert printer.message(b"Subject: next\r\n\r\n").startswith("250")


def test_a_command_line_never_ends_with_a_lone_lf(printer):
    printer.send(b"NOOP\nMAIL FROM:<app@acme.example>\nRSET\r\n")
    assert printer.reply().startswith("500 5.5.2 Lines must end")
    assert printer.command("RCPT TO:<bob@example.org>").startswith("503")
