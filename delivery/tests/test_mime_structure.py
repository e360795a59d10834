"""MIM-1, MIM-2: which part becomes text, HTML or attachment."""

import base64

import pytest

from delivery.mime import parse
from delivery.tests.mime_samples import crlf, leaf, message, multipart


def names(content):
    return [(a.filename, a.content_type) for a in content.attachments]


def test_a_message_without_mime_headers_is_plain_text():
    content = parse(crlf("From: a@acme.example\nSubject: hi\n\nHello\nthere\n"))
    assert (content.text, content.html, content.attachments) == ("Hello\nthere\n", None, ())
    assert content.defects == ()


@pytest.mark.parametrize("raw", [b"Subject: x\r\n\r\n", b"Subject: x\r\n", b"Subject: x", b""])
def test_headers_alone_are_a_message_with_empty_text(raw):
    content = parse(raw)
    assert (content.text, content.html, content.attachments) == ("", None, ())


def test_a_single_html_body_is_html_alone():
    content = parse(message(leaf("text/html; charset=utf-8", "<p>ä</p>")))
    assert (content.text, content.html) == (None, "<p>ä</p>")


def test_a_single_part_of_another_type_is_one_attachment():
    body = base64.b64encode(b"%PDF-1.4")
    content = parse(message(leaf("application/pdf; name=a.pdf", body, "Content-Transfer-Encoding: base64")))
    assert (content.text, content.html) == (None, None)
    assert [(a.filename, a.content) for a in content.attachments] == [("a.pdf", b"%PDF-1.4")]


def test_a_single_text_body_marked_as_attachment_is_one():
    content = parse(message(leaf("text/plain", "x", "Content-Disposition: attachment; filename=x.txt")))
    assert content.text is None
    assert names(content) == [("x.txt", "text/plain")]


def test_a_single_text_body_with_a_name_stays_the_body():
    assert parse(message(leaf("text/plain; name=mail.txt", "x"))).text == "x"


def test_an_unknown_text_type_alone_is_shown_as_text():
    assert parse(message(leaf("text/markdown", "# x"))).text == "# x"


def test_a_calendar_alone_is_an_attachment_with_its_method():
    (item,) = parse(message(leaf('text/calendar; method=REQUEST; charset="utf-8"', "BEGIN:VCALENDAR"))).attachments
    assert (item.filename, item.content_type) == ("invite.ics", "text/calendar")
    assert dict(item.parameters) == {"method": "REQUEST", "charset": "utf-8"}


def test_alternatives_become_text_and_html():
    content = parse(message(multipart("alternative", leaf("text/plain", "t"), leaf("text/html", "<b>t</b>"))))
    assert (content.text, content.html, content.attachments) == ("t", "<b>t</b>", ())


def test_a_calendar_among_alternatives_is_kept_as_attachment():
    content = parse(
        message(
            multipart(
                "alternative", leaf("text/plain", "t"), leaf("text/html", "h"), leaf("text/calendar; method=REPLY")
            )
        )
    )
    assert (content.text, content.html) == ("t", "h")
    assert content.attachments[0].parameters["method"] == "REPLY"


def test_nesting_of_mixed_related_and_alternative():
    related = multipart(
        "related",
        leaf("text/html", '<img src="cid:logo%40x">'),
        leaf("image/png", b"PNG", "Content-ID: <logo@x>", 'Content-Disposition: inline; filename="l.png"'),
        boundary="related",
    )
    alternative = multipart("alternative", leaf("text/plain", "t"), related, boundary="alternative")
    content = parse(message(multipart("mixed", alternative, leaf("application/pdf; name=x.pdf", b"PDF"))))
    assert (content.text, content.html) == ("t", '<img src="cid:logo%40x">')
    assert [(a.filename, a.inline, a.content_id) for a in content.attachments] == [
        ("l.png", True, "logo@x"),
        ("x.pdf", False, ""),
    ]
    assert content.defects == ()


