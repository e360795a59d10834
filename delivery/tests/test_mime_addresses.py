"""Address lists as real mail writes them (RFC 5322 §3.4 and §4.4, RFC 6532)."""

import pytest

from delivery.mime import addresses

LISTS = [
    ("bob@x.example", [("", "bob@x.example")]),
    ("<bob@x.example>", [("", "bob@x.example")]),
    ("Bob <bob@x.example>", [("Bob", "bob@x.example")]),
    ('"Doe, John" <j@x.example>, Mary <m@y.example>', [("Doe, John", "j@x.example"), ("Mary", "m@y.example")]),
    (r'"a \"quoted\" name" <j@x.example>', [('a "quoted" name', "j@x.example")]),
    ("j@x.example (John (Joe) Doe)", [("John (Joe) Doe", "j@x.example")]),
    ("=?utf-8?q?J=C3=B6rg?= <j@x.example>", [("Jörg", "j@x.example")]),
    ('"=?utf-8?b?SsO2cmc=?=" <j@x.example>', [("Jörg", "j@x.example")]),
    ("=?utf-8?q?Doe,_John?= <j@x.example>", [("Doe, John", "j@x.example")]),
    ("=?utf-8?q?J=C3=B6?= =?utf-8?q?rg?= <j@x.example>", [("Jörg", "j@x.example")]),
    ("jö@exämple.de", [("", "jö@exämple.de")]),
    ('"much.more unusual"@x.example', [("", '"much.more unusual"@x.example')]),
    ("bob@[192.0.2.1]", [("", "bob@[192.0.2.1]")]),
    ("Bob <bob@[IPv6:2001:db8::1]>", [("Bob", "bob@[IPv6:2001:db8::1]")]),
    ("<@a.example,@b.example:c@d.example>", [("", "c@d.example")]),
    ("bob @ x.example", [("", "bob@x.example")]),
    ("bob@ machine .example", [("", "bob@machine.example")]),
    ("bob(comment)@x.example", [("comment", "bob@x.example")]),
    # groups
    ("undisclosed-recipients:;", []),
    ("Undisclosed recipients: ;, a@x.example", [("", "a@x.example")]),
    (
        "Team: A <a@x.example>, b@x.example; c@y.example",
        [("A", "a@x.example"), ("", "b@x.example"), ("", "c@y.example")],
    ),
    ("<Undisclosed-Recipient:@mailman.x.example;>", []),
    # missing and foreign separators
    ("a@x.example; b@x.example", [("", "a@x.example"), ("", "b@x.example")]),
    ("A <a@x.example> B <b@x.example>", [("A", "a@x.example"), ("B", "b@x.example")]),
    (", a@x.example,,", [("", "a@x.example")]),
    # names without brackets, junk after the address
    ("Bob bob@x.example", [("Bob", "bob@x.example")]),
    ("bob@x.example tail", [("", "bob@x.example")]),
    ("<bob@x.example> tail", [("", "bob@x.example")]),
    ("<bob@x.example>>", [("", "bob@x.example")]),
    ("<bob@x.example", [("", "bob@x.example")]),
    ("bob@x.example>", [("", "bob@x.example")]),
    ("bob@x.example <bob@x.example>", [("bob@x.example", "bob@x.example")]),
    ("mailto:bob@x.example", [("", "bob@x.example")]),
    ("<mailto:bob@x.example>", [("", "bob@x.example")]),
    ('"unclosed <bob@x.example>', [("unclosed", "bob@x.example")]),
    ("bob@x.example (unclosed", [("", "bob@x.example")]),
    ("(((bob@x.example", [("", "bob@x.example")]),
    ('"bob@x.example"', [("", "bob@x.example")]),
    ("=?utf-8?q?Bob_=3Cbob=40x.example=3E?=", [("Bob", "bob@x.example")]),
    # what is no address
    ("", []),
    ("<>", []),
    ("MAILER DAEMON <>", []),
    ("root", []),
    ('"xxxxx@xxxxx" <matmail>', []),
    ("foo@", []),
    ("@x.example", []),
    ("a@[", []),
]


@pytest.mark.parametrize(("value", "expected"), LISTS, ids=[v for v, _ in LISTS])
def test_address_lists(value, expected):
    assert [(m.name, m.address) for m in addresses(value)] == expected
    if value.isascii():
        assert addresses(value.encode()) == addresses(value)


def test_raw_utf8_and_latin1_octets_are_read():
    assert [(m.name, m.address) for m in addresses("Jörg <jö@ä.de>".encode())] == [("Jörg", "jö@ä.de")]
    assert [(m.name, m.address) for m in addresses("Jörg <j@x.example>".encode("latin-1"))] == [("Jörg", "j@x.example")]


def test_folded_values_are_one_list():
    assert [m.address for m in addresses(b"a@x.example,\r\n\tb@x.example,\r\n \r\n c@x.example")] == [
        "a@x.example",
        "b@x.example",
        "c@x.example",
    ]


def test_no_name_or_address_holds_a_line_break():
    (box,) = addresses("=?utf-8?q?a=0D=0ABcc:_x=40y?= <a@x.example>")
    assert box.name == "a Bcc: x@y"
