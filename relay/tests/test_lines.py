"""Lines: how long they may be, and what becomes of the rest (SMTP-10)."""

import asyncio
import time
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.lines import MAX_LINE, Input, LineTooLong
from relay.tests.listening import cut_off


@pytest.mark.parametrize("verb", ["NOOP ", "EHLO ", "VRFY ", "XYZZY ", "", "QUIT "])
def test_a_line_of_513_octets_is_refused_and_one_of_512_is_read(client, verb):
    line = verb + "a" * (510 - len(verb))
    assert client.command(line) != "500 5.5.2 Line too long"
    assert client.command(line + "a") == "500 5.5.2 Line too long"
    assert client.command("NOOP").startswith("250")


@pytest.mark.parametrize("length", [1000, 12_300, 70_000, 1_000_000])
def test_the_tail_of_an_overlong_line_is_never_a_command(client, length):
    client.send(b"EHLO " + b"a" * length + b" QUIT\r\n")
    assert client.reply() == "500 5.5.2 Line too long"
    assert client.command("NOOP") == "250 2.0.0 Ok"


def test_an_overlong_line_is_answered_once_even_when_its_end_comes_in_halves(client):
    client.send(b"a" * 20_000 + b"\r")
    client.send(b"\nNOOP\r\n")
    assert client.reply() == "500 5.5.2 Line too long"
    assert client.reply() == "250 2.0.0 Ok"


@pytest.mark.parametrize("octet", [b"\0", b"\n", b"\r"])
def test_a_line_with_an_octet_that_has_no_place_there_is_refused(client, octet):
    assert client.command(b"NOOP a" + octet + b"b") == "500 5.5.2 Lines must end with CR LF and hold no NUL"
    assert client.command(b"NO" + octet + b"OP").startswith("500 5.5.2")


def test_a_client_that_ends_lines_with_lf_is_told_so_when_it_has_waited_long_enough(listen):
    with listen(idle_timeout_before_auth=0.2).client() as client:
        client.send(b"EHLO printer\n")
        assert client.reply() == "421 4.4.2 Waited too long for a command; lines must end with CR LF"


def test_bytes_that_trickle_in_do_not_lengthen_the_wait(listen):
    def trickle():
        client.send(b"N")
        time.sleep(0.05)

    with listen(idle_timeout_before_auth=0.3).client() as client:
        assert cut_off(trickle, 5)


def read_all(stream, cuts):
    async def read():
        reader = asyncio.StreamReader()
        source = Input(reader)
        found = []
        edges = [0, *sorted(cut for cut in cuts if cut < len(stream)), len(stream)]
        for start, end in pairwise(edges):
            reader.feed_data(stream[start:end])
            while reader._buffer:
                await source.fill()
                found.extend(lines_of(source))
                assert len(source._buffer) <= MAX_LINE
        return found

    def lines_of(source):
        while True:
            try:
                line = source.line()
            except LineTooLong:
                yield "too long"
                continue
            if line is None:
                return
            yield line

    return asyncio.run(read())


pieces = st.sampled_from([b"\r", b"\n", b"\r\n", b"a", b"b" * MAX_LINE, b"c" * (MAX_LINE - 1)])


@settings(max_examples=200, deadline=None)
@given(st.lists(pieces, max_size=8), st.lists(st.integers(0, 50_000), max_size=5))
def test_lines_are_what_stands_between_cr_lf_wherever_the_stream_is_cut(parts, cuts):
    stream = b"".join(parts)
    expected = [line if len(line) <= MAX_LINE else "too long" for line in stream.split(b"\r\n")[:-1]]
    assert read_all(stream, cuts) == expected
