"""Header blocks: where they end and which fields they hold (RFC 5322 §2.2, with what real mail does to it).

Nothing is decoded here; spans are kept so that a field can be cut out of a message byte for byte.
"""

import re
from typing import NamedTuple

from delivery.mime.limits import MAX_FIELDS, MAX_HEADER_BYTES

# A name, blanks that RFC 5322 §4.5 calls obsolete, a colon, and the value with its folded lines.
_FIELD = re.compile(rb"([!-9;-~]++)[ \t]*+:((?:[^\n]*+\n[ \t])*+[^\n]*+)\n?")
_NEXT_FIELD = re.compile(rb"\n(?=[!-9;-~]++[ \t]*+:(?!//))")
_BLANK_LINE = re.compile(rb"\n\r?\n")
_EMPTY_LINES = re.compile(rb"(?:\r?\n)++")
_INDENTED = re.compile(rb"^[ \t][^\n]*", re.MULTILINE)
_CLOAKED = re.compile(rb"^([^\n:]{1,80}):([^\n]*)", re.MULTILINE)
_NOT_NAME = re.compile(rb"[^!-~]+")


class Field(NamedTuple):
    """One header field. `key` is the lower-case name, `value` the octets after the colon, folded as received.

    `raw[start:end]` is the field with its folded lines and with the lines after it that are no field at all.
    """

    name: bytes
    key: bytes
    value: bytes
    start: int
    end: int


class HeaderBlock(NamedTuple):
    """The fields, where the body starts, and whether there were lines that are no field or more than was read."""

    fields: list[Field]
    body: int
    garbage: bool
    truncated: bool


def read_fields(
    raw: bytes,
    start: int = 0,
    end: int | None = None,
    *,
    limit: int = MAX_HEADER_BYTES,
    wide: bool = False,
) -> HeaderBlock:
    """Read the header block at `start`: at most `limit` octets and MAX_FIELDS fields. Never raises, linear.

    The block ends at the first empty line. Lines in it that are no field (an mbox `From ` line, junk before the first
    field) are passed over. It ends earlier where only such lines would follow (a missing empty line), or at a line
    that begins like a boundary; not so with `wide`, which finds every field that any reader may see.
    """
    stop, body = extent(raw, start, len(raw) if end is None else end)
    truncated = stop - start > limit
    if truncated:
        stop = start + limit
    fields: list[Field] = []
    garbage = False
    pos = start
    while pos < stop:
        if len(fields) >= MAX_FIELDS:
            return HeaderBlock(fields, body, garbage, True)
        found = None
        if not raw.startswith(b"--", pos) or wide:
            found = _FIELD.match(raw, pos, stop)
        if found:
            name = found.group(1)
            fields.append(Field(name, name.lower(), found.group(2), pos, found.end()))
            pos = found.end()
            continue
        garbage = True
        after = _NEXT_FIELD.search(raw, pos, stop)
        if not wide and (after is None or (fields and raw.startswith(b"--", pos))):
            return HeaderBlock(fields, pos, garbage, False)
        pos_after = after.end() if after else stop
        _pass_over(raw, pos, pos_after, fields, wide)
        pos = pos_after
    return HeaderBlock(fields, body, garbage, truncated)


def extent(raw: bytes, start: int, end: int) -> tuple[int, int]:
    """Where the fields stop and where the body starts, by the first empty line alone."""
    for line_end in (b"\r\n", b"\n"):
        if raw.startswith(line_end, start, end):
            return start, start + len(line_end)
    blank = _BLANK_LINE.search(raw, start, end)
    return (blank.start() + 1, blank.end()) if blank else (end, end)


def _pass_over(raw: bytes, start: int, end: int, fields: list[Field], wide: bool) -> None:
    """Lines that are no field: indented ones among them still belong to the field before, the rest is dropped."""
    if fields:
        last = fields[-1]
        folded = b"".join(b"\n" + line for line in _INDENTED.findall(raw, start, end))
        if wide:
            folded = b"\n " + raw[start:end]
        fields[-1] = last._replace(value=last.value + folded, end=end)
    if wide:
        for line in _CLOAKED.finditer(raw, start, end):
            name = _NOT_NAME.sub(b"", line.group(1))
            fields.append(Field(line.group(1), name.lower(), line.group(2), line.start(), line.end()))


def skip_blank_lines(raw: bytes) -> int:
    """Where the header starts: past empty lines, if a field follows them; else 0."""
    blank = _EMPTY_LINES.match(raw)
    pos = blank.end() if blank else 0
    return pos if pos and _FIELD.match(raw, pos) else 0
