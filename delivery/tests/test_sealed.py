"""What is sealed comes back whole or not at all: STO-4, ARC-1."""

import base64
import io
import os

import pytest
from hypothesis import given, settings, strategies

from delivery import sealed
from delivery.sealed import PIECE, Broken, Key, UnknownKey

ONE, TWO = Key.of(b"1" * 32), Key.of(b"2" * 32)
FEW = settings(max_examples=60, deadline=None)
SIZES = [0, 1, 100, PIECE - 1, PIECE, PIECE + 1, 2 * PIECE, 2 * PIECE + 7]
HEAD = sealed.sealed_size(0) - 16


def octets(size):
    return os.urandom(size)


class Dribble(io.RawIOBase):
    """Gives a few octets at a time, as a socket may."""

    def __init__(self, content, most):
        self._source, self._most = io.BytesIO(content), most

    def readable(self):
        return True

    def read(self, size=-1):
        return self._source.read(min(size, self._most))


@pytest.mark.parametrize("size", SIZES)
def test_what_is_sealed_comes_back_whole_and_as_a_stream(size):
    content = octets(size)
    whole = sealed.seal(content, [ONE], context=b"a/b")
    with sealed.sealing(io.BytesIO(content), [ONE], context=b"a/b") as stream:
        streamed = stream.read()
    assert len(whole) == len(streamed) == sealed.sealed_size(size)
    for one in (whole, streamed):
        assert sealed.unseal(one, [ONE], context=b"a/b") == content
        with sealed.unsealing(io.BytesIO(one), [ONE], context=b"a/b") as stream:
            assert b"".join(iter(lambda: stream.read(1000), b"")) == content


@FEW
@given(content=strategies.binary(max_size=3000), most=strategies.integers(1, 700))
def test_streams_that_give_little_at_a_time_are_read_to_the_end(content, most):
    with sealed.sealing(Dribble(content, most), [ONE]) as stream:
        result = stream.read()
    with sealed.unsealing(Dribble(result, most), [ONE]) as stream:
        assert stream.read() == content


def test_nothing_of_the_content_shows_and_nothing_looks_the_same_twice():
    content = b"secret " * 1000
    first, second = sealed.seal(content, [ONE]), sealed.seal(content, [ONE])
    assert b"secret" not in first
    assert first[HEAD:] != second[HEAD:]


@FEW
@given(
    size=strategies.sampled_from(SIZES), where=strategies.floats(0, 1, exclude_max=True), bit=strategies.integers(0, 7)
)
def test_a_changed_bit_anywhere_is_refused(size, where, bit):
    changed = bytearray(sealed.seal(octets(size), [ONE]))
    changed[int(where * len(changed))] ^= 1 << bit
    with pytest.raises(sealed.SealError):
        sealed.unseal(bytes(changed), [ONE])


def test_a_change_of_any_octet_of_the_head_is_refused():
    good = sealed.seal(b"body", [ONE])
    for at in range(HEAD):
        changed = good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :]
        with pytest.raises(sealed.SealError):
            sealed.unseal(changed, [ONE])


@FEW
@given(size=strategies.sampled_from(SIZES), kept=strategies.floats(0, 1, exclude_max=True))
def test_what_is_cut_off_anywhere_is_refused(size, kept):
    good = sealed.seal(octets(size), [ONE])
    with pytest.raises(Broken):
        sealed.unseal(good[: int(kept * len(good))], [ONE])


def test_what_is_cut_off_between_two_pieces_is_refused():
    good = sealed.seal(octets(3 * PIECE), [ONE])
    for pieces in (0, 1, 2):
        with pytest.raises(Broken):
            sealed.unseal(good[: HEAD + pieces * (PIECE + 16)], [ONE])


