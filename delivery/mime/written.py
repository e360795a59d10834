"""Header fields as they are written: nothing that stands in a value can end its field.

The standard library's own writer (CPython before 3.11.10) decodes what looks like an encoded word and writes the line
breaks in it, so that a subject could add a header; it is not used.
"""

from __future__ import annotations

import re
import unicodedata
from base64 import b64encode
from collections.abc import Mapping, Sequence
from urllib.parse import quote

from providers.base import Mailbox

LINE = 76
LONGEST_WORD = 900  # within the 998 octets a line may have (RFC 5322 §2.1.1)
_NAME = re.compile(r"[!-9;-~]+\Z")
_ATOMS = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?: [A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*\Z")
_TOKEN = re.compile(r"[A-Za-z0-9!#$&'*+.^_`{|}~-]+\Z")
_IN_PARAMETER = "!#$&+-.^_`|~"
_WORD_OCTETS = 45  # of text in one encoded word: 60 letters of base64, within 75 (RFC 2047 §2)
_OUTSIDE = re.compile(r"[\s<>,;:()\[\]\\\"]")


def field(name: str, value: str) -> bytes:
    """A field of free text, ending in CRLF. Raises ValueError for a name that is none, and for control characters."""
    if not _NAME.match(name):
        raise ValueError(f"{name!r} is no name of a header")
    _check(name, value)
    return f"{name}: {_text(value.strip(), len(name) + 2)}\r\n".encode()


def mailboxes(name: str, entries: Sequence[Mailbox]) -> bytes:
    """A field of addresses, ending in CRLF; addresses that are not ASCII are written as UTF-8 (RFC 6532)."""
    written = ",\r\n ".join(_mailbox(name, entry) for entry in entries)
    return f"{name}: {written}\r\n".encode()


def parameters(name: str, value: str, given: Mapping[str, str]) -> bytes:
    """A field such as Content-Type with its parameters, each on a line of its own (RFC 2045 §5.1, RFC 2231)."""
    _check(name, value)
    return "".join([f"{name}: {value}", *(_parameter(key, text) for key, text in given.items()), "\r\n"]).encode()


def is_token(text: str) -> bool:
    """Whether it may be a type, a subtype or the name of a parameter (RFC 2045 §5.1)."""
    return bool(_TOKEN.match(text))


def is_content_type(text: str) -> bool:
    """Whether it is a type and a subtype, without parameters."""
    main, _, sub = text.partition("/")
    return is_token(main) and is_token(sub)


def _check(name: str, value: str) -> None:
    if any(unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") for c in value):
        raise ValueError(f"{name} holds a line break or a control character")


def _text(value: str, used: int) -> str:
    """Plain where that can be: ASCII, nothing that reads as an encoded word, and no word too long for a line."""
    if value.isascii() and "=?" not in value and all(len(word) < LONGEST_WORD for word in value.split(" ")):
        return _fold(value, used)
    return _encoded(value)


def _fold(value: str, used: int) -> str:
    lines, line = [], ""
    for piece in re.findall(r" *[^ ]+", value):
        if line and used + len(line) + len(piece) > LINE:
            lines.append(line)
            line, used = "", 0
        line += piece
    return "\r\n".join([*lines, line])


def _encoded(value: str) -> str:
    """Encoded words (RFC 2047), none of which splits a character."""
    words, octets = [], b""
    for character in value:
        encoded = character.encode()
        if len(octets) + len(encoded) > _WORD_OCTETS:
            words.append(octets)
            octets = b""
        octets += encoded
    return "\r\n ".join(f"=?utf-8?b?{b64encode(word).decode()}?=" for word in [*words, octets])


def _mailbox(field_name: str, entry: Mailbox) -> str:
    _check(field_name, entry.name + entry.address)
    local, at, domain = entry.address.rpartition("@")
    quoted = len(local) > 1 and local.startswith('"') and local.endswith('"')
    if not at or not local or not domain or _OUTSIDE.search(domain.strip("[]").replace(":", "")):
        raise ValueError(f"{field_name} holds what is no address")
    if not quoted and _OUTSIDE.search(local):
        raise ValueError(f"{field_name} holds an address that has to be quoted")
    name = " ".join(entry.name.split())
    if not name:
        return entry.address if not quoted else f"<{entry.address}>"
    if not name.isascii() or "=?" in name or len(name) > LINE - 12:
        return f"{_encoded(name)}\r\n <{entry.address}>"
    return f"{name if _ATOMS.match(name) else _quoted(name)} <{entry.address}>"


def _quoted(text: str) -> str:
    return '"' + re.sub(r'(["\\])', r"\\\1", text) + '"'


def _parameter(name: str, value: str) -> str:
    if not is_token(name):
        raise ValueError(f"{name!r} is no name of a parameter")
    _check(name, value)
    if value.isascii() and len(value) <= LINE - len(name) - 6:
        return f";\r\n {name}={_quoted(value)}"
    if len(encoded := quote(value, safe=_IN_PARAMETER)) <= LINE - len(name) - 12:
        return f";\r\n {name}*=utf-8''{encoded}"
    pieces = re.findall(rf"(?:%..|[^%]){{1,{(LINE - len(name) - 20) // 3}}}", "utf-8''" + encoded)
    return "".join(f";\r\n {name}*{number}*={piece}" for number, piece in enumerate(pieces))
