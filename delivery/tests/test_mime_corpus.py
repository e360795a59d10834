"""MIM-3, MIM-4: the corpus of real and malformed mail, checked against CPython's parser where that one is sure."""

import email
import email.policy
import re
from email.message import Message

import pytest

from delivery.mime import header_block, header_values, originators, parse, read_header, received_count, strip_headers
from delivery.tests.mime_samples import FILES, needs_corpus

pytestmark = needs_corpus

every_message = pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)

# Where CPython sees no defect and is still wrong, looked at by hand.
CPYTHON_IS_WRONG = {
    # It ends the header at "To    : Mary Smith", which RFC 5322 §4.5.3 allows.
    "mikel-mail__rfc2822_example13",
    # A line outside uuencoded groups makes it fall back to a slower decoder that stops early.
    "spamscope__mail_test_15",
}


@every_message
def test_is_read_without_falling_back(path):
    content = parse(path.read_bytes())
    assert "unreadable" not in content.defects
    assert content.text is not None or content.html is not None or content.attachments


@every_message
def test_loses_no_attachment_and_no_text(path):
    raw = path.read_bytes()
    oracle = email.message_from_bytes(raw, policy=email.policy.compat32)
    if any(part.defects for part in oracle.walk()) or path.stem in CPYTHON_IS_WRONG:
        pytest.skip("CPython is not sure of this message either")
    content = parse(raw)
    attached = [_letters(a.content) for a in content.attachments]
    shown = _letters(((content.text or "") + (content.html or "")).encode())
    for part in _leaves(oracle):
        payload = part.get_payload(decode=True) or b""
        if part.get_content_maintype() == "text" and _letters(payload) not in attached:
            assert _letters(_text(part, payload).encode()) in shown, part.get_content_type()
        else:
            assert _letters(payload) in attached, part.get_content_type()


@every_message
def test_every_file_name_cpython_sees_is_kept(path):
    oracle = email.message_from_bytes(path.read_bytes(), policy=email.policy.compat32)
    names = [p.get_filename() for p in _leaves(oracle) if p.get_filename() and not p.defects]
    ours = {a.filename for a in parse(path.read_bytes()).attachments}
    for name in names:
        if name.isascii() and "=?" not in name and "\n" not in name:
            assert name in ours or not oracle.is_multipart()


@every_message
def test_is_the_same_bytes_when_no_header_is_taken_out(path):
    raw = path.read_bytes()
    assert strip_headers(raw, ()) is raw
    assert strip_headers(raw, ("x-not-there", "x-nor-this-*")) == raw


@every_message
def test_taking_a_header_out_leaves_every_other_byte(path):
    raw = path.read_bytes()
    without = strip_headers(raw, ("subject",))
    assert header_values(without, "subject") == []
    body = raw[len(header_block(raw)) :]
    assert without.endswith(body)
    kept = [line for line in header_block(raw).splitlines(keepends=True) if line in header_block(without)]
    assert set(header_block(without).splitlines(keepends=True)) <= set(kept)


@every_message
def test_header_access_never_raises(path):
    raw = path.read_bytes()
    assert originators(raw, read_header(raw)) == originators(raw)
    assert received_count(raw) == len(header_values(raw, "Received"))


def _leaves(root: Message):
    """Parts that hold content, not those inside attached messages."""
    if root.is_multipart() and not root.get_content_type().startswith("message/"):
        for part in root.get_payload():
            yield from _leaves(part)
    elif not root.is_multipart():
        yield root


def _text(part: Message, payload: bytes) -> str:
    charset = str(part.get_content_charset() or "utf-8").lower()
    charset = {"iso-8859-1": "cp1252", "us-ascii": "utf-8", "gb2312": "gb18030"}.get(charset, charset)
    try:
        return payload.decode(charset)
    except (LookupError, UnicodeError):
        pytest.skip("CPython cannot read the charset")


def _letters(data: bytes) -> bytes:
    return re.sub(rb"[\s\x00]+", b"", data)
