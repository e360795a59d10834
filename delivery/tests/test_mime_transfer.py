"""Content-Transfer-Encodings, whole and broken (RFC 2045 §6, uuencode)."""

import base64
import binascii
import quopri

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from delivery.mime.limits import ENCODING_BROKEN, ENCODING_UNKNOWN, Findings
from delivery.mime.transfer import decode

WHOLE = [
    ("base64", b"SGVsbG8=", b"Hello"),
    ("BASE64 ", b"SGVs\r\nbG8=\r\n", b"Hello"),
    ("base64;", b" SGVs bG8=", b"Hello"),
    ("quoted-printable", b"a=C3=A4 =\r\nb", b"a\xc3\xa4 b"),
    ("Quoted-Printable", b"a=c3=a4", b"a\xc3\xa4"),
    ("quoted printable", b"=41", b"A"),
    ("quoted-printable", b"blanks \t\r\nnext= \r\nline", b"blanks\r\nnextline"),
    ("quoted-printable", b"end=", b"end"),
    ("quoted-printable", b"end= ", b"end"),
    ("7bit", b"=41", b"=41"),
    ("7-bit", b"=41", b"=41"),
    ("8bits", b"\xff", b"\xff"),
    ("binary", b"\x00", b"\x00"),
    ("", b"x", b"x"),
    ("x-uuencode", b"begin 644 x\r\n#86)C\r\n`\r\nend\r\n", b"abc"),
    ("uuencode", b"\r\nbegin 666 x y.txt\n#86)C\nend", b"abc"),
    ("x-uuencode", b"\r\n\r\n", b"\r\n\r\n"),
]


@pytest.mark.parametrize(("encoding", "data", "expected"), WHOLE)
def test_whole_bodies(encoding, data, expected):
    findings = Findings()
    assert decode(data, encoding, findings) == expected
    assert findings.defects == ()


BROKEN = [
    ("base64", b"SGVsbG8", b"Hello", False),
    ("base64", b"SGVsbG8h*SGVs*", b"Hello!Hel", False),
    ("base64", b"SGVsbG8hS", b"Hello!", False),
    ("base64", b"SGVsbG8=SGVsbG8=", b"HelloHello", False),
    ("base64", b"SGVsbG8=\r\n-- \r\nfooter of a list\r\n", b"Hello", True),
    ("base64", b"SGVsbG8h\r\nfooter, of a list\r\n", None, True),
    ("quoted-printable", b"a=ZZ b=4 c==3D", b"a=ZZ b=4 c==", False),
    ("quoted-printable", b"a=\rb", b"ab", False),
    ("quoted-printable", b"===", b"==", False),
    ("spam", b"=41", b"=41", False),
    ("x-uuencode", b"begin 644 x\r\n#86)C\r\n", b"begin 644 x\r\n#86)C\r\n", True),
    ("x-uuencode", b"begin 644 x\r\n#86)C\r\n`\r\nend\r\nmore", None, True),
]


@pytest.mark.parametrize(("encoding", "data", "expected", "uncertain"), BROKEN)
def test_broken_bodies_are_read_as_far_as_they_go(encoding, data, expected, uncertain):
    findings = Findings()
    found = decode(data, encoding, findings)
    assert expected is None or found == expected
    assert findings.uncertain is uncertain
    assert findings.defects[0] in (ENCODING_BROKEN, ENCODING_UNKNOWN)


@settings(deadline=None)
@given(st.binary(max_size=300), st.integers(1, 80))
def test_base64_round_trip_in_lines_of_any_length(data, width):
    encoded = base64.b64encode(data)
    lines = [encoded[i : i + width] for i in range(0, len(encoded), width)]
    findings = Findings()
    assert decode(b"\r\n".join(lines), "base64", findings) == data
    assert findings.defects == ()


@settings(deadline=None)
@given(st.text(max_size=300))
def test_quoted_printable_round_trip(text):
    data = text.encode()
    encoded = quopri.encodestring(data.replace(b"\r", b"").replace(b"\n", b"\r\n"), quotetabs=True)
    findings = Findings()
    assert decode(encoded, "quoted-printable", findings) == data.replace(b"\r", b"").replace(b"\n", b"\r\n")


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_uuencode_round_trip(data):
    lines = [binascii.b2a_uu(data[i : i + 45]) for i in range(0, len(data), 45)]
    body = b"begin 644 f\n" + b"".join(lines) + b"`\nend\n"
    assert decode(body, "x-uuencode", Findings()) == data


@settings(deadline=None)
@given(st.binary(max_size=200), st.sampled_from(["base64", "quoted-printable", "x-uuencode", "7bit", "x"]))
def test_any_octets_are_read_without_raising(data, encoding):
    decode(data, encoding, Findings())
    decode(b"begin 644 x\n" + data + b"\nend\n", encoding, Findings())