@FEW
@given(order=strategies.permutations(range(4)).filter(lambda order: [*order] != [0, 1, 2, 3]))
def test_pieces_in_another_order_are_refused(order):
    good = sealed.seal(octets(4 * PIECE), [ONE])
    pieces = [good[HEAD + n * (PIECE + 16) : HEAD + (n + 1) * (PIECE + 16)] for n in range(4)]
    with pytest.raises(Broken):
        sealed.unseal(good[:HEAD] + b"".join(pieces[n] for n in order), [ONE])


@pytest.mark.parametrize(
    "change", [lambda p: [*p, p[-1]], lambda p: [p[0], *p], lambda p: p[1:], lambda p: [p[0], p[2]]]
)
def test_pieces_repeated_or_left_out_are_refused(change):
    good = sealed.seal(octets(3 * PIECE), [ONE])
    pieces = [good[HEAD + n * (PIECE + 16) : HEAD + (n + 1) * (PIECE + 16)] for n in range(3)]
    with pytest.raises(Broken):
        sealed.unseal(good[:HEAD] + b"".join(change(pieces)), [ONE])


def test_pieces_of_two_are_not_mixed():
    first, second = (sealed.seal(octets(2 * PIECE), [ONE]) for _ in range(2))
    with pytest.raises(Broken):
        sealed.unseal(first[: HEAD + PIECE + 16] + second[HEAD + PIECE + 16 :], [ONE])


@FEW
@given(more=strategies.binary(min_size=1, max_size=100))
def test_what_was_appended_to_is_refused(more):
    with pytest.raises(Broken):
        sealed.unseal(sealed.seal(b"body", [ONE]) + more, [ONE])


def test_what_was_sealed_for_one_place_or_purpose_is_refused_in_another():
    for at, kind in ((b"a/c", sealed.BODY), (b"a/b", sealed.COPY)):
        with pytest.raises(Broken):
            sealed.unseal(sealed.seal(b"body", [ONE], kind=sealed.BODY, context=b"a/b"), [ONE], kind=kind, context=at)


def test_all_keys_open_and_the_first_one_seals():
    old = sealed.seal(b"body", [ONE])
    new = sealed.seal(b"body", [TWO, ONE])
    assert sealed.unseal(old, [TWO, ONE]) == sealed.unseal(new, [TWO]) == b"body"
    with pytest.raises(UnknownKey) as caught:
        sealed.unseal(new, [ONE])
    assert caught.value.key_id == TWO.id.hex() == sealed.key_id(new)
    assert repr(TWO.secret) not in repr(TWO)


@FEW
@given(content=strategies.binary(max_size=200))
def test_what_was_never_sealed_is_refused(content):
    with pytest.raises(Broken):
        sealed.unseal(content, [ONE])


def test_half_of_a_large_one_can_be_read_before_the_rest_is_there():
    content = octets(5 * PIECE)
    with sealed.unsealing(io.BytesIO(sealed.seal(content, [ONE])[: -PIECE - 50]), [ONE]) as stream:
        assert stream.read(3 * PIECE) == content[: 3 * PIECE]
        with pytest.raises(Broken):
            stream.read()


@pytest.mark.parametrize("text", ["", "short", base64.urlsafe_b64encode(b"x" * 31).decode(), "ü" * 44])
def test_what_is_no_key_is_refused(text):
    with pytest.raises(ValueError, match=r".*"):
        Key.parse(text)


def test_copies_are_sealed_even_where_bodies_are_not_and_old_ones_open_ever_after(settings):
    settings.STORAGE_KEYS = []
    assert sealed.body_keys() == ()
    before = sealed.seal(b"copy", sealed.copy_keys())
    settings.STORAGE_KEYS = [base64.urlsafe_b64encode(ONE.secret).decode()]
    assert sealed.body_keys() == (ONE,)
    after = sealed.seal(b"copy", sealed.copy_keys())
    assert sealed.key_id(after) == ONE.id.hex() != sealed.key_id(before)
    assert sealed.unseal(before, sealed.copy_keys()) == sealed.unseal(after, sealed.copy_keys()) == b"copy"
