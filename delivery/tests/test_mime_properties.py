"""MIM-4: properties that hold for every message, not only for those somebody thought of."""

import base64
import quopri
from dataclasses import dataclass

from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from delivery.mime import (
    addresses,
    header_block,
    header_values,
    originators,
    parse,
    read_header,
    received_count,
    strip_headers,
)
from delivery.tests.mime_samples import FILES, needs_corpus
from providers.base import Content

# Every letter but the controls that some charset or header rule changes.
LETTERS = st.characters(codec="utf-8", categories=["L", "N", "P", "Zs", "S"])
NAMES = st.text(st.characters(codec="utf-8", categories=["L", "N"]), min_size=1, max_size=12)


@dataclass
class Tree:
    """What a built message must be read as."""

    raw: bytes
    texts: list[str]
    htmls: list[str]
    files: list[tuple[str, bytes]]


def encoded(data: bytes, how: str) -> bytes:
    if how == "base64":
        return base64.encodebytes(data).replace(b"\n", b"\r\n")
    if how == "quoted-printable":
        return quopri.encodestring(data, quotetabs=True).replace(b"\n", b"\r\n")
    return data


@st.composite
def bodies(draw) -> Tree:
    text = draw(st.text(LETTERS, min_size=1, max_size=40))
    subtype = draw(st.sampled_from(["plain", "html"]))
    how = draw(st.sampled_from(["base64", "quoted-printable", "8bit"]))
    head = f"Content-Type: text/{subtype}; charset=utf-8\r\nContent-Transfer-Encoding: {how}\r\n\r\n"
    # Trailing blanks of an unencoded line may be lost on the way; a boundary may not begin a line.
    text = text.strip()
    assume(text and not text.startswith("--") and "begin " not in text)
    raw = head.encode() + encoded(text.encode(), how)
    return Tree(raw, [text] if subtype == "plain" else [], [text] if subtype == "html" else [], [])


@st.composite
def files(draw) -> Tree:
    data = draw(st.binary(max_size=60))
    name = draw(NAMES)
    how = draw(st.sampled_from(["base64", "base64", "8bit"]))
    assume(how == "base64" or b"--" not in data)
    encoded_name = "utf-8''" + "".join(f"%{b:02X}" for b in name.encode())
    head = (
        f"Content-Type: application/octet-stream; name*={encoded_name}\r\n"
        f"Content-Transfer-Encoding: {how}\r\nContent-Disposition: attachment\r\n\r\n"
    )
    return Tree(head.encode() + encoded(data, how), [], [], [(name, data)])


@st.composite
def joined(draw, children) -> Tree:
    parts = draw(st.lists(children, min_size=1, max_size=4))
    subtype = draw(st.sampled_from(["mixed", "x-anything", "report"]))
    boundary = draw(st.text("abcXYZ019'()+_,-./:=?", min_size=1, max_size=20)) + "z"
    assume(all(b"\n--" + boundary.encode() not in b"\n" + part.raw for part in parts))
    line = b"--" + boundary.encode()
    head = f'Content-Type: multipart/{subtype}; boundary="{boundary}"\r\n\r\n'.encode()
    raw = head + b"preamble\r\n" + b"".join(line + b"\r\n" + p.raw + b"\r\n" for p in parts) + line + b"--\r\nepilogue"
    return Tree(
        raw,
        [t for p in parts for t in p.texts],
        [h for p in parts for h in p.htmls],
        [f for p in parts for f in p.files],
    )


TREES = st.recursive(st.one_of(bodies(), files()), joined, max_leaves=8)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow])
@given(TREES)
def test_a_built_message_is_read_as_it_was_built(tree):
    content = parse(b"From: a@acme.example\r\nMIME-Version: 1.0\r\n" + tree.raw)
    assert [(a.filename, a.content) for a in content.attachments] == tree.files
    assert "original-attached" not in content.defects
    # Line ends of quoted-printable are the encoder's; blanks are compared elsewhere.
    assert "".join((content.text or "").split()) == "".join("".join(tree.texts).split())
    at = 0
    for html in tree.htmls:
        at = "".join((content.html or "").split()).index("".join(html.split()), at)


