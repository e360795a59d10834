"""Small questions about the top-level header, answered without reading the body."""

import re

from delivery.mime import parameters
from delivery.mime.fields import read_fields, skip_blank_lines
from delivery.mime.words import decode_words, to_text

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
    values = header_values(raw, "content-type")
    kind = parameters.parse(values[0])[0] if values else ""
    return not (kind.startswith("text") or kind in ("", "multipart/alternative"))
