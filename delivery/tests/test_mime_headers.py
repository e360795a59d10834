"""The top-level header: where it ends, what it holds, decoded values (RFC 2047, RFC 6532, RFC 5322 §4)."""

import pytest

from delivery.mime import header_block, header_items, header_values, looks_multipart, parse, received_count
from delivery.tests.mime_samples import crlf

SUBJECTS = [
    (b"plain", "plain"),
    (b"  blanks  ", "blanks"),
    (b"folded\r\n line", "folded line"),
    (b"folded\r\n\tline", "folded line"),
    (b"folded\r\n \r\n line", "folded line"),
    (b"=?utf-8?q?caf=C3=A9?=", "café"),
    (b"=?UTF-8?B?Y2Fmw6k=?= au lait", "café au lait"),
    (b"=?utf-8?q?one?= =?utf-8?q?_two?=", "one two"),
    (b"=?utf-8?q?one?=\r\n =?iso-8859-1?q?_tw=F6?=", "one twö"),
    (b"a =?utf-8?q?b?= c", "a b c"),
    (b"=?utf-8?q?split=C3?= =?utf-8?q?=A9?=", "splité"),
    (b"=?utf-8?b?w6nD?= =?utf-8?b?qQ==?=", "éé"),
    (b"=?utf-8?b?w6?= =?utf-8?b?k=?=", "é"),
    (b"=?utf-8?b?w6k=?= =?utf-8?b?w6k=?=", "éé"),
    (b"=?utf-8?b?w6k?=", "é"),
    (b"=?utf-8?q?with blanks?=", "with blanks"),
    (b"=?utf-8*en?q?caf=C3=A9?=", "café"),
    (b"=?utf-8?q?a=3Fb=3D?=", "a?b="),
    (b"=?utf-8?q??=", ""),
    (b"=?utf-8?Q?bad=ZZescape?=", "bad=ZZescape"),
    (b"=?utf-8?x?unknown?=", "=?utf-8?x?unknown?="),
    (b"=?utf-8?b?!!!?=", "=?utf-8?b?!!!?="),
    (b"=?utf-8?q?never closed", "=?utf-8?q?never closed"),
    (b"=?utf-8?q?open =?utf-8?q?closed?=", "=?utf-8?q?open closed"),
    (b"=?NONE?B?VEVTVA=?=", "TEST"),
    (b"=?nope-8?q?caf=C3=A9?=", "café"),
    (b"=?nope-8?q?caf=E9?=", "café"),
    (b"=?us-ascii?q?caf=E9?=", "café"),
    (b"=?rot13?q?abc?=", "abc"),
    (b"=?utf-16?q?abc?=", "abc"),
    (b"=?iso-2022-jp?B?GyRCJUYlOSVIGyhC?=", "テスト"),
    (b"=?shift_jis?B?g2WDWINn?=", "テスト"),
    (b"=?gb2312?B?1tDOxA==?=", "中文"),
    (b"=?ks_c_5601-1987?B?x9G6uw==?=", "한본"),
    ("raw ütf-8 ✓".encode(), "raw ütf-8 ✓"),
    ("raw lätin".encode("latin-1"), "raw lätin"),
    (b"\x1b$B%F%9%H\x1b(B", "テスト"),
    (b"=?utf-8?q?a=0D=0ABcc:_x@y?=", "a  Bcc: x@y"),
    (b"nul\x00byte", "nul byte"),
    (b"", ""),
]


@pytest.mark.parametrize(("raw", "text"), SUBJECTS)
def test_values_are_decoded(raw, text):
    whole = b"Subject: " + raw + b"\r\n\r\nbody"
    assert header_values(whole, "subject") == [text]
    assert parse(whole).subject == text


def test_raw_octets_of_a_subject_are_read_in_the_charset_of_the_body():
    raw = "Subject: привет\r\nContent-Type: text/plain; charset=koi8-r\r\n\r\n".encode("koi8-r")
    assert parse(raw).subject == "привет"


