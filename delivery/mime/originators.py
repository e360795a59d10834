"""Who a message says it is from, as seen by the most gullible reader (SMTP-6).

Readers disagree about broken From fields. A check that took one of their readings would let a client show another
address to somebody else, so every address that any reader may take counts.
"""

import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache

from delivery.mime.addresses import addresses, looks_like_addresses, tokens
from delivery.mime.fields import HeaderBlock, read_fields, skip_blank_lines
from delivery.mime.limits import MAX_ORIGINATOR_BYTES
from delivery.mime.words import decode_words, encoded_words, to_text

_CONTROL = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_LONE_CR = re.compile(rb"\r(?!\n)")
REMEMBERED = 500
"""Octets of the longest field that is remembered."""
_AT = ("special", "@")
_MISLEADING = frozenset("@<>,;")
_DELIMITERS = frozenset('<>,;:"()')


@dataclass(frozen=True, slots=True)
class Originators:
    """Addresses as `local@domain`, spelt as written, each once.

    `from_` and `sender` hold every address of every From or Sender field. The message may pass when `doubts` is empty,
    `from_` is not, and every address is allowed. `doubts` says why the fields cannot be read with certainty.
    """

    from_: tuple[str, ...]
    sender: tuple[str, ...]
    doubts: tuple[str, ...] = ()


def originators(raw: bytes, block: HeaderBlock | None = None) -> Originators:
    """Read From and Sender of a message or of its header block. Never raises, linear.

    `block` is what `read_header` found in `raw`, for who has it already.
    """
    if block is None or block.garbage or block.truncated:
        block = read_fields(raw, skip_blank_lines(raw), wide=True)
    doubts: dict[str, None] = {}
    if block.truncated:
        doubts["the header is too large"] = None
    found: dict[bytes, dict[str, None]] = {b"from": {}, b"sender": {}}
    named = [field for field in block.fields if field.key in found]
    if sum(len(field.value) for field in named) > MAX_ORIGINATOR_BYTES:
        doubts["From and Sender are too large"] = None
        named = []
    for field in named:
        read = _read if len(field.value) <= REMEMBERED else _read.__wrapped__
        addresses_, doubts_ = read(field.key, field.value)
        found[field.key].update(addresses_)
        doubts.update(doubts_)
    if _LONE_CR.search(raw, 0, block.body):
        doubts["a lone CR in the header"] = None
    return Originators(tuple(found[b"from"]), tuple(found[b"sender"]), tuple(doubts))


@lru_cache(maxsize=4096)
def _read(key: bytes, value: bytes) -> tuple[dict[str, None], dict[str, None]]:
    """Every address a field may be read as, and what cannot be told. Applications write the same From again and
    again, so that it is remembered."""
    doubts: dict[str, None] = {}
    return _candidates(key, value, doubts), doubts


def _candidates(key: bytes, value: bytes, doubts: dict[str, None]) -> dict[str, None]:
    """Every address this field may be read as; what cannot be told is added to `doubts`."""
    name = key.decode("ascii").capitalize()
    if _CONTROL.search(value):
        doubts[f"control characters in {name}"] = None
    text = to_text(value)
    found = dict.fromkeys(m.address for m in addresses(text))
    plain: list[str] = []
    for kind, token in tokens(text):
        # A comment or quote splits what a reader without comments would split: "me@globex.example(x).acme.example".
        plain.append(token if kind not in ("quoted", "comment") else " ")
        if kind == "junk":
            plain = [text.translate({ord(c): " " for c in '"()[]'})]
            break
    plain.extend(_if_misleading(word) for word in encoded_words(text))
    found |= dict.fromkeys(looks_like_addresses("".join(plain)))
    if not found:
        doubts[f"no address in {name}"] = None
    for address in found:
        _doubt_address(address, name, doubts)
    _doubt_form(text, name, doubts)
    return found


def _if_misleading(word: str) -> str:
    """What an encoded word adds for readers who decode before they parse, or do not know encoded words."""
    decoded = decode_words(word)
    shown = [text for text in (word, decoded) if "@" in text and _DELIMITERS.intersection(text)]
    return " , " + " , ".join(shown) + " , " if shown else ""


def _doubt_address(address: str, name: str, doubts: dict[str, None]) -> None:
    local, _, domain = address.rpartition("@")
    if "@" in unicodedata.normalize("NFKC", local) or "@" in unicodedata.normalize("NFKC", domain):
        doubts[f"an address inside an address in {name}"] = None
    if local.startswith('"') and set('<>,;:()"\\') & set(local[1:-1]):
        doubts[f"a quoted local part that can be misread in {name}"] = None


def _doubt_form(text: str, name: str, doubts: dict[str, None]) -> None:
    """Source routes, and addresses in comments inside an address: legal, obsolete, and read in many ways."""
    previous = ("", "")
    for token in tokens(text):
        if token.kind == "blank":
            continue
        if token == _AT and previous == ("special", "<"):
            doubts[f"a source route in {name}"] = None
        comment = previous if token == _AT else token
        if _AT in (token, previous) and comment[0] == "comment" and _MISLEADING.intersection(comment[1]):
            doubts[f"a comment inside an address in {name}"] = None
        previous = token
