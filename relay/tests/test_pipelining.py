"""PIPELINING is announced and true (RFC 2920, SMTP-2)."""

import pytest

from relay.tests.listening import ACME, cut_off


def test_a_whole_transaction_in_one_segment(printer, recorder):
    printer.send(
        b"MAIL FROM:<app@acme.example>\r\nRCPT TO:<a@example.org>\r\nRCPT TO:<broken>\r\nRCPT TO:<b@example.org>\r\n"
        b"DATA\r\n"
    )
    assert [printer.reply()[:3] for _ in range(5)] == ["250", "250", "501", "250", "354"]
    printer.send(b"Subject: x\r\n\r\nhello\r\n.\r\nMAIL FROM:<app@acme.example>\r\nNOOP\r\nQUIT\r\n")
    assert [printer.reply()[:3] for _ in range(4)] == ["250", "250", "250", "221"]
    assert recorder.messages[0].recipients == ("a@example.org", "b@example.org")


def test_replies_that_can_wait_go_out_together(printer):
    printer.send(b"NOOP\r\n" * 40)
    printer.socket.settimeout(5)
    received = printer.socket.recv(65536)
    while received.count(b"\r\n") < 40:
        received += printer.socket.recv(65536)
    assert received == b"250 2.0.0 Ok\r\n" * 40


def test_message_octets_sent_before_the_354_are_the_message(printer, recorder):
    """Against the standard, and harmless: the order of the octets leaves no doubt."""
    printer.send(
        b"MAIL FROM:<app@acme.example>\r\nRCPT TO:<a@example.org>\r\nDATA\r\nSubject: hasty\r\n\r\n.\r\nNOOP\r\n"
    )
    assert [printer.reply()[:3] for _ in range(5)] == ["250", "250", "354", "250", "250"]
    assert recorder.body == b"Subject: hasty\r\n\r\n"


SESSION = (
    b"MAIL FROM:<app@acme.example>\r\nRCPT TO:<a@example.org>\r\nDATA\r\nSubject: cut\r\n\r\n..dot\r\n.\r\n"
    b"RSET\r\nXYZZY\r\nMAIL FROM:<app@globex.example>\r\nQUIT\r\n"
)


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 11, 64])
def test_where_the_network_cuts_the_stream_makes_no_difference(printer, recorder, size):
    for start in range(0, len(SESSION), size):
        printer.send(SESSION[start : start + size])
    assert [printer.reply()[:3] for _ in range(8)] == ["250", "250", "354", "250", "250", "500", "550", "221"]
    assert recorder.body == b"Subject: cut\r\n\r\n.dot\r\n"


def test_a_giant_pipeline_does_not_keep_others_waiting(listen, recorder):
    recorder.known_networks["127.0.0.1"] = ACME
    running = listen()
    with running.client() as hog, running.client() as other:
        hog.command("EHLO x")
        hog.command("MAIL FROM:<app@acme.example>")
        hog.socket.setblocking(False)
        sent = 0
        junk = b"NOOP " + b"x" * 100 + b"\r\n"
        other.socket.settimeout(5)
        for _ in range(30):
            try:
                while True:
                    sent += hog.socket.send(junk * 100)
            except BlockingIOError:
                pass
            assert other.command("NOOP").startswith("250")
        assert sent > 1_000_000


def test_a_client_that_never_reads_is_dropped(listen, recorder):
    recorder.known_networks["127.0.0.1"] = ACME
    running = listen(idle_timeout=0.5, idle_timeout_before_auth=0.5)
    with running.client() as deaf:
        deaf.command("EHLO x")
        deaf.command("MAIL FROM:<app@acme.example>")
        deaf.socket.settimeout(20)
        assert cut_off(lambda: deaf.send(b"HELP\r\n" * 10_000), 20)