HEADERS = {
    "plain": (b"Subject: s\r\n\r\nb", "b"),
    "lone LF": (b"Subject: s\n\nb", "b"),
    "mixed line ends": (b"Subject: s\n\r\nb", "b"),
    "lone CR": (b"Subject: s\r\rb", "b"),
    "mbox line first": (b"From x@y.example Mon Sep  1 00:00:00 2025\r\nSubject: s\r\n\r\nb", "b"),
    "quoted mbox line first": (b">From x@y.example Mon\r\nSubject: s\r\n\r\nb", "b"),
    "junk first": (b"junk here\r\nSubject: s\r\n\r\nb", "b"),
    "an indented line first": (b" junk\r\nSubject: s\r\n\r\nb", "b"),
    "junk within": (b"X: y\r\njunk here\r\nSubject: s\r\n\r\nb", "b"),
    "a name with blanks within": (b"X: y\r\nquite Wrong: x\r\nSubject: s\r\n\r\nb", "b"),
    "obsolete syntax": (b"Subject  : s\r\n\r\nb", "b"),
    "empty lines first": (b"\r\n\r\nSubject: s\r\n\r\nb", "b"),
    "a line of blanks within": (b"X: y\r\n \r\nSubject: s\r\n\r\nb", "b"),
    "no empty line before the text": (b"Subject: s\r\nhello there\r\n\r\nb", "hello there\n\nb"),
    "no empty line, a link": (b"Subject: s\r\nhello\r\nhttp://x.example/\r\n\r\nb", "hello\nhttp://x.example/\n\nb"),
    "two subjects": (b"Subject: s\r\nSubject: t\r\n\r\nb", "b"),
}


@pytest.mark.parametrize(("raw", "body"), HEADERS.values(), ids=HEADERS.keys())
def test_the_header_ends_where_readers_see_it_end(raw, body):
    content = parse(raw)
    assert (content.subject, content.text) == ("s", body)


@pytest.mark.parametrize("name", [n for n in HEADERS if n not in ("lone CR", "empty lines first")])
def test_our_own_received_line_in_front_changes_nothing(name):
    raw, body = HEADERS[name]
    content = parse(b"Received: from a.example\r\n\tby b.example; x\r\n" + raw)
    assert (content.subject, content.text) == ("s", body)


def test_a_message_that_is_no_header_at_all_is_text():
    assert parse(b"Hello there,\r\nhow are you?\r\n\r\nBye").text == "Hello there,\nhow are you?\n\nBye"


def test_a_fold_after_junk_belongs_to_the_field_before():
    content = parse(crlf("To: Mary Smith\n__\n <mary@x.example>\nSubject: s\n\n"))
    assert content.to[0].address == "mary@x.example"


@pytest.mark.parametrize(
    ("raw", "block"),
    [
        (b"A: 1\r\nB: 2\r\n\r\nbody", b"A: 1\r\nB: 2\r\n"),
        (b"A: 1\n\nbody", b"A: 1\n"),
        (b"A: 1\r\n", b"A: 1\r\n"),
        (b"A: 1", b"A: 1"),
        (b"\r\nbody", b""),
        (b"", b""),
    ],
)
def test_header_block_is_the_fields_alone(raw, block):
    assert header_block(raw) == block


def test_header_values_finds_every_field_of_a_name_in_any_case():
    assert header_values(b"x-a: 1\r\nX-A : 2\r\nX-AB: 3\r\n\r\nX-A: 4", "X-a") == ["1", "2"]
    assert header_values(b"x-a: 1", "x-é") == []


def test_header_items_are_all_fields_in_order():
    raw = b"B: 1\r\nb: =?utf-8?q?=C3=A9?=\r\nA:\r\n 2\r\n\r\nC: 3"
    assert header_items(raw) == [("b", "1"), ("b", "é"), ("a", "2")]


def test_received_fields_of_the_header_are_counted():
    raw = b"Received: a\r\nreceived : b\r\n c\r\nX-Received: d\r\nRECEIVED:e\r\n\r\nReceived: f\r\n"
    assert received_count(raw) == 3
    assert received_count(b"") == 0


@pytest.mark.parametrize(
    ("content_type", "expected"),
    [
        (None, False),
        ("text/plain", False),
        ("TEXT/HTML; charset=utf-8", False),
        ("text", False),
        ("multipart/alternative; boundary=x", False),
        ("multipart/mixed; boundary=x", True),
        ("multipart/related", True),
        ("application/pdf", True),
    ],
)
def test_attachments_are_guessed_from_the_content_type_alone(content_type, expected):
    raw = f"Content-Type: {content_type}\r\n\r\n".encode() if content_type else b"Subject: x\r\n\r\n"
    assert looks_multipart(raw) is expected
