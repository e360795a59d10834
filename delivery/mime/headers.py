"""Small questions about the top-level header, answered without reading the body."""

import re
from collections.abc import Iterable
from functools import lru_cache

from delivery.mime import parameters
from delivery.mime.fields import HeaderBlock, read_fields, skip_blank_lines
from delivery.mime.words import decode_words, to_text

REMEMBERED = 500
"""Characters of the longest value that is remembered."""
_RECEIVED = re.compile(rb"^received[ \t]*:", re.IGNORECASE | re.MULTILINE)


def header_block(raw: bytes) -> bytes:
    """The octets of the top-level header, without the empty line that ends it; all of `raw` when there is no body."""
    start = skip_blank_lines(raw)
    body = read_fields(raw, start, limit=len(raw)).body
    block = raw[start:body]
    for line_end in (b"\r\n", b"\n"):
        if block == line_end or block.endswith(b"\n" + line_end):
            return block.removesuffix(line_end)
    return block


def header_values(raw: bytes, name: str) -> list[str]:
    """The decoded values of every top-level field of that name, in order. Never raises.

    `raw` is a message or its header block. Each value is one line.
    """
    key = name.lower().encode("utf-8", "replace")
    block = read_fields(raw, skip_blank_lines(raw))
    return [decode_words(to_text(f.value)) for f in block.fields if f.key == key]


def read_header(raw: bytes) -> HeaderBlock:
    """The fields of a message or of its header block, for several questions. Never raises."""
    return read_fields(raw, skip_blank_lines(raw))


def first_values(block: HeaderBlock, names: Iterable[str]) -> dict[str, str]:
    """The decoded value of the first field of each of `names` (lower case), "" where there is none.

    One pass over the block for all of them; never raises.
    """
    wanted = dict.fromkeys(names, "")
    open_ = {name.encode(): name for name in wanted}
    for field in block.fields:
        name = open_.pop(field.key, None)
        if name is not None:
            wanted[name] = decode_words(to_text(field.value))
    return wanted


def values_of(block: HeaderBlock, name: str) -> list[str]:
    """The decoded values of every field of that name (lower case), in order; never raises."""
    key = name.encode()
    return [decode_words(to_text(field.value)) for field in block.fields if field.key == key]


def header_items(raw: bytes) -> list[tuple[str, str]]:
    """Every top-level field in order as (lower-case name, decoded value on one line). Never raises.

    `raw` is a message or its header block.
    """
    block = read_fields(raw, skip_blank_lines(raw))
    return [(f.key.decode("ascii", "replace"), decode_words(to_text(f.value))) for f in block.fields]


def received_count(raw: bytes) -> int:
    """How many hosts the message says it has passed: Received fields of its top-level header (RFC 5321 §6.3)."""
    return len(_RECEIVED.findall(header_block(raw)))


def looks_multipart(raw: bytes) -> bool:
    """A guess from the top-level Content-Type whether the message has attachments (QUE-5); nothing is parsed.

    False for text and for text beside HTML, True for every other type.
    """
    return is_multipart(first_values(read_header(raw), ["content-type"])["content-type"])


def is_multipart(content_type: str) -> bool:
    """The same from the value of that field."""
    # What is remembered must be short: a client may make up any number of long ones.
    return (_is_multipart if len(content_type) <= REMEMBERED else _is_multipart.__wrapped__)(content_type)


@lru_cache(maxsize=1024)
def _is_multipart(content_type: str) -> bool:
    kind = parameters.parse(content_type)[0] if content_type else ""
    return not (kind.startswith("text") or kind in ("", "multipart/alternative"))
