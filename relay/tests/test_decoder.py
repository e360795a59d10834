"""From octets to a message: the end marker, dots and line ends, however the octets are cut (SMTP-8, SMTP-9)."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.decoder import DataDecoder, Fault


def decode(stream, cuts=(), *, normalise=True, max_size=10**6):
    decoder = DataDecoder(max_size, normalise_bare_lf=normalise)
    edges = [0, *sorted(cut for cut in cuts if 0 < cut < len(stream)), len(stream)]
    pieces = []
    for start, end in pairwise(edges):
        if decoder.finished:
            decoder.rest += stream[start:end]
        elif end > start:
            pieces.append(decoder.feed(stream[start:end]))
    return b"".join(pieces), decoder


@pytest.mark.parametrize(
    ("stream", "message"),
    [
        (b".\r\n", b""),
        (b"\r\n.\r\n", b"\r\n"),
        (b"a\r\n.\r\n", b"a\r\n"),
        (b"..\r\n.\r\n", b".\r\n"),
        (b"..a\r\n.b\r\n...\r\n.\r\n", b".a\r\nb\r\n..\r\n"),
        (b"a\r\n..\r\n..\r\n.\r\n", b"a\r\n.\r\n.\r\n"),
        (b"a.\r\nb .\r\n.\r\n", b"a.\r\nb .\r\n"),
        (b"\xff\xfe\x80\r\n.\r\n", b"\xff\xfe\x80\r\n"),
        (b"a\nb\n\n\r\n.\r\n", b"a\r\nb\r\n\r\n\r\n"),
        (b"\na\r\n.\r\n", b"\r\na\r\n"),
        (b"a\n.\nb\r\n.\r\n", b"a\r\n.\r\nb\r\n"),
        (b"a\n.\r\nb\r\n.\r\n", b"a\r\n.\r\nb\r\n"),
        (b"a\r\n.\nb\r\n.\r\n", b"a\r\n\r\nb\r\n"),
        (b"x" * 5000 + b"\r\n.\r\n", b"x" * 5000 + b"\r\n"),
    ],
)
def test_messages_at_every_cut(stream, message):
    for cut in range(len(stream) + 1):
        decoded, decoder = decode(stream, [cut])
        assert decoded == message
        assert decoder.finished
        assert decoder.fault is None
        assert decoder.size == len(message)


@pytest.mark.parametrize("stream", [b"a\rb\r\n.\r\n", b"a\r\r\n.\r\n", b"\r.\r\r\n.\r\n", b"a\n\rb\r\n.\r\n"])
def test_a_lone_cr_is_a_fault_at_every_cut(stream):
    for cut in range(len(stream) + 1):
        _, decoder = decode(stream, [cut])
        assert (decoder.finished, decoder.fault) == (True, Fault.BARE_CR)


def test_a_lone_lf_is_a_fault_where_configured():
    for cut in range(8):
        _, decoder = decode(b"a\nb\r\n.\r\n", [cut], normalise=False)
        assert (decoder.finished, decoder.fault) == (True, Fault.BARE_LF)


def test_nul_is_a_fault():
    assert decode(b"a\0b\r\n.\r\n")[1].fault is Fault.NUL


def test_what_follows_the_marker_is_left_alone():
    _, decoder = decode(b"a\r\n.\r\nNOOP\r\nQUIT\r\n")
    assert decoder.rest == b"NOOP\r\nQUIT\r\n"


def test_the_size_counts_the_decoded_message_and_its_last_octet():
    assert decode(b"..234\r\n.\r\n", max_size=6)[1].fault is None
    decoded, decoder = decode(b"..2345\r\n.\r\n", max_size=6)
    assert (decoded, decoder.fault, decoder.finished) == (b"", Fault.TOO_BIG, True)


def test_nothing_is_given_back_after_a_fault():
    decoder = DataDecoder(10, normalise_bare_lf=True)
    assert decoder.feed(b"x" * 20) == b""
    assert decoder.feed(b"y\r\n") == b""
    assert not decoder.finished
    assert decoder.feed(b".\r\n") == b""
    assert decoder.finished


def by_lines(stream):
    """The same by the book: lines end with CR LF, one that is a dot ends all, one dot at a line's begin goes."""
    lines = stream.split(b"\r\n")
    for number, line in enumerate(lines[:-1]):
        if line == b".":
            kept = b"".join(each.removeprefix(b".") + b"\r\n" for each in lines[:number])
            return kept, b"\r\n".join(lines[number + 1 :])
    return None, None


fragments = st.sampled_from([b"\r", b"\n", b".", b"a", b"\r\n", b"\r\n.", b"\r\n.\r\n", b"\n.\n", b"\0", b"\xe9"])


@settings(max_examples=600, deadline=None)
@given(st.lists(fragments, max_size=14), st.lists(st.integers(0, 60), max_size=8))
def test_any_octets_cut_anywhere_mean_what_the_book_says(parts, cuts):
    stream = b"".join(parts)
    expected, rest = by_lines(stream)
    decoded, decoder = decode(stream, cuts)
    assert decoder.finished == (expected is not None)
    if expected is None:
        return
    assert decoder.rest == rest
    without_pairs = expected.replace(b"\r\n", b"")
    if b"\r" in without_pairs:
        assert decoder.fault in (Fault.BARE_CR, Fault.NUL)
    elif b"\0" in expected:
        assert decoder.fault in (Fault.NUL, Fault.BARE_CR)
    else:
        assert decoder.fault is None
        assert decoded == expected.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
