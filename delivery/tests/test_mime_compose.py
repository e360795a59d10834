"""Composed messages are read back as what they were made of."""

from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from delivery.mime import compose, originators, parse
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
    ],
)
def test_what_cannot_be_written_is_refused(wrong):
    with pytest.raises(ValueError):  # noqa: PT011 - the text is the standard library's
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
