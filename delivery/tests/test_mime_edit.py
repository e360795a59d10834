"""SMTP-8, PRV-3: what is taken out of a message before it leaves, and that nothing else changes."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from delivery.mime import strip_headers, without_headers
from delivery.mime.edit import REMOVED_AT_DELIVERY

CASES = {
    "Bcc": (b"From: a\r\nBcc: x@y\r\nTo: b\r\n\r\nbody", b"From: a\r\nTo: b\r\n\r\nbody"),
    "any case": (b"bCC: x@y\r\nTo: b\r\n\r\n", b"To: b\r\n\r\n"),
    "obsolete syntax": (b"Bcc \t : x@y\r\nTo: b\r\n\r\n", b"To: b\r\n\r\n"),
    "folded": (b"A: 1\r\nBcc: x@y,\r\n z@y,\r\n\tw@y\r\nTo: b\r\n\r\n", b"A: 1\r\nTo: b\r\n\r\n"),
    "folded over blanks": (b"Bcc: x@y,\r\n \r\n z@y\r\nTo: b\r\n\r\n", b"To: b\r\n\r\n"),
    "a broken fold": (b"Bcc: x@y,\r\nz@y\r\nTo: b\r\n\r\n", b"To: b\r\n\r\n"),
    "several": (b"Bcc: 1\r\nTo: b\r\nBcc: 2\r\nBcc: 3\r\n\r\n", b"To: b\r\n\r\n"),
    "resent": (b"Resent-Bcc: x\r\nResent-To: b\r\n\r\n", b"Resent-To: b\r\n\r\n"),
    "control headers": (b"X-Send-At: 1\r\nX-SMTPProxy-Tag: x\r\nx-smtpproxy-:y\r\nTo: b\r\n\r\n", b"To: b\r\n\r\n"),
    "lone LF": (b"Bcc: x\n y\nTo: b\n\nBcc: body\n", b"To: b\n\nBcc: body\n"),
    "no body": (b"To: b\r\nBcc: x\r\n", b"To: b\r\n"),
    "no line end": (b"To: b\r\nBcc: x", b"To: b\r\n"),
    "alone": (b"Bcc: x", b""),
    "empty": (b"Bcc:\r\nTo: b\r\n\r\n", b"To: b\r\n\r\n"),
    "junk before": (b"junk\r\nBcc: x\r\nTo: b\r\n\r\n", b"junk\r\nTo: b\r\n\r\n"),
    "empty lines before": (b"\r\nBcc: x\r\nTo: b\r\n\r\n", b"\r\nTo: b\r\n\r\n"),
    "text without an empty line": (b"To: b\r\nBcc: x\r\nHello\r\n\r\nBcc: y", b"To: b\r\nHello\r\n\r\nBcc: y"),
    "a boundary without an empty line": (
        b"Bcc: x\r\n--b\r\nContent-Type: text/plain\r\n\r\nhi",
        b"--b\r\nContent-Type: text/plain\r\n\r\nhi",
    ),
}


@pytest.mark.parametrize(("raw", "expected"), CASES.values(), ids=CASES.keys())
def test_what_no_reader_may_see_is_taken_out(raw, expected):
    assert strip_headers(raw) == expected


UNTOUCHED = {
    "nothing to take": b"From: a\r\nTo: b\r\n\r\nbody\r\n",
    "in the body": b"To: b\r\n\r\nBcc: x\r\n\r\nX-Send-At: 1\r\n",
    "in a value": b"Subject: Bcc: x\r\n Bcc: y\r\n\r\n",
    "in a part": b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nBcc: x\r\n\r\n--b--\r\n",
    "in an attached message": b"Content-Type: message/rfc822\r\n\r\nBcc: x\r\nTo: y\r\n\r\n",
    "no header": b"\r\nBcc x\r\n",
    "a longer name": b"X-Bcc: x\r\nBccx: y\r\nX-Send-After: z\r\n\r\n",
    "octets of every kind": bytes(range(256)),
    "nothing": b"",
}


@pytest.mark.parametrize("raw", UNTOUCHED.values(), ids=UNTOUCHED.keys())
def test_a_message_without_them_is_the_same_bytes(raw):
    assert strip_headers(raw) is raw


def test_names_are_chosen_by_the_caller():
    raw = b"A: 1\r\nAb: 2\r\nB.c: 3\r\nBxc: 4\r\n\r\n"
    assert strip_headers(raw, ("a",)) == b"Ab: 2\r\nB.c: 3\r\nBxc: 4\r\n\r\n"
    assert strip_headers(raw, ("a*",)) == b"B.c: 3\r\nBxc: 4\r\n\r\n"
    assert strip_headers(raw, ("b.c",)) == b"A: 1\r\nAb: 2\r\nBxc: 4\r\n\r\n"
    assert strip_headers(raw, ()) is raw


FIELDS = st.sampled_from(
    [b"To: a", b"Subject: x\r\n folded", b"DKIM-Signature: v=1;\r\n\tb=abc=", b"X-A: \xff\xfe", b"x:"]
)
HIDDEN = st.sampled_from([b"Bcc: a@b", b"BCC : a@b,\r\n c@d", b"x-send-at:1", b"X-SMTPProxy-Anything: \xff"])


@settings(deadline=None)
@given(st.lists(FIELDS), st.lists(HIDDEN), st.randoms(), st.binary(max_size=100))
def test_exactly_the_hidden_fields_go(kept, hidden, random, body):
    mixed = [(field, True) for field in kept] + [(field, False) for field in hidden]
    random.shuffle(mixed)
    tail = b"\r\n" + body
    raw = b"".join(field + b"\r\n" for field, _ in mixed) + tail
    wanted = b"".join(field + b"\r\n" for field, is_kept in mixed if is_kept) + tail
    if not mixed:
        assert strip_headers(raw, REMOVED_AT_DELIVERY) in (raw, wanted)
    else:
        assert strip_headers(raw, REMOVED_AT_DELIVERY) == wanted


def test_the_names_of_what_was_left_out_are_told_once_and_within_bounds():
    raw = b"From: a@acme.example\r\nBCC : b@acme.example\r\nbcc: c@acme.example\r\nX-Send-At: now\r\n\r\nBcc: d\r\n"
    kept, removed = without_headers(raw)
    assert kept == b"From: a@acme.example\r\n\r\nBcc: d\r\n"
    assert removed == ("BCC", "bcc", "X-Send-At")
    many = b"".join(b"X-Smtpproxy-%d-%s: x\r\n" % (number, b"y" * 200) for number in range(50))
    _, removed = without_headers(many + b"\r\n")
    assert len(removed) == 20
    assert {len(name) for name in removed} == {76}
