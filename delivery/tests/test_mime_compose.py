"""Composed messages are read back as what they were made of: API-2, AMQP-1."""

import io
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from delivery.mime import StreamedAttachment, compose, header_items, originators, parse, pieces
from providers.base import Attachment, Mailbox

ME = Mailbox("Jörg, Me", "me@acme.example")
NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


def make(**changed):
    fields = {
        "from_": ME,
        "to": [Mailbox("", "bob@globex.example")],
        "subject": "Grüße",
        "message_id": "1@acme.example",
        "date": NOW,
        **changed,
    }
    return compose(**fields)


def test_every_piece_is_read_back():
    pdf = Attachment("Prüfung.pdf", "application/pdf", b"\x00PDF\r\n\xff")
    logo = Attachment("logo.png", "image/png", b"PNG", content_id="logo@acme", inline=True)
    invite = Attachment("i.ics", "text/calendar", b"BEGIN:VCALENDAR\r\n", parameters={"method": "REQUEST"})
    raw = make(
        cc=[Mailbox("Carol", "carol@globex.example")],
        reply_to=[Mailbox("", "re@acme.example")],
        text="Hällo\nthere\n",
        html='<p>Hällo <img src="cid:logo@acme"></p>\n',
        attachments=[pdf, logo, invite],
        headers={"X-Tag": "ä"},
    )
    content = parse(raw)
    assert content.from_ == (ME,)
    assert (content.to, content.cc) == (
        (Mailbox("", "bob@globex.example"),),
        (Mailbox("Carol", "carol@globex.example"),),
    )
    assert content.reply_to[0].address == "re@acme.example"
    assert (content.subject, content.text) == ("Grüße", "Hällo\nthere\n")
    assert content.html == '<p>Hällo <img src="cid:logo@acme"></p>\n'
    assert sorted(content.attachments, key=lambda a: a.filename) == sorted(
        [logo, invite, pdf], key=lambda a: a.filename
    )
    assert ("X-Tag", "ä") in content.headers
    assert content.defects == ()
    assert b"\n" not in raw.replace(b"\r\n", b"")
    assert originators(raw).from_ == ("me@acme.example",)


def test_text_alone_html_alone_and_nothing():
    assert parse(make(text="t")).text == "t\n"
    content = parse(make(html="<p>"))
    assert (content.text, content.html) == (None, "<p>\n")
    assert parse(make()).text.strip() == ""


def test_an_attached_message_keeps_its_bytes():
    inner = b"Subject: x\r\n\r\n\xff body"
    (item,) = parse(make(text="t", attachments=[Attachment("x.eml", "message/rfc822", inner)])).attachments
    assert (item.filename, item.content) == ("x.eml", inner)


def test_international_addresses_are_written_as_utf8():
    raw = make(to=[Mailbox("", "jö@ä.example")])
    assert "jö@ä.example".encode() in raw
    assert parse(raw).to[0].address == "jö@ä.example"


@pytest.mark.parametrize(
    "wrong",
    [
        {"subject": "a\r\nBcc: x@y"},
        {"headers": {"X-A": "a\nb"}},
        {"headers": {"Subject": "again"}},
        {"to": [Mailbox("", "nobody")]},
        {"to": [Mailbox("", "@x.example")]},
        {"to": [Mailbox("", "a@b\r\nBcc: x@y")]},
        {"to": [Mailbox("a\r\nBcc: x@y", "a@b")]},
        {"to": [Mailbox("", "a@b, c@d")]},
        {"to": [Mailbox("", "a b@c")]},
        {"subject": "a\u2028Bcc: x@y"},
        {"subject": "a\x00"},
        {"headers": {"X A": "b"}},
        {"headers": {"bcc": "x@y.example"}},
        {"headers": {"Content-Type": "text/html"}},
        {"headers": {"X-A": "b", "x-a": "c"}},
        {"attachments": [Attachment("a\r\nX: y", "text/plain", b"")]},
        {"attachments": [Attachment("a", "text/pl ain", b"")]},
        {"attachments": [Attachment("a", "text/plain", b"", content_id="a>\r\nX: y")]},
    ],
)
def test_what_cannot_be_written_is_refused(wrong):
    with pytest.raises(ValueError):  # noqa: PT011 - any text will do
        make(**wrong)


