"""How a message is put for services without raw MIME, and that every loss is named (PRV-4)."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.backends.anymail import format_box
from providers.backends.letter import EMPTY_PAGE, Abilities, Inline, Types, compose
from providers.base import Attachment, Content, Mailbox
from providers.envelope import Limits
from providers.exceptions import PermanentFailure, Unsupported
from providers.tests.messages import ANNA, PNG, outbound

PLAIN = Content(
    subject="Hello",
    from_=(Mailbox("Shop", "shop@acme.test"),),
    sender=None,
    reply_to=(),
    to=(Mailbox("Anna", ANNA),),
    cc=(),
    text="Hi",
    html=None,
    attachments=(),
    headers=(("From", "x"), ("Date", "x"), ("Received", "x"), ("MIME-Version", "1.0"), ("Content-Type", "text/plain")),
)
USUAL = Abilities(limits=Limits(total=10))


def put(abilities=USUAL, **changes):
    return compose(outbound(replace(PLAIN, **changes)), abilities)


def test_a_plain_message_loses_nothing():
    letter = put()
    assert (letter.lost, letter.headers, letter.attachments) == ((), {}, ())
    assert (letter.sender.name, letter.subject, letter.text, letter.html) == ("Shop", "Hello", "Hi", None)


@pytest.mark.parametrize(
    ("type_", "loss"),
    [
        ("multipart/signed; micalg=sha-256", "signature (multipart/signed)"),
        ("Multipart/Encrypted", "encryption (multipart/encrypted)"),
        ("multipart/report; report-type=delivery-status", "report structure (multipart/report)"),
        ("application/pkcs7-mime; smime-type=signed-data", "S/MIME structure (application/pkcs7-mime)"),
    ],
)
def test_a_structure_that_breaks_is_named(type_, loss):
    assert put(headers=(("Content-Type", type_),)).lost == (loss,)


def test_a_signature_further_inside_is_named():
    signature = Attachment("smime.p7s", "application/pkcs7-signature", b"sig")
    assert put(attachments=(signature,)).lost == ("signature",)


def test_broken_mime_is_named():
    assert put(defects=("original-attached",)).lost == ("structure: broken, the original is attached",)


def test_a_calendar_is_named():
    invitation = Attachment("invite.ics", "text/calendar", b"BEGIN", parameters={"method": "REQUEST"})
    assert put(attachments=(invitation,)).lost == ("calendar part: sent as an attachment",)


def test_the_senders_own_dkim_signature_is_named():
    letter = put(headers=(("DKIM-Signature", "v=1"), ("ARC-Seal", "i=1")))
    assert (letter.lost, letter.headers) == (("header DKIM-Signature",), {})


def test_a_bcc_header_is_never_passed_on():
    letter = put(headers=(("Bcc", "x@y.test"), ("BCC", "x@y.test")))
    assert (letter.lost, letter.headers) == ((), {})


def test_of_a_header_that_comes_twice_the_first_is_kept():
    letter = put(headers=(("X-A", "1"), ("x-a", "2"), ("X-B", "")))
    assert (letter.headers, letter.lost) == ({"X-A": "1"}, ("header x-a", "header X-B"))


def test_header_values_are_one_ascii_line():
    letter = put(headers=(("X-A", "größer " * 30), ("X-B", "a\r\n b\x00c"), ("X C", "1"), ("X-Ä", "1")))
    assert letter.headers["X-A"].isascii()
    assert "\n" not in letter.headers["X-A"]
    assert letter.headers["X-B"] == "a  b c"
    assert letter.lost == ("header X C", "header X-Ä")


def test_headers_the_service_cannot_carry_are_named():
    letter = put(replace(USUAL, encodes_headers=False, refused_headers=frozenset({"x-no"})),
                 headers=(("X-A", "größer"), ("X-No", "1"), ("X-Yes", "1")))  # fmt: skip
    assert (letter.headers, letter.lost) == ({"X-Yes": "1"}, ("header X-A", "header X-No"))


def test_several_authors_and_another_sender_are_named():
    letter = put(from_=(*PLAIN.from_, Mailbox("", "b@acme.test")), sender=Mailbox("", "c@acme.test"))
    assert letter.lost == ("From: only the first of 2", "Sender")
    assert put(sender=Mailbox("", "shop@acme.test")).lost == ()


def test_without_author_the_envelope_sender_is_shown():
    letter = put(from_=())
    assert (letter.sender.address, letter.lost) == ("shop@acme.test", ("From: missing, the envelope sender is shown",))
    with pytest.raises(PermanentFailure) as caught:
        compose(outbound(replace(PLAIN, from_=()), mail_from=""), USUAL)
    assert caught.value.code == "no_sender"


def test_a_sender_the_service_cannot_write_is_not_supported():
    with pytest.raises(Unsupported) as caught:
        put(from_=(Mailbox("", "jörg@acme.test"),))
    assert caught.value.code == "smtputf8_required"


def test_reply_addresses_beyond_the_limit_are_named():
    two = (Mailbox("", "a@acme.test"), Mailbox("", "b@acme.test"))
    assert put(reply_to=two).lost == ("Reply-To: only 1 of 2",)
    assert put(replace(USUAL, reply_tos=5), reply_to=(*two, Mailbox("", "nonsense"))).lost == ("Reply-To: only 2 of 3",)


def test_an_empty_subject_is_filled_in_where_the_service_wants_one():
    assert put(subject="").lost == ()
    letter = put(replace(USUAL, subject_required=True), subject=" ")
    assert letter.subject == "(no subject)"
    assert letter.lost == ("Subject: empty, sent as '(no subject)'",)


@pytest.mark.parametrize(("text", "page"), [(None, None), ("", None), ("", ""), (None, "")])
def test_an_empty_body_is_an_empty_page(text, page):
    letter = put(text=text, html=page)
    assert (letter.text, letter.html, letter.lost) == (None, EMPTY_PAGE, ("empty body: sent as an empty HTML page",))


def test_plain_text_gets_an_html_copy_where_the_service_wants_one():
    letter = put(replace(USUAL, html_required=True), text="a < b\r\n  & c")
    assert "a &lt; b\r\n  &amp; c" in letter.html
    assert (letter.text, letter.lost) == ("a < b\r\n  & c", ("plain text: sent with an HTML copy",))


def test_attachments_have_names_and_content():
    bare = (Attachment("", "application/pdf", b""), Attachment("", "application/x-strange", b"?"))
    letter = put(attachments=bare)
    assert [(a.filename, a.content) for a in letter.attachments] == [
        ("attachment-1.pdf", b"\r\n"),
        ("attachment-2.bin", b"?"),
    ]
    assert letter.lost == ("empty attachment: 'attachment-1.pdf' sent as one line end",)


def test_characters_the_service_forbids_in_names_are_replaced():
    letter = put(
        replace(USUAL, forbidden_in_filename=";,"), attachments=(Attachment("a;b,\r\nc.txt", "text/plain", b"x"),)
    )
    assert letter.attachments[0].filename == "a_b_ c.txt"
    assert letter.lost == ("file name: 'a;b, c.txt' sent as 'a_b_ c.txt'",)


LOGO = Attachment("logo.png", "image/png", PNG, "logo", inline=True)
STYLE = Attachment("style.css", "text/css", b"x", "style", inline=True)


@pytest.mark.parametrize(
    ("inline", "kept", "lost"),
    [
        (Inline.ANY, ["logo", "style"], ()),
        (Inline.IMAGES, ["logo", ""], ("inline part: 'style.css' sent as an attachment",)),
        (
            Inline.NONE,
            ["", ""],
            ("inline part: 'logo.png' sent as an attachment", "inline part: 'style.css' sent as an attachment"),
        ),
    ],
)
def test_inline_parts(inline, kept, lost):
    letter = put(replace(USUAL, inline=inline), attachments=(LOGO, STYLE))
    assert ([a.content_id for a in letter.attachments], letter.lost) == (kept, lost)
    assert [a.inline for a in letter.attachments] == [bool(cid) for cid in kept]


def test_an_inline_part_nothing_can_refer_to_is_an_attachment_without_loss():
    letter = put(attachments=(replace(LOGO, content_id=""),))
    assert (letter.attachments[0].inline, letter.lost) == (False, ())


LATIN = Attachment("data.csv", "text/csv", b"\xe4", parameters={"charset": "ISO-8859-1"})


@pytest.mark.parametrize(
    ("types", "attachment", "sent_as", "lost"),
    [
        (Types.FULL, LATIN, ("data.csv", "text/csv"), ()),
        (Types.BARE, LATIN, ("data.csv", "text/csv"), ("charset iso-8859-1 of 'data.csv'",)),
        (Types.BARE, replace(LATIN, parameters={"charset": "UTF-8"}), ("data.csv", "text/csv"), ()),
        (Types.BY_NAME, Attachment("report", "application/pdf", b"x"), ("report.pdf", "application/pdf"),
         ("file name: 'report' sent as 'report.pdf'",)),
        (Types.BY_NAME, Attachment("a.txt", "text/csv", b"x"), ("a.txt", "text/csv"), ("type text/csv of 'a.txt'",)),
        (Types.AGREEING, Attachment("a.txt", "text/csv", b"x"), ("a.txt", "text/plain"), ("type text/csv of 'a.txt'",)),
        (Types.AGREEING, Attachment("a.unheard", "text/csv", b"x"), ("a.unheard", "text/csv"), ()),
    ],
)  # fmt: skip
def test_types_of_attachments(types, attachment, sent_as, lost):
    letter = put(replace(USUAL, types=types), attachments=(attachment,))
    (sent,) = letter.attachments
    assert ((sent.filename, sent.content_type), letter.lost) == (sent_as, lost)
    assert sent.content == attachment.content


def test_half_surrogates_and_nul_do_not_reach_the_service():
    letter = put(subject="a\udc80b", text="x\0y\udc80", from_=(Mailbox("N\udc80\r\nBcc: x", "shop@acme.test"),))
    assert (letter.subject, letter.text, letter.sender.name) == ("a?b", "xy?", "N? Bcc: x")


def test_long_names_are_cut_where_the_service_says_so():
    letter = put(replace(USUAL, name_length=5), to=(Mailbox("Anna Arndt", ANNA),))
    assert letter.addressing.to[0].name == "Anna"


@given(st.text(max_size=40))
def test_any_display_name_leaves_the_address_alone(name):
    text = format_box(Mailbox(name, ANNA))
    assert text == ANNA or text.endswith(f"<{ANNA}>")


@pytest.mark.parametrize("name", ["Anna", "Arndt, Anna", 'Anna "A" Arndt', "Größe (neu)", "a@b", "semi;colon", "Ltd."])
def test_usual_display_names_are_kept(name):
    assert name.replace('"', "'") in format_box(Mailbox(name, ANNA)).replace('\\"', "'").replace('"', "'")