def check(content: Content, raw: bytes) -> None:
    assert "unreadable" not in content.defects
    assert content.text is not None or content.html is not None or content.attachments
    for value in (content.subject, content.text or "", content.html or "", *[v for _, v in content.headers]):
        value.encode("utf-8")
    for item in content.attachments:
        assert item.filename
        assert item.content_type.count("/") == 1
        item.filename.encode("utf-8")
        assert not set("\r\n\x00") & set(item.filename + item.content_id + item.content_type)
    for box in (*content.from_, *content.to, *content.cc, *content.reply_to):
        assert "@" in box.address
        assert not set("\r\n\x00") & set(box.name + box.address)
    assert ("original-attached" in content.defects) == any(
        a.content == raw and a.filename == "original.eml" for a in content.attachments
    )


PIECES = st.sampled_from(
    [
        b"\r\n", b"\n", b"\r", b"--", b"--b", b"--b--", b"b", b" ", b"\t", b":", b";", b"=", b'"', b"(", b"<a@b.c>",
        b"Content-Type: ", b"Content-Transfer-Encoding: ", b"Content-Disposition: attachment", b"Content-ID: <x>",
        b"multipart/mixed", b"multipart/alternative", b"multipart/related", b"message/rfc822", b"text/html",
        b"text/plain", b"; boundary=b", b"; charset=", b"; name=x", b"; name*0*=utf-8''%C3", b"; name*1*=%A9",
        b"base64", b"quoted-printable", b"x-uuencode", b"begin 644 x\r\n#86)C\r\nend\r\n", b"QUJD", b"=41",
        b"iso-2022-jp", b"utf-7", b"utf-16", b"\x1b$B", b"+AOk-", b"\x00", b"\xff", b"\xc3\xa9", b"@",
        b"From: ", b"To: ", b"Bcc: x@y", b"Subject: ", b"=?utf-8?q?x?=", b"=?utf-8?b?w6k=?=", b"Received: x",
    ]
)  # fmt: skip


@settings(max_examples=400, deadline=None)
@given(st.lists(PIECES, max_size=40).map(b"".join))
def test_anything_made_of_mail_is_read(raw):
    check(parse(raw), raw)
    assert originators(raw, read_header(raw)) == originators(raw)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=400))
def test_any_octets_are_read(raw):
    check(parse(raw), raw)
    assert strip_headers(raw, ()) is raw
    header_values(raw, "subject")
    assert originators(raw, read_header(raw)) == originators(raw)
    received_count(raw)
    assert raw.find(header_block(raw)) >= 0


@settings(deadline=None)
@given(st.text(max_size=100))
def test_any_text_is_an_address_list_or_none(text):
    for box in addresses(text):
        assert "@" in box.address


@needs_corpus
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(st.data())
def test_mutilated_real_mail_is_read(data):
    path = data.draw(st.sampled_from([p for p in FILES if p.stat().st_size < 60_000]))
    raw = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(raw)))
        cut = data.draw(st.integers(0, 200))
        raw[at : at + cut] = data.draw(st.one_of(PIECES, st.binary(max_size=20), st.just(bytes(raw[:at][-300:]))))
    check(parse(bytes(raw)), bytes(raw))
    originators(bytes(raw))


@needs_corpus
@settings(max_examples=60, deadline=None)
@given(st.sampled_from(FILES or [None]), st.sampled_from(["mixed", "related", "digest", "alternative", "signed"]))
def test_a_real_message_attached_to_another_is_kept_whole(path, subtype):
    inner = path.read_bytes()
    boundary = b"=_a_boundary_no_message_holds_="
    raw = (
        b"Content-Type: multipart/" + subtype.encode() + b'; boundary="' + boundary + b'"\r\n\r\n--' + boundary
        + b"\r\nContent-Type: message/rfc822\r\n\r\n" + inner + b"\r\n--" + boundary + b"--\r\n"
    )  # fmt: skip
    (item,) = parse(raw).attachments
    assert (item.content_type, item.content) == ("message/rfc822", inner)