def test_an_image_the_html_shows_is_inline_whatever_its_disposition_says():
    content = parse(
        message(
            multipart(
                "related",
                leaf("text/html", "<img src='cid:A'>"),
                leaf("image/png", b"1", "Content-ID: <a>", "Content-Disposition: attachment; filename=a.png"),
                leaf("image/png", b"2", "Content-ID: <b>", "Content-Disposition: attachment; filename=b.png"),
            )
        )
    )
    assert [(a.filename, a.inline) for a in content.attachments] == [("a.png", True), ("b.png", False)]


def test_related_begins_with_the_part_that_start_names():
    content = parse(
        message(
            multipart(
                "related",
                leaf("text/html", "frame", "Content-ID: <frame>"),
                leaf("text/html", "root", "Content-ID: <root>"),
                extra='; start="<root>"',
            )
        )
    )
    assert content.html == "root"
    assert [a.content for a in content.attachments] == [b"frame"]


def test_related_that_begins_with_an_image_still_finds_its_html():
    content = parse(message(multipart("related", leaf("image/png", b"i"), leaf("text/html", "h"))))
    assert content.html == "h"
    assert [a.content for a in content.attachments] == [b"i"]


def test_further_text_without_a_name_is_joined_to_the_body():
    content = parse(message(multipart("mixed", leaf("text/plain", "one"), leaf("text/plain", "two"))))
    assert content.text == "one\ntwo"
    content = parse(message(multipart("mixed", leaf("text/html", "one"), leaf("text/html", "two"))))
    assert (content.text, content.html) == (None, "one\ntwo")


def test_a_plain_footer_is_seen_by_those_who_read_the_html():
    alternative = multipart("alternative", leaf("text/plain", "t"), leaf("text/html", "<p>t</p>"), boundary="inner")
    content = parse(message(multipart("mixed", alternative, leaf("text/plain", "-- \r\nlist <info>"))))
    assert content.text == "t\n-- \nlist <info>"
    assert content.html.startswith("<p>t</p>\n")
    assert "list &lt;info&gt;" in content.html


def test_text_with_a_file_name_is_an_attachment():
    content = parse(
        message(
            multipart(
                "mixed",
                leaf("text/plain", "body"),
                leaf('text/plain; charset=utf-8; name="n.txt"', "a\r\nb\r\n"),
                leaf("text/html", "h", "Content-Disposition: attachment"),
            )
        )
    )
    assert (content.text, content.html) == ("body", None)
    assert [(a.filename, a.content) for a in content.attachments] == [
        ("n.txt", b"a\r\nb\r\n"),
        ("attachment-2.html", b"h"),
    ]


def test_an_attached_message_is_kept_whole_and_named_by_its_subject():
    inner = crlf("Subject: =?utf-8?q?Re:_caf=C3=A9?=\nContent-Type: multipart/mixed; boundary=z\n\n--z\n\nx\n--z--\n")
    content = parse(message(multipart("mixed", leaf("text/plain", "see"), leaf("message/rfc822", inner))))
    (item,) = content.attachments
    assert (item.filename, item.content_type, item.content) == ("Re café.eml", "message/rfc822", inner)


def test_an_attached_message_without_subject_is_called_forwarded():
    content = parse(message(multipart("mixed", leaf("message/rfc822", b"From: x@y\r\n\r\nhi"))))
    assert content.attachments[0].filename == "forwarded.eml"


def test_parts_of_a_digest_are_messages():
    part = b"\r\nSubject: one\r\n\r\nhi"
    assert names(parse(message(multipart("digest", part)))) == [("one.eml", "message/rfc822")]


def test_a_report_keeps_its_machine_readable_parts():
    content = parse(
        message(
            multipart(
                "report",
                leaf("text/plain", "failed"),
                leaf("message/delivery-status", "Action: failed"),
                leaf("text/rfc822-headers", "Subject: x"),
                extra="; report-type=delivery-status",
            )
        )
    )
    assert content.text == "failed"
    assert names(content) == [
        ("delivery-status.txt", "message/delivery-status"),
        ("headers.txt", "text/rfc822-headers"),
    ]


