"""RCPT TO: the grammar of RFC 5321 §4.1.2, and the number of recipients (SMTP-7)."""

import pytest


@pytest.fixture
def in_transaction(printer):
    printer.command("MAIL FROM:<app@acme.example> SMTPUTF8")
    return printer


@pytest.mark.parametrize(
    ("path", "address"),
    [
        ("<bob@example.org>", "bob@example.org"),
        (" <bob@example.org>", "bob@example.org"),
        ("<Bob.O'Neil+x=y@Example.ORG>", "Bob.O'Neil+x=y@Example.ORG"),
        ('<"bob b"@example.org>', '"bob b"@example.org'),
        ('<"b>o<b"@example.org>', '"b>o<b"@example.org'),
        ('<"b\\"ob"@example.org>', '"b\\"ob"@example.org'),
        ('<"a@b"@example.org>', '"a@b"@example.org'),
        ("<bob@[192.0.2.7]>", "bob@[192.0.2.7]"),
        ("<bob@[IPv6:2001:db8::1]>", "bob@[IPv6:2001:db8::1]"),
        ("<@a.example,@b.example:bob@example.org>", "bob@example.org"),
        ("<bob@localhost>", "bob@localhost"),
        ("<postmaster@example.org>", "postmaster@example.org"),
        ("<" + "a" * 64 + "@example.org>", "a" * 64 + "@example.org"),
        ("<bücher@bücher.example>", "bücher@bücher.example"),
        ("<用户@例子.广告>", "用户@例子.广告"),
        ("<संपर्क@डाटामेल.भारत>", "संपर्क@डाटामेल.भारत"),
    ],
)
def test_taken(in_transaction, recorder, path, address):
    assert in_transaction.command(f"RCPT TO:{path}") == "250 2.1.5 Recipient ok"
    in_transaction.command("DATA")
    assert in_transaction.command("\r\n.").startswith("250")
    assert recorder.messages[0].recipients == (address,)


@pytest.mark.parametrize(
    ("argument", "reply"),
    [
        ("", "501 5.5.4"),
        ("FROM:<bob@example.org>", "501 5.5.4"),
        ("TO:<>", "501 5.1.3"),
        ("TO:", "501 5.1.3"),
        ("TO:bob@example.org", "501 5.1.3"),
        ("TO:<bob@example.org", "501 5.1.3"),
        ("TO:bob@example.org>", "501 5.1.3"),
        ("TO:<bob@example.org>>", "501 5.1.3"),
        ("TO:<bob>", "501 5.1.3"),
        ("TO:<bob@>", "501 5.1.3"),
        ("TO:<@example.org>", "501 5.1.3"),
        ("TO:<bob@@example.org>", "501 5.1.3"),
        ("TO:<bob@ex@ample.org>", "501 5.1.3"),
        ("TO:<.bob@example.org>", "501 5.1.3"),
        ("TO:<bob.@example.org>", "501 5.1.3"),
        ("TO:<b..ob@example.org>", "501 5.1.3"),
        ("TO:<bob b@example.org>", "501 5.1.3"),
        ("TO:<bob@example..org>", "501 5.1.3"),
        ("TO:<bob@.example.org>", "501 5.1.3"),
        ("TO:<bob@example.org.>", "501 5.1.3"),
        ("TO:<bob@-example.org>", "501 5.1.3"),
        ("TO:<bob@example-.org>", "501 5.1.3"),
        ("TO:<bob@exa_mple.org>", "501 5.1.3"),
        ("TO:<bob@" + "a" * 64 + ".org>", "501 5.1.3"),
        ("TO:<" + "a" * 65 + "@example.org>", "501 5.1.3"),
        ("TO:<bob@" + ".".join(["a" * 60] * 5) + ">", "501 5.1.3"),
        ('TO:<"bob@example.org>', "501 5.1.3"),
        ('TO:<"bo"b@example.org>', "501 5.1.3"),
        ("TO:<bob@[192.0.2.700]>", "501 5.1.3"),
        ("TO:<bob@[192.0.2.7>", "501 5.1.3"),
        ("TO:<bob@[IPv6:nope]>", "501 5.1.3"),
        ("TO:<bob@[x400:abc]>", "501 5.1.3"),
        ("TO:<bob@example.org,eve@example.org>", "501 5.1.3"),
        ("TO:<bob@example.org\t>", "501 5.1.3"),
        ("TO:<bob\x7f@example.org>", "501 5.1.3"),
        ("TO:<bo\x01b@example.org>", "501 5.1.3"),
        ("TO:<bob@exa\u200bmple.org>", "501 5.1.3"),
        ("TO:<bo\u202eb@example.org>", "501 5.1.3"),
        ("TO:<bo\u0085b@example.org>", "501 5.1.3"),
        ("TO:<bob@ex\u2028ample.org>", "501 5.1.3"),
        ("TO:<bob@xn--\u00e9.example>", "501 5.1.3"),
        ("TO:<bob@\u00e9..example>", "501 5.1.3"),
        ("TO:<bob@" + "\u00e9" * 70 + ".example>", "501 5.1.3"),
        ("TO:<@nothing:>", "501 5.1.3"),
        ("TO:<@:bob@example.org>", "501 5.1.3"),
        ("TO:<postmaster>", "550 5.1.1"),
        ("TO:<PostMaster>", "550 5.1.1"),
        ("TO:<bob@example.org> NOTIFY=NEVER", "555 5.5.4"),
        ("TO:<bob@example.org> ORCPT=rfc822;x@y", "555 5.5.4"),
        ("TO:<bob@example.org> =", "501 5.5.4"),
    ],
)
def test_refused(in_transaction, argument, reply):
    assert in_transaction.command(f"RCPT {argument}").startswith(reply)
    assert in_transaction.command("DATA").startswith("554 5.5.1 No valid recipients")


