"""MIM-3: bombs are read in time linear in their size, as far as the bounds go, and the original is attached.

The times allowed are many times what is needed, for busy machines; a quadratic reader needs minutes.
"""

import time
import tracemalloc
from contextlib import contextmanager

import pytest

from delivery.mime import addresses, is_multipart, originators, parse, strip_headers
from delivery.mime.charsets import codec_for
from delivery.mime.limits import MAX_ADDRESSES, MAX_DEPTH, MAX_PARTS

MB = 1_000_000


@contextmanager
def within(seconds: float):
    start = time.process_time()
    yield
    assert time.process_time() - start < seconds


def nested(levels: int, body: bytes = b"deep") -> bytes:
    heads = [b"Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n" % (i, i) for i in range(levels)]
    return b"From: a@acme.example\r\n" + b"".join(heads) + b"\r\n" + body


def original(content, raw) -> bool:
    return content.attachments[-1].content == raw and content.defects[-1] == "original-attached"


def test_twenty_thousand_tiny_parts():
    raw = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + b"--b\r\n\r\nx\r\n" * 20_000 + b"--b--\r\n"
    with within(2):
        content = parse(raw)
    assert "too-many-parts" in content.defects
    assert original(content, raw)
    assert content.text.count("x") == MAX_PARTS - 1


def test_twenty_thousand_continuations():
    pieces = b"".join(b" name*%d=xx;\r\n" % i for i in range(20_000))
    raw = b"Content-Type: application/pdf;\r\n" + pieces + b" x=y\r\n\r\nP"
    with within(3):
        (item,) = parse(raw).attachments
    assert item.filename == "xx" * 20_000


@pytest.mark.parametrize("levels", [MAX_DEPTH + 1, 300, 20_000])
def test_multiparts_nested_too_deep(levels):
    raw = nested(levels)
    with within(3):
        content = parse(raw)
    assert "too-deep" in content.defects
    assert original(content, raw)


def test_multiparts_nested_as_deep_as_allowed():
    content = parse(nested(MAX_DEPTH))
    assert content.text == "deep"
    assert "original-attached" not in content.defects


@pytest.mark.parametrize("filling", [b"\r\n", b"\n--b", b"--b0x\r\n", b"\n--b28", b"x", b"Content-A: b\r\n"])
def test_large_bodies_in_deep_nests(filling):
    with within(10):
        parse(nested(MAX_DEPTH, filling * (2 * MB // len(filling))))


UGLY = [
    "(",
    ")",
    '"',
    '"\\',
    "(\\",
    "<",
    ">",
    "[",
    "\\",
    "@",
    ",",
    ";",
    ":",
    "<@a,",
    "a@b ",
    "=?",
    "=?a?q?",
    ". @",
    "a",
    " ",
]


@pytest.mark.parametrize("piece", UGLY)
@pytest.mark.parametrize("name", ["From", "Subject", "Content-Type", "Content-Disposition", "X-Any"])
def test_header_values_made_to_hurt(name, piece):
    raw = f"{name}: {piece * (100_000 // len(piece))}\r\n\r\nbody".encode()
    with within(6):
        parse(raw)
        originators(raw)
        strip_headers(raw)


@pytest.mark.parametrize("piece", [*UGLY, "a=", "a=b;", "%", "'", "a*1*=%41;"])
@pytest.mark.parametrize("before", ["a/b; x=", 'a/b; name="', "a/b; name*=utf-8''", "multipart/mixed; boundary="])
def test_parameters_made_to_hurt(before, piece):
    raw = f"Content-Type: {before}{piece * (100_000 // len(piece))}\r\n\r\nbody".encode()
    with within(4):
        parse(raw)


def test_thousands_of_addresses_are_all_read():
    value = b", ".join(b"Person %d <p%d@x.example>" % (i, i) for i in range(4000))
    with within(2):
        assert len(parse(b"To: " + value + b"\r\n\r\n").to) == 4000
    assert len(addresses("a@b," * (MAX_ADDRESSES + 10))) == MAX_ADDRESSES


@pytest.mark.parametrize(
    "header",
    [b"X-A: b\r\n" * (10 * MB // 8), b"X: " + b"a" * 10 * MB + b"\r\n", b"X:" + b" a\r\n" * 2 * MB, b"Bcc: b\r\n" * MB],
    ids=["many fields", "one line", "one field", "blind copies"],
)
def test_huge_headers_keep_their_body(header):
    raw = b"Subject: s\r\n" + header + b"\r\nbody"
    with within(6):
        content = parse(raw)
        stripped = strip_headers(raw)
    assert (content.subject, content.text) == ("s", "body")
    assert original(content, raw)
    assert stripped.endswith(b"\r\n\r\nbody" if b"Bcc" not in header else b"s\r\n\r\nbody")


@pytest.mark.parametrize("encoding", ["base64", "quoted-printable", "x-uuencode", "7bit"])
@pytest.mark.parametrize("charset", ["utf-8", "iso-2022-jp", "utf-7", "gb2312", "nope"])
@pytest.mark.parametrize(
    "piece",
    [
        b"=",
        b"A=",
        b"= \r\n",
        b" \r\n",
        b"=\r",
        b"begin 644 x\n",
        b"begin 644 x\nend\n",
        b"#AAAA\n",
        b"\x1b$B-!",
        b"\xff",
    ],
)
def test_bodies_made_to_hurt(encoding, charset, piece):
    head = f"Content-Type: text/plain; charset={charset}\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n".encode()
    with within(5):
        parse(head + piece * (MB // 2 // len(piece)))


def test_a_large_attachment_costs_little():
    body = (b"QUJD" * 19 + b"\r\n") * (25 * MB // 78)
    raw = (
        b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: a/b; name=x\r\n"
        b"Content-Transfer-Encoding: base64\r\n\r\n" + body + b"--b--\r\n"
    )
    with within(2):
        (item,) = parse(raw).attachments
    assert item.content == b"ABC" * 19 * (25 * MB // 78)


@pytest.mark.parametrize(
    "ask",
    [
        lambda text: is_multipart(f"text/plain; x={text}"),
        lambda text: codec_for(f"no-charset {text}"),
        lambda text: originators(f"From: {text} <me@acme.example>\r\n\r\n".encode()),
    ],
    ids=["is_multipart", "codec_for", "originators"],
)
def test_long_values_are_not_remembered(ask):
    """MIM-3: a client that makes up ever new ones would fill the memory."""
    ask("warm")
    tracemalloc.start()
    try:
        for number in range(100):
            ask(f"{number:05}" + "x" * 100_000)
        assert tracemalloc.get_traced_memory()[0] < 1_000_000
    finally:
        tracemalloc.stop()