@settings(deadline=None)
@given(
    text=st.text(
        st.characters(codec="utf-8", exclude_characters="\r\x00\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"), max_size=200
    ),
    data=st.binary(max_size=300),
    name=st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1, max_size=20),
)
def test_any_text_and_any_octets_survive(text, data, name):
    content = parse(make(text=text, attachments=[Attachment(name, "application/x-y", data)]))
    assert content.text.rstrip("\n") == text.rstrip("\n")
    assert [(a.filename, a.content) for a in content.attachments] == [(name, data)]


INJECTION = "=?utf-8?q?a=0D=0ABcc:_x@y?="


@pytest.mark.parametrize(
    "hostile",
    [
        {"subject": INJECTION},
        {"subject": INJECTION + " ü" * 60},
        {"to": [Mailbox(INJECTION, "bob@globex.example"), Mailbox("", "jö@ä.example")]},
        {"headers": {"X-A": INJECTION}},
        {"attachments": [Attachment(INJECTION, "text/plain", b"")]},
    ],
)
def test_what_looks_like_an_encoded_word_adds_no_header(hostile):
    """CPython 3.11's own writer would end the line there."""
    raw = make(**hostile)
    assert b"\r\nBcc:" not in raw
    assert "bcc" not in [name.lower() for name, _ in header_items(raw)]


@given(st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs", "Zl", "Zp"]), max_size=300))
@settings(deadline=None)
def test_any_subject_and_any_name_survive(text):
    raw = make(subject=text, to=[Mailbox(text, "bob@globex.example")])
    content = parse(raw)
    assert "".join(content.subject.split()) == "".join(text.split())
    assert "".join(content.to[0].name.split()) == "".join(text.split())
    assert content.to[0].address == "bob@globex.example"
    assert max(map(len, raw.split(b"\r\n"))) <= 998


@pytest.mark.parametrize("name", ["ü" * 100 + ".pdf", 'a "quoted\\" name;x=y.pdf', "a" * 200, "%41'b'.txt", "é.txt"])
def test_any_file_name_survives(name):
    (item,) = parse(make(attachments=[Attachment(name, "application/pdf", b"x")])).attachments
    assert item.filename == name


def test_long_identifiers_stay_as_they_are():
    long_id = "x" * 90 + "@acme.example"
    raw = make(message_id=long_id, headers={"References": f"<{long_id}> <{long_id}>"})
    assert f"\r\nMessage-ID: <{long_id}>\r\n".encode() in raw
    assert dict(parse(raw).headers)["References"].split() == [f"<{long_id}>"] * 2


class Trickle(io.BytesIO):
    """Gives less than it is asked for."""

    def read(self, size=-1):
        return super().read(min(size, 1000))


class Source:
    def __init__(self, octets):
        self.octets = octets

    def open(self):
        return Trickle(self.octets)


def test_a_streamed_attachment_is_the_same_as_one_in_memory():
    octets = bytes(range(256)) * 3000
    raw = b"".join(
        pieces(
            from_=ME,
            to=[Mailbox("", "bob@globex.example")],
            subject="s",
            message_id="1@acme.example",
            date=NOW,
            attachments=[StreamedAttachment("a.bin", "application/x-y", Source(octets))],
        )
    )
    assert [(a.filename, a.content) for a in parse(raw).attachments] == [("a.bin", octets)]
    assert max(map(len, raw.split(b"\r\n"))) <= 78


@pytest.mark.parametrize("text", ["ü" * 5000, "x" * 5000 + "ü", "\x00", "a\r\rb", "."])
def test_lines_of_bodies_are_never_too_long(text):
    raw = make(text=text)
    assert max(map(len, raw.split(b"\r\n"))) <= 998
    assert b"\x00" not in raw
    assert parse(raw).text.rstrip("\n") == text.replace("\r", "\n")
