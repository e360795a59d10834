"""Other people's words become one harmless line (PRV-12, SEC-8)."""

import pytest

from providers.scrub import MAX_LENGTH, scrub


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("all is well", "all is well"),
        ("two\r\nlines\tand\x00more\x9b\u2028", "two lines and more"),
        ("Authorization: Bearer abc.def-123 refused", "Authorization: *** refused"),
        ("got Basic dXNlcjpwYXNz there", "got *** there"),
        ("AUTH PLAIN AGFubmEAc2VjcmV0 failed", "*** failed"),
        ("key SG.abcdefghijkl.mnopqrstuv is bad", "key *** is bad"),
        ("key re_abcdefghijkl is bad", "key *** is bad"),
        ("key xkeysib-0123-abc is bad", "key *** is bad"),
        ("key-0123456789abcdef0123456789abcdef is bad", "*** is bad"),
        ("see https://anna:secret@api.test/x", "see https://***@api.test/x"),
        (b"Gr\xc3\xbc\xc3\x9fe \xff", "Grüße \ufffd"),
    ],
)
def test_control_characters_and_credentials_go(text, clean):
    assert scrub(text) == clean


def test_the_rows_own_secrets_go_wherever_they_stand():
    assert scrub("no hunter2hunter2 and no hunter2", ["hunter2", "hunter2hunter2", "", "no"]) == "no *** and no ***"


def test_long_text_is_cut():
    assert scrub("x" * 2000) == "x" * (MAX_LENGTH - 1) + "…"
    assert len(scrub(b"\xff" * 100_000)) == MAX_LENGTH
