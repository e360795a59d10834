"""MIM-3: broken MIME is read as most mail programs read it, is named, and loses nothing.

`original` says whether the original message must be attached because the parts cannot be told with certainty.
"""

from dataclasses import dataclass, field

import pytest

from delivery.mime import parse
from delivery.tests.mime_samples import crlf

MIXED = "From: a@acme.example\nSubject: s\nContent-Type: multipart/mixed; boundary=b\n\n"


@dataclass
class Case:
    raw: str | bytes
    text: str | None = None
    html: str | None = None
    files: list[tuple[str, bytes]] = field(default_factory=list)
    defects: tuple[str, ...] = ()
    original: bool = False


CASES = {
    # boundaries
    "no closing boundary": Case(
        MIXED + "--b\n\none\n--b\nContent-Type: a/b; name=x\n\ntwo\n",
        "one",
        files=[("x", b"two\r\n")],
        defects=("multipart-not-closed",),
    ),
    "no boundary parameter": Case(
        "Content-Type: multipart/mixed\n\n--zzz\nContent-Type: text/plain\n\none\n--zzz--\n",
        "one",
        defects=("boundary-guessed",),
    ),
    "another boundary than declared": Case(
        MIXED + "--other\nContent-Type: text/html\n\none\n--other--\n", html="one", defects=("boundary-guessed",)
    ),
    "no boundary at all": Case(MIXED + "just text\n", "just text\n", defects=("boundary-missing",)),
    "parts without any boundary": Case(
        MIXED + "Content-Type: a/b\n\nx\n",
        "Content-Type: a/b\n\nx\n",
        defects=("boundary-missing", "original-attached"),
        original=True,
    ),
    "nothing between boundaries": Case(MIXED + "--b\n--b--\n", ""),
    "an empty part": Case(MIXED + "--b\n\n--b\n\none\n--b--\n", "one"),
    "no body at all": Case("Content-Type: multipart/mixed; boundary=b\n\n", ""),
    "preamble and epilogue": Case(MIXED + "pre\n--b\n\none\n--b--\nepilogue\n", "one"),
    "blanks after the boundary": Case(MIXED + "--b \t\n\none\n--b-- \n", "one"),
    "a boundary with blanks": Case(
        'Content-Type: multipart/mixed; boundary="a b: c"\n\n--a b: c\n\none\n--a b: c--\n', "one"
    ),
    "an unquoted boundary with forbidden letters": Case(
        "Content-Type: multipart/mixed; boundary=----=_N=1\n\n------=_N=1\n\none\n------=_N=1--\n", "one"
    ),
    "an inner boundary that begins like the outer one": Case(
        MIXED
        + "--b\nContent-Type: multipart/alternative; boundary=b_alt\n\n--b_alt\n\none\n--b_alt\n"
        + "Content-Type: text/html\n\n<p>\n--b_alt--\n--b\nContent-Type: a/b; name=x\n\ntwo\n--b--\n",
        "one",
        "<p>",
        [("x", b"two")],
    ),
    "an outer boundary that begins like the inner one": Case(
        "Content-Type: multipart/mixed; boundary=bb\n\n--bb\nContent-Type: multipart/alternative; boundary=b\n\n"
        "--b\n\none\n--b\nContent-Type: text/html\n\n<p>\n--b--\n--bb\nContent-Type: a/b; name=x\n\ntwo\n--bb--\n",
        "one",
        "<p>",
        [("x", b"two")],
    ),
    "the inner and the outer boundary are one": Case(
        MIXED
        + "--b\nContent-Type: multipart/alternative; boundary=b\n\n--b\n\none\n--b\nContent-Type: text/html\n\n<p>\n"
        + "--b--\n--b\nContent-Type: a/b; name=x\n\ntwo\n--b--\n",
        "one",
        "<p>",
        [("x", b"two")],
    ),
    "the inner multipart is not closed": Case(
        MIXED
        + "--b\nContent-Type: multipart/alternative; boundary=i\n\n--i\n\none\n"
        + "--b\nContent-Type: a/b; name=x\n\ntwo\n--b--\n",
        "one",
        files=[("x", b"two")],
        defects=("multipart-not-closed",),
    ),
    "parts after the closing boundary": Case(
        MIXED + "--b\n\none\n--b--\n--b\nContent-Type: a/b; name=x\n\ntwo\n--b--\n", "one", files=[("x", b"two")]
    ),
    "no empty line before the first boundary": Case(
        "Subject: s\nContent-Type: multipart/mixed; boundary=b\n--b\nContent-Type: text/plain\n\none\n--b--\n",
        "one",
        defects=("header-garbage",),
    ),
    "a part without a header": Case(MIXED + "--b\none\ntwo\n--b--\n", "one\ntwo", defects=("header-garbage",)),
    "a part whose header has no end": Case(
        MIXED + "--b\nContent-Type: text/plain\none\n\ntwo\n--b--\n", "one\n\ntwo", defects=("header-garbage",)
    ),
    "a multipart that claims to be base64": Case(
        MIXED.replace("\n\n", "\nContent-Transfer-Encoding: base64\n\n") + "--b\n\none\n--b--\n", "one"
    ),
    # types
    "garbage for a type": Case("Content-Type: ;;\n\nx", "x", defects=("content-type-invalid",)),
    "a type without a subtype": Case("Content-Type: text\n\nx", "x"),
    "an encoded word for a type": Case("Content-Type: =?utf-8?q?x?=\n\nx", "x", defects=("content-type-invalid",)),
    "garbage for the type of a file": Case(
        MIXED + '--b\nContent-Type: pdf; name="x.pdf"\n\nP\n--b--\n',
        files=[("x.pdf", b"P")],
        defects=("content-type-invalid",),
    ),
    "garbage for the type of an attachment": Case(
        MIXED + "--b\nContent-Type: ?\nContent-Disposition: attachment\n\nP\n--b--\n",
        files=[("attachment-1.bin", b"P")],
        defects=("content-type-invalid",),
    ),
    "two types": Case("Content-Type: text/html\nContent-Type: text/plain\n\nx", html="x"),
    "a bad type before a good one": Case("Content-Type: nonsense\nContent-Type: text/html\n\nx", html="x"),
    "conflicting RFC 2231 parameters": Case(
        MIXED + "--b\nContent-Type: a/b; name*1=x; name*1*=utf-8''y; name*0*=z; name=w\n\nP\n--b--\n",
        files=[("zx", b"P")],
    ),
    "an encoded word for a disposition": Case("Content-Disposition: =?utf-8?q?x?=\n\nx", "x"),
    "an empty disposition": Case(
        MIXED + "--b\nContent-Type: image/png\nContent-Disposition:\n\nP\n--b--\n", files=[("attachment-1.png", b"P")]
    ),
    "a file name with a path and controls": Case(
        MIXED
        + "--b\nContent-Type: a/b\nContent-Disposition: attachment; filename*=utf-8''..%2F%0D%0A%00x\n\nP\n--b--\n",
        files=[("../ x", b"P")],
    ),
    # encodings and charsets
    "broken base64": Case(
        "Content-Type: text/plain\nContent-Transfer-Encoding: base64\n\nSGVs*bG8",
        "Hello",
        defects=("transfer-encoding-broken",),
    ),
    "prose after base64": Case(
        "Content-Transfer-Encoding: base64\n\nSGVsbG8=\n\nFooter of a list.\n",
        "Hello",
        defects=("transfer-encoding-broken", "original-attached"),
        original=True,
    ),
    "broken quoted-printable": Case(
        "Content-Transfer-Encoding: quoted-printable\n\n100% = =XX =41",
        "100% = =XX A",
        defects=("transfer-encoding-broken",),
    ),
    "an unknown encoding": Case(
        "Content-Transfer-Encoding: 7vladit\n\n=41", "=41", defects=("transfer-encoding-unknown",)
    ),
    "an unknown charset": Case("Content-Type: text/plain; charset=nope-8\n\nä", "ä", defects=("charset-unknown",)),
    "a codec that is no charset": Case(
        "Content-Type: text/plain; charset=rot13\n\nabc", "abc", defects=("charset-unknown",)
    ),
    "NUL for a charset": Case(b"Content-Type: text/plain; charset=\x00\r\n\r\nabc", "abc", defects=()),
    "octets the charset does not have": Case(
        b"Content-Type: text/plain; charset=utf-8\r\n\r\n\xc3\xa9 \xff",
        "é \ufffd",
        defects=("charset-wrong",),
    ),
    "NUL in the text": Case(b"Subject: s\r\n\r\na\x00b", "a\x00b"),
    "lone CR in the text": Case(b"Subject: s\r\n\r\na\rb\r\n", "a\nb\n"),
    "lone LF throughout": Case(MIXED.encode() + b"--b\n\none\n--b--\n", "one"),
    "lone CR throughout": Case((MIXED + "--b\n\none\n--b--\n").replace("\n", "\r").encode(), "one"),
    # header fields that make other parsers raise
    "an address without a domain": Case("From: foo@\n\nx", "x"),
    "a quote alone": Case('From: "\n\nx', "x"),
    "a group and a broken address": Case("To: undisclosed-recipients:;, a@\n\nx", "x"),
    "an open domain literal": Case("To: a@[\n\nx", "x"),
    "an open message id": Case("Message-ID: <\nReferences: <@> <[abc]@x> <a@[\n\nx", "x"),
    "a giant year": Case("Date: Mon, 1 Jan 99999999999 00:00:00 +0000\n\nx", "x"),
    "an encoded line break": Case("From: =?utf-8?q?a=0D=0ABcc:_x@y?= <a@acme.example>\n\nx", "x"),
}


