"""8-bit mail encoded anew for routes that carry 7 bits: nothing but the encoding changes (PRV-4)."""

import contextlib
import email
import email.policy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.exceptions import Unsupported
from providers.sevenbit import seven_bit
from providers.tests.messages import PNG, SENDER, text_only
from providers.tests.signing import Signer


def read(raw):
    return email.message_from_bytes(raw, policy=email.policy.default)


def crlf(text):
    return text.replace("\n", "\r\n").encode()


HEAD = "From: a@acme.test\nMIME-Version: 1.0\n"


def test_what_is_ascii_stays_as_it_is():
    raw = b"From: a@acme.test\r\nSubject: x\r\n\r\n.\r\nhi  \r\n"
    assert seven_bit(raw) is raw


def test_a_text_becomes_quoted_printable_with_the_same_octets():
    raw = text_only().as_bytes()
    new = seven_bit(raw)
    assert new.isascii()
    assert read(new)["Content-Transfer-Encoding"] == "quoted-printable"
    assert read(new).get_payload(decode=True) == read(raw).get_payload(decode=True)
    assert max(map(len, new.split(b"\r\n"))) <= 78


@given(st.binary(max_size=300), st.booleans())
def test_any_octets_of_a_text_come_back(octets, spaces):
    body = octets.replace(b"\r", b"").replace(b"\n", b" \r\n" if spaces else b"\r\n") + b"\xfc\r\n"
    raw = HEAD.replace("\n", "\r\n").encode() + b"Content-Type: text/plain; charset=latin-1\r\n\r\n" + body
    new = seven_bit(raw)
    assert new.isascii()
    assert read(new).get_payload(decode=True) == body


def test_every_part_of_a_nested_message_is_read_as_before():
    message = text_only()
    message.add_alternative("<p>Grüße</p>\n", subtype="html", cte="8bit")
    message.add_attachment("größer;1\n", subtype="csv", filename="latin.csv", charset="latin-1", cte="8bit")
    message.add_attachment(PNG, maintype="image", subtype="png", filename="logo.png")
    inner = text_only(Subject="Inner")
    message.add_attachment(inner)
    raw = message.as_bytes()
    new = seven_bit(raw)
    assert new.isascii()
    parts = [(part.get_content_type(), part.get_filename(), part.get_payload(decode=True)) for part in read(raw).walk()]
    assert parts == [
        (part.get_content_type(), part.get_filename(), part.get_payload(decode=True)) for part in read(new).walk()
    ]


def test_octets_that_are_no_text_become_base64():
    raw = crlf(HEAD + "Content-Type: application/pdf\nContent-Transfer-Encoding: 8bit\n\n") + b"%PDF \xe2\xe3 \r\n"
    new = seven_bit(raw)
    assert (read(new)["Content-Transfer-Encoding"], read(new).get_payload(decode=True)) == (
        "base64",
        b"%PDF \xe2\xe3 \r\n",
    )


def test_mail_without_mime_becomes_mime_or_nobody_would_decode_it():
    new = seven_bit(crlf("From: a@acme.test\n\nGrüße\n"))
    assert read(new).get_content().split() == ["Grüße"]
    assert read(new)["MIME-Version"] == "1.0"
    unknown = seven_bit(b"From: a@acme.test\r\n\r\nGr\xfc\xdfe\r\n")
    assert b"charset=unknown-8bit" in unknown
    assert read(unknown).get_payload(decode=True) == b"Gr\xfc\xdfe\r\n"


def test_header_fields_are_read_as_before():
    new = seven_bit(
        crlf(
            "From: Jörg <a@acme.test>\nTo: Änne <b@bücher.example>, c@globex.test\nSubject: Grüße " + "aus Köln " * 20
            + "\nX-Plain:   kept   as it was\nContent-Disposition: attachment; filename=\"März 1.pdf\"\n\nhi\n"
        )
    )  # fmt: skip
    message = read(new)
    assert new.isascii()
    assert [(a.display_name, a.addr_spec) for a in message["From"].addresses] == [("Jörg", "a@acme.test")]
    assert [a.addr_spec for a in message["To"].addresses] == ["b@xn--bcher-kva.example", "c@globex.test"]
    assert message["To"].addresses[0].display_name == "Änne"
    assert message["Subject"] == "Grüße " + ("aus Köln " * 20).strip()
    assert message.get_filename() == "März 1.pdf"
    assert b"X-Plain:   kept   as it was\r\n" in new


def test_an_octet_that_slipped_into_an_encoded_part_is_encoded_too():
    quoted = seven_bit(
        crlf(HEAD + "Content-Type: text/plain\nContent-Transfer-Encoding: quoted-printable\n\n=41") + b"\xfc"
    )
    assert quoted.endswith(b"\r\n\r\n=41=FC")
    coded = seven_bit(crlf(HEAD + "Content-Type: image/png\nContent-Transfer-Encoding: base64\n\nQUJD") + b"\xa0\r\n")
    assert coded.endswith(b"\r\n\r\nQUJD\r\n")


def test_a_boundary_that_ends_like_a_closing_one_is_told_apart():
    head = HEAD + 'Content-Type: multipart/mixed; boundary="b--"\n\n'
    raw = crlf(head + "prämbel\n--b--\n\nGrüße\n--b--\n\nzwei ß\n--b----\nnachwört\n")
    new = seven_bit(raw)
    assert new.isascii()
    assert [part.get_payload(decode=True) for part in read(new).iter_parts()] == ["Grüße".encode(), "zwei ß".encode()]


MIXED = HEAD + "Content-Type: multipart/mixed;\n boundary=o\n\n--o\n"
SIGNED = [
    Signer(SENDER).dkim(text_only().as_bytes()),
    crlf(HEAD + "Content-Type: multipart/signed; boundary=b\n\n--b\n\nGrüße\n--b--\n"),
    crlf(MIXED + 'Content-Type:\n multipart/signed; boundary="i"\n\n--i\n\nß\n--i--\n--o--\n'),
    crlf(MIXED + "Content-Type: message/rfc822\n\nDKIM-Signature: v=1\n\nß\n--o--\n"),
]


@pytest.mark.parametrize("raw", SIGNED)
def test_signed_mail_is_refused_wherever_the_signature_is(raw):
    with pytest.raises(Unsupported) as caught:
        seven_bit(raw)
    assert caught.value.code == "8bitmime_required"


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        ("From: jörg@acme.test\n\nhi\n", "smtputf8_required"),
        ("From: a@acme.test\nÄ: x\n\nhi\n", "8bitmime_required"),
        ("Content-Type: multipart/mixed\n\nGrüße\n", "8bitmime_required"),
        ("Content-Type: multipart/mixed; boundary=b\n\nGrüße\n", "8bitmime_required"),
        ("Content-Type: message/rfc822\n\n" * 40 + "ß", "8bitmime_required"),
    ],
)
def test_what_cannot_be_said_in_ascii_is_refused_with_the_reason(raw, code):
    with pytest.raises(Unsupported) as caught:
        seven_bit(crlf(raw))
    assert caught.value.code == code


@given(st.binary(max_size=200))
def test_whatever_comes_is_ascii_afterwards_or_refused(octets):
    with contextlib.suppress(Unsupported):
        assert seven_bit(octets).isascii()
