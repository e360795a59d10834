"""The tree of parts (RFC 2046 §5): offsets into the message, nothing copied, nothing decoded.

Parts are found from the outside in, each boundary by a search in its own multipart, so that the work is linear in the
size of the message for each of at most MAX_DEPTH levels.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from delivery.mime import parameters
from delivery.mime.fields import Field, read_fields
from delivery.mime.limits import (
    BOUNDARY_GUESSED,
    BOUNDARY_MISSING,
    BOUNDARY_UNCERTAIN,
    HEADER_GARBAGE,
    HEADER_TOO_LARGE,
    MAX_DEPTH,
    MAX_FIELD_BYTES,
    NOT_CLOSED,
    TOO_DEEP,
    TOO_MANY_PARTS,
    TYPE_INVALID,
    Findings,
)
from delivery.mime.words import decode_words, to_text

_TYPE = re.compile(r"[!#$%&'*+.^_`|~0-9a-z{}-]+/[!#$%&'*+.^_`|~0-9a-z{}-]+")
_GUESS = re.compile(rb"(?:\A|\n)--([^\r\n]{1,200}?)[ \t]*\r?\n(?=[Cc][Oo][Nn][Tt][Ee][Nn][Tt]-|\r?\n)")
_PART_HEADER = re.compile(rb"^content-[a-z-]{2,30}[ \t]*:", re.IGNORECASE | re.MULTILINE)
_AFTER_BOUNDARY = re.compile(rb"(--)?[ \t]*(?:\r?\n|\r?\Z)")


class Span(NamedTuple):
    """A part between delimiter lines; `group` counts the closing lines before it."""

    start: int
    end: int
    group: int


@dataclass(slots=True)
class Part:
    """One body part: its fields and the span of its body. `children` is empty for a leaf."""

    fields: list[Field]
    start: int
    end: int
    content_type: str
    parameters: dict[str, str]
    disposition: str
    disposition_parameters: dict[str, str]
    children: list["Part"] = field(default_factory=list)

    @property
    def is_multipart(self) -> bool:
        return self.content_type.startswith("multipart/")

    def value(self, key: bytes) -> str:
        """The first field of that (lower-case) name as text, encoded words left alone; "" when there is none."""
        return next((to_text(f.value) for f in self.fields if f.key == key), "")

    def filename(self) -> str:
        """The name the sender gave it, "" when none."""
        return self.disposition_parameters.get("filename") or self.parameters.get("name", "")


def read_part(
    raw: bytes, start: int, end: int, findings: Findings, *, depth: int = 0, default: str = "text/plain"
) -> Part:
    """The part that lies at `raw[start:end]`, with all parts in it. Never raises."""
    findings.parts_left -= 1
    block = read_fields(raw, start, end, limit=findings.header_bytes_left)
    findings.header_bytes_left = max(0, findings.header_bytes_left - (block.body - start))
    _note_header(block.fields, block.garbage, block.truncated, findings)
    part = _described(block.fields, block.body, end, default, findings)
    if part.is_multipart:
        _read_children(raw, part, findings, depth)
    return part


def _note_header(fields: list[Field], garbage: bool, truncated: bool, findings: Findings) -> None:
    if garbage:
        findings.note(HEADER_GARBAGE)
    if truncated or any(len(f.value) > MAX_FIELD_BYTES for f in fields):
        findings.note(HEADER_TOO_LARGE, uncertain=True)


def _described(fields: list[Field], start: int, end: int, default: str, findings: Findings) -> Part:
    """A part with its Content-Type and Content-Disposition read."""
    content_type, type_parameters = default, dict[str, str]()
    given = [to_text(f.value) for f in fields if f.key == b"content-type"]
    for value in given:
        content_type, type_parameters = parameters.parse(value)
        if _TYPE.fullmatch(content_type):
            break
    disposition, disposition_parameters = "", dict[str, str]()
    for item in fields:
        if item.key == b"content-disposition" and not disposition:
            disposition, disposition_parameters = parameters.parse(to_text(item.value))
    if not _TYPE.fullmatch(content_type):
        named = "filename" in disposition_parameters or "name" in type_parameters
        if given and content_type != "text":
            findings.note(TYPE_INVALID)
        # RFC 2045 §5.2: what cannot be read is text/plain; but a file keeps being one.
        content_type = "application/octet-stream" if named or disposition == "attachment" else "text/plain"
    return Part(fields, start, end, content_type, type_parameters, disposition, disposition_parameters)


def _read_children(raw: bytes, part: Part, findings: Findings, depth: int) -> None:
    if depth >= MAX_DEPTH:
        findings.note(TOO_DEEP, uncertain=True)
        return
    default = "message/rfc822" if part.content_type == "multipart/digest" else "text/plain"
    adopting: Part | None = None
    adopted_group = -1
    for start, end, group in _spans(raw, part, findings):
        if findings.parts_left <= 0:
            findings.note(TOO_MANY_PARTS, uncertain=True)
            return
        child = read_part(raw, start, end, findings, depth=depth + 1, default=default)
        if adopting is not None and group == adopted_group:
            adopting.children.append(child)
            continue
        part.children.append(child)
        if _shares_boundary(raw, part, child):
            adopting, adopted_group = child, group


def _shares_boundary(raw: bytes, part: Part, child: Part) -> bool:
    """True for an inner multipart with the boundary of the outer one: what follows up to a closing line is its own."""
    boundary = child.parameters.get("boundary")
    return (
        child.is_multipart
        and not child.children
        and boundary == part.parameters.get("boundary")
        and not raw[child.start : child.end].strip()
    )


def _spans(raw: bytes, part: Part, findings: Findings) -> list[Span]:
    """Where the children lie. When the declared boundary is of no use, the first line that looks like one is."""
    declared = part.parameters.get("boundary", "").rstrip()
    spans: list[Span] = []
    if declared:
        spans = _split(raw, part, _octets(declared), findings)
    if spans:
        return spans
    body = raw[part.start : part.end]
    guess = _GUESS.search(body)
    if guess:
        spans = _split(raw, part, guess.group(1), findings)
    if spans:
        findings.note(BOUNDARY_GUESSED)
    elif body.strip():
        findings.note(BOUNDARY_MISSING, uncertain=bool(_PART_HEADER.search(body)))
    return spans


def _octets(boundary: str) -> bytes:
    """A boundary as it stands in the body. Decoding it may have changed octets that no boundary should have."""
    return boundary.encode("utf-8", "replace")


def _split(raw: bytes, part: Part, boundary: bytes, findings: Findings) -> list[Span]:
    """The spans between the delimiter lines of one boundary. The line end before a delimiter belongs to it."""
    spans: list[Span] = []
    opened = -1
    closed = 0
    for line_start, line_end, closes in _delimiters(raw, part, boundary, findings):
        if opened >= 0:
            spans.append(Span(opened, max(opened, _before_line_end(raw, line_start)), closed))
        elif closes and not spans:
            return []
        # Parts that follow the closing line are read as well: some senders repeat it, and nothing may be lost.
        opened = -1 if closes else line_end
        closed += closes
        if len(spans) > findings.parts_left:
            return spans
    if opened >= 0:
        spans.append(Span(opened, max(opened, part.end), closed))
    if spans and (not closed or opened >= 0):
        findings.note(NOT_CLOSED)
    return spans


def _delimiters(raw: bytes, part: Part, boundary: bytes, findings: Findings) -> Iterator[tuple[int, int, bool]]:
    """Start and end of each delimiter line of exactly this boundary, and whether it closes."""
    needle = b"\n--" + boundary
    at = raw.find(needle, max(0, part.start - 1), part.end)
    while at >= 0:
        after = at + len(needle)
        rest = _AFTER_BOUNDARY.match(raw, after, part.end)
        if rest:
            yield at + 1, rest.end(), bool(rest.group(1))
            after = rest.end() - 1
        else:
            findings.false_boundaries_left -= 1
            if findings.false_boundaries_left <= 0:
                findings.note(BOUNDARY_UNCERTAIN, uncertain=True)
                return
        at = raw.find(needle, after, part.end)


def _before_line_end(raw: bytes, pos: int) -> int:
    """Offset before the line end that precedes `pos`."""
    if raw.startswith(b"\r\n", pos - 2):
        return pos - 2
    return pos - 1


def text_of(part: Part, key: bytes) -> str:
    """A field of a part as people read it."""
    return decode_words(part.value(key))