def test_a_mistake_of_the_reader_still_delivers_the_original(monkeypatch):
    def broken(*_args, **_kwargs):
        raise IndexError("a mistake")

    monkeypatch.setattr("delivery.mime.message.read_part", broken)
    content = parse(b"Subject: s\r\n\r\nbody")
    assert [a.content for a in content.attachments] == [b"Subject: s\r\n\r\nbody"]
    assert content.defects == ("unreadable", "original-attached")


def test_an_alarm_of_the_caller_is_not_swallowed(monkeypatch):
    class Alarm(Exception):
        pass

    def slow(*_args, **_kwargs):
        raise Alarm

    monkeypatch.setattr("delivery.mime.message.read_part", slow)
    with pytest.raises(Alarm):
        parse(b"Subject: s\r\n\r\nbody")


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_broken_messages(case):
    raw = crlf(case.raw) if isinstance(case.raw, str) else case.raw
    content = parse(raw)
    files = [(a.filename, a.content) for a in content.attachments]
    if case.original:
        assert files.pop() == ("original.eml", raw)
        assert content.attachments[-1].content_type == "message/rfc822"
    assert (content.text, content.html, files) == (case.text, case.html, case.files)
    assert content.defects == case.defects
    for name, value in content.headers:
        assert "\n" not in name + value
        assert "\r" not in name + value
