"""SMTP-6: whoever any reader may take for the author is checked."""

import pytest

from delivery.mime import originators


def read(*lines: bytes):
    return originators(b"\r\n".join(lines) + b"\r\n\r\nFrom: body@x.example\r\n")


def allowed(found) -> bool:
    """The check as acceptance makes it, for an account of acme.example."""
    return (
        not found.doubts
        and bool(found.from_)
        and all(a.endswith(("@acme.example", ".acme.example")) for a in (*found.from_, *found.sender))
    )


PASSES = [
    b"From: me@acme.example",
    b"from:me@acme.example",
    b"From : <me@acme.example>",
    b'From: "Me, Myself" <me@acme.example>',
    b'From: "you@globex.example" <me@acme.example>',
    b"From: me@acme.example (you@globex.example)",
    b"From: Pete(A nice \\) chap) <pete(his account)@acme.example(his host)>",
    b"From: me@acme.example <me@acme.example>",
    b"From: =?utf-8?q?J=C3=B6rg?= <me@acme.example>",
    b"From: =?utf-8?q?you=40globex.example_via_list?= <me@acme.example>",
    b"From: a@acme.example, B <b@acme.example>",
    b"From: Team: a@acme.example;",
    b"From: Me\r\n <me@acme.example>",
    "From: Jörg <jö@acme.example>".encode(),
    "From: Jörg <me@acme.example>".encode("latin-1"),
    b"From: Doe, John <me@acme.example>",
    b"From: me@acme.example\r\nSender: other@acme.example",
    b"X-From: you@globex.example\r\nFrom: me@acme.example",
    b"From you@globex.example Mon Sep  1 00:00:00 2025\r\nFrom: me@acme.example",
]


@pytest.mark.parametrize("header", PASSES)
def test_mail_of_the_account_passes(header):
    assert allowed(read(header))


REFUSED = {
    "no From": b"Subject: x",
    "empty": b"From:",
    "empty beside a good one": b"From: \r\nFrom: me@acme.example",
    "nobody": b"From: undisclosed:;",
    "a name alone": b"From: root",
    "another": b"From: you@globex.example",
    "two fields, good first": b"From: me@acme.example\r\nFrom: you@globex.example",
    "two fields, bad first": b"From: you@globex.example\r\nFrom: me@acme.example",
    "two addresses": b"From: me@acme.example, you@globex.example",
    "two without a comma": b"From: me@acme.example you@globex.example",
    "two in brackets": b"From: <me@acme.example> <you@globex.example>",
    "after the brackets": b"From: <me@acme.example> you@globex.example",
    "in the name": b"From: you@globex.example <me@acme.example>",
    "in an open quote": b'From: "you@globex.example <me@acme.example>',
    "in an open comment": b"From: me@acme.example (you@globex.example",
    "an open quote hides the next": b'From: me@acme.example, "x <you@globex.example>',
    "obsolete syntax": b"From: me@acme.example\r\nFrom : you@globex.example",
    "folded name": b"From: me@acme.example\r\nFROM\t: you@globex.example",
    "encoded brackets": b"From: =?utf-8?q?=3Cyou=40globex.example=3E=2C?= <me@acme.example>",
    "an encoded list": b"From: =?utf-8?b?" + b"PHlvdUBnbG9iZXguZXhhbXBsZT4s" + b"?= <me@acme.example>",
    "an encoded word read raw": b"From: =?utf-8?q?<you@globex.example>?= <me@acme.example>",
    "an encoded word in an open bracket": b"From: me@acme.example<=?utf-8?q?=3Cyou=40globex.example=3E?=[",
    "an encoded word before an open comment": b"From: =?utf-8?q?=3Cyou=40globex.example=3E?=(me@acme.example",
    "all encoded": b"From: =?utf-8?q?you=40globex.example?=",
    "a source route": b"From: <@acme.example:you@globex.example>",
    "a source route to us": b"From: <@globex.example:me@acme.example>",
    "a comment within the domain": b"From: me@globex.example(x).acme.example",
    "a blank within the domain": b"From: me@globex.example .acme.example",
    "a comment before the at": b"From: you@globex.example(x)@acme.example",
    "an address in a comment inside": b"From: me(<you@globex.example>)@acme.example",
    "an address in a comment after the at": b"From: me@(you@globex.example)acme.example",
    "two ats": b"From: you@globex.example@acme.example",
    "a quoted local part": b'From: "you@globex.example>,"@acme.example',
    "full-width at": "From: you＠globex.example@acme.example".encode(),
    "NUL": b"From: me@acme.example\x00you@globex.example",
    "NUL in the name of the field": b"From: me@acme.example\r\nFrom\x00: you@globex.example",
    "BOM before the first field": b"\xef\xbb\xbfFrom: you@globex.example\r\nFrom: me@acme.example",
    "a lone CR": b"Subject: x\rFrom: you@globex.example\r\nFrom: me@acme.example",
    "after a line of junk": b"From: me@acme.example\r\njunk\r\nFrom: you@globex.example",
    "after a line of dashes": b"From: me@acme.example\r\n--junk\r\nFrom: you@globex.example",
    "after a line of blanks": b"From: me@acme.example\r\n \r\nFrom: you@globex.example",
    "a broken fold": b"From: me@acme.example,\r\nyou@globex.example\r\nSubject: x",
    "Sender": b"From: me@acme.example\r\nSender: you@globex.example",
    "an empty Sender": b"From: me@acme.example\r\nSender: <>",
    "a suffix": b"From: me@acme.example.globex.example",
    "too large": b"From: " + b"me@acme.example, " * 2000 + b"me@acme.example",
    "header too large": b"From: me@acme.example\r\n" + b"X: y\r\n" * 200_000 + b"From: you@globex.example",
}


@pytest.mark.parametrize("header", REFUSED.values(), ids=REFUSED.keys())
def test_mail_that_may_be_read_as_somebody_elses_does_not(header):
    assert not allowed(read(header))


def test_the_body_names_nobody():
    assert read(b"From: me@acme.example").from_ == ("me@acme.example",)


def test_addresses_are_named_once_and_doubts_say_why():
    found = read(b"From: me@acme.example", b"From: me@acme.example", b"Sender: a@acme.example")
    assert (found.from_, found.sender, found.doubts) == (("me@acme.example",), ("a@acme.example",), ())
    assert read(b"From: nobody").doubts == ("no address in From",)
