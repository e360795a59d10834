"""Header values to text: unfolding, raw 8-bit octets, RFC 2047 encoded words. Never raises, linear."""

import binascii
import re
from typing import NamedTuple

from delivery.mime.charsets import codec_for, decode
from delivery.mime.limits import MAX_FIELD_BYTES

_FOLD = re.compile(r"(?:\r*\n[ \t]?)+")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f\u2028\u2029]")
_WORD_HEAD = re.compile(r"=\?([^?\s=*]{1,60})(?:\*[^?\s]{0,40})?\?([bBqQ])\?")
_NOT_BASE64 = re.compile(rb"[^A-Za-z0-9+/=]+")


class _Word(NamedTuple):
    charset: str
    encoding: str
    payload: str
    source: str


def to_text(value: bytes, charset: str = "") -> str:
    """A header value as one line of text, encoded words left as they are.

    Raw 8-bit octets are UTF-8 where that is valid (RFC 6532), else in `charset` (the body's, a good guess for old
    mailers), else windows-1252. Control characters become blanks: no value can start a new header line.
    """
    value = value[:MAX_FIELD_BYTES]
    plain = value.isascii() and b"\x1b" not in value
    text = value.decode("ascii") if plain else _eight_bit(value, charset)
    if "\n" in text:
        text = _FOLD.sub(" ", text)
    return _CONTROL.sub(" ", text).strip(" \t")


def _eight_bit(value: bytes, charset: str) -> str:
    guessed, is_utf8 = decode(value, "")
    return guessed if is_utf8 or not charset else decode(value, charset)[0]


def decode_words(text: str) -> str:
    """Text with its RFC 2047 encoded words decoded, as one line.

    Words of one charset that follow each other are joined before decoding, since many mailers split characters
    between words. A word that cannot be read stays as it is written.
    """
    if "=?" not in text:
        return text
    out: list[str] = []
    run: list[_Word] = []
    pos = 0
    for start, end, word in _find_words(text):
        between = text[pos:start]
        if not run or between.strip(" \t"):
            out.append(_decode_run(run))
            out.append(between)
            run = []
        elif (run[-1].charset, run[-1].encoding) != (word.charset, word.encoding):
            out.append(_decode_run(run))
            run = []
        run.append(word)
        pos = end
    out.append(_decode_run(run))
    out.append(text[pos:])
    return _CONTROL.sub(" ", "".join(out))


def encoded_words(text: str) -> list[str]:
    """Every encoded word in a text, as written."""
    return [word.source for _, _, word in _find_words(text)]


def _find_words(text: str) -> list[tuple[int, int, _Word]]:
    """Start, end and parts of every encoded word."""
    found: list[tuple[int, int, _Word]] = []
    pos = 0
    closing = -1
    while head := _WORD_HEAD.search(text, pos):
        if closing < head.end():
            closing = text.find("?=", head.end())
            if closing < 0:
                break
        # A word that never ends must not swallow the next one.
        inner = _WORD_HEAD.search(text, head.end(), closing)
        if inner:
            pos = inner.start()
            continue
        end = closing + 2
        word = _Word(head[1].lower(), head[2].lower(), text[head.end() : closing], text[head.start() : end])
        found.append((head.start(), end, word))
        pos = end
    return found


def _decode_run(run: list[_Word]) -> str:
    if not run:
        return ""
    charset, encoding = run[0].charset, run[0].encoding
    payload = "".join([word.payload for word in run]).encode("utf-8", "replace")
    data = binascii.a2b_qp(payload, header=True) if encoding == "q" else _decode_base64(payload)
    if data is None:
        return " ".join([word.source for word in run])
    # ASCII octets cannot be UTF-16, whatever the label says.
    if codec_for(charset) in ("utf-16", "utf-32") and b"\x00" not in data:
        charset = ""
    return decode(data, charset)[0]


def _decode_base64(payload: bytes) -> bytes | None:
    """Octets of joined base64 words, None when they hold nothing that can be read. Padding starts a new group."""
    out: list[bytes] = []
    for piece in _NOT_BASE64.sub(b"", payload).split(b"="):
        whole = piece[:-1] if len(piece) % 4 == 1 else piece
        out.append(binascii.a2b_base64(whole + b"=" * (-len(whole) % 4)))
    data = b"".join(out)
    return data if data or not payload else None