def test_a_signature_is_an_attachment():
    signed = multipart(
        "signed",
        leaf("text/plain", "t"),
        leaf('application/pkcs7-signature; name="smime.p7s"', b"AAAA", "Content-Transfer-Encoding: base64"),
    )
    content = parse(message(signed))
    assert content.text == "t"
    assert [(a.filename, a.content) for a in content.attachments] == [("smime.p7s", b"\0\0\0")]


def test_both_halves_of_an_encrypted_message_are_attachments():
    content = parse(
        message(
            multipart(
                "encrypted", leaf("application/pgp-encrypted", "Version: 1"), leaf("application/octet-stream", "x")
            )
        )
    )
    assert (content.text, content.html) == (None, None)
    assert names(content) == [
        ("version.asc", "application/pgp-encrypted"),
        ("attachment-2.bin", "application/octet-stream"),
    ]


def test_tnef_is_left_as_it_is():
    content = parse(message(multipart("mixed", leaf("text/plain", "t"), leaf("application/ms-tnef", b"x\x9f>\x22"))))
    assert [(a.filename, a.content) for a in content.attachments] == [("winmail.dat", b"x\x9f>\x22")]


def test_format_flowed_stays_as_written():
    content = parse(message(leaf("text/plain; format=flowed; delsp=yes", "a \r\nb\r\n")))
    assert content.text == "a \nb\n"


@pytest.mark.parametrize(
    ("text", "rest"),
    [
        ("see\r\nbegin 644 a b.txt\r\n#86)C\r\n`\r\nend\r\nbye\r\n", "see\nbye\n"),
        ("begin 600 a b.txt\r\n#86)C\r\nend\r\n", ""),
    ],
)
def test_uuencoded_files_in_the_text_are_attachments(text, rest):
    content = parse(message(leaf("text/plain", text)))
    assert content.text == rest
    assert [(a.filename, a.content_type, a.content) for a in content.attachments] == [("a b.txt", "text/plain", b"abc")]


@pytest.mark.parametrize(
    "text",
    [
        "begin 644 chapters\r\nof the story\r\nend\r\n",
        "begin 644 x\r\n#86)C\r\n",
        "begin 644 x\r\n#86)C\r\nMno\xefe\r\nend\r\n",
    ],
)
def test_text_that_only_begins_like_uuencode_stays_text(text):
    content = parse(message(leaf("text/plain", text)))
    assert content.text == text.replace("\r\n", "\n")
    assert content.attachments == ()


def test_headers_keep_order_and_every_field():
    content = parse(crlf("X-B: 1\nSubject: =?utf-8?b?w6Q=?=\nx-a: 2\nX-B: 3\n\n"))
    assert content.headers == (("X-B", "1"), ("Subject", "ä"), ("x-a", "2"), ("X-B", "3"))
    assert content.subject == "ä"


def test_addresses_of_all_fields():
    content = parse(
        crlf(
            "From: =?utf-8?q?J=C3=B6rg?= <j@acme.example>\nSender: s@acme.example\nReply-To: r@acme.example\n"
            "To: a@x.example\nTo: undisclosed-recipients:;\nCc: b@x.example,\n c@x.example\nCc: d@x.example\n\n"
        )
    )
    assert [(m.name, m.address) for m in content.from_] == [("Jörg", "j@acme.example")]
    assert content.sender.address == "s@acme.example"
    assert [m.address for m in content.reply_to] == ["r@acme.example"]
    assert [m.address for m in content.to] == ["a@x.example"]
    assert [m.address for m in content.cc] == ["b@x.example", "c@x.example", "d@x.example"]


def test_nameless_files_get_a_name_that_fits_their_type():
    content = parse(
        message(
            multipart(
                "mixed",
                leaf("image/png", b"1"),
                leaf("application/x-nobody-knows", b"2"),
                leaf("image/gif", b"3", "Content-Location: pic.gif"),
                leaf("image/gif", b"4", "Content-Location: http://x.example/pic.gif"),
            )
        )
    )
    assert [a.filename for a in content.attachments] == [
        "attachment-1.png",
        "attachment-2.bin",
        "pic.gif",
        "attachment-4.gif",
    ]