@pytest.mark.parametrize("octets", [b"\x00", b"\r", b"\n", b"\x00>"])
def test_control_characters_make_no_address(in_transaction, octets):
    assert in_transaction.command(b"RCPT TO:<bo" + octets + b"b@example.org>").startswith("500 5.5.2")
    assert in_transaction.command("NOOP").startswith("250")


def test_an_internationalised_address_needs_smtputf8(printer):
    printer.command("MAIL FROM:<app@acme.example>")
    assert printer.command("RCPT TO:<bücher@example.org>").startswith("553 5.6.7")


def test_more_recipients_than_allowed_are_put_off_and_the_rest_is_kept(listen, recorder):
    from relay.tests.listening import ACME

    recorder.known_networks["127.0.0.1"] = ACME
    with listen(max_recipients=3).client() as client:
        client.commands("EHLO x", "MAIL FROM:<app@acme.example>")
        replies = client.commands(*(f"RCPT TO:<r{number}@example.org>" for number in range(5)))
        assert [reply[:9] for reply in replies] == ["250 2.1.5"] * 3 + ["452 4.5.3"] * 2
        assert client.command("DATA").startswith("354")
        assert client.command("\r\n.").startswith("250")
    assert len(recorder.messages[0].recipients) == 3


def test_bad_recipients_do_not_end_the_connection(in_transaction):
    for _ in range(50):
        assert in_transaction.command("RCPT TO:<broken>").startswith("501")
    assert in_transaction.command("RCPT TO:<bob@example.org>").startswith("250")


def test_a_hundred_thousand_recipients_end_the_connection(listen, recorder):
    from relay.tests.listening import ACME

    recorder.known_networks["127.0.0.1"] = ACME
    with listen(max_recipients=1000).client() as client:
        client.commands("EHLO x", "MAIL FROM:<app@acme.example>")
        accepted = 0
        try:
            for start in range(0, 100_000, 500):
                client.send(b"".join(b"RCPT TO:<r%d@example.org>\r\n" % n for n in range(start, start + 500)))
                replies = [client.reply() for _ in range(500)]
                accepted += sum(reply.startswith("250") for reply in replies)
                assert start < 10_000
        except (EOFError, OSError):
            assert accepted == 1000
        else:
            raise AssertionError("still connected")
