"""Structured values with parameters: Content-Type and Content-Disposition (RFC 2045 §5.1, RFC 2183, RFC 2231)."""

import re
from collections.abc import Iterator
from urllib.parse import unquote_to_bytes

from delivery.mime.charsets import decode
from delivery.mime.limits import MAX_PARAMETERS
from delivery.mime.words import decode_words

_SEPARATORS = re.compile(r"[\s;]++")
_NAME = re.compile(r"([^\s=;\"]++)\s*+=\s*+")
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*+)"?', re.DOTALL)
_NEXT_NAME = re.compile(r"(?<!\s)\s+[A-Za-z][A-Za-z0-9*_-]{1,40}=(?!=)")
_ESCAPED = re.compile(r'\\(["\\])')
_SECTION = re.compile(r"([^*]+)(?:\*(\d{1,6}))?(\*)?")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]+")

_FREE_TEXT = frozenset({"name", "filename", "boundary"})
"""Unquoted values of these may hold blanks and parentheses in real mail; elsewhere these end the value."""


def parse(value: str) -> tuple[str, dict[str, str]]:
    """The token before the first semicolon, lower case, and the parameters by lower-case name.

    Never raises. Quotes are undone, RFC 2231 continuations joined, charsets decoded, and RFC 2047 words decoded where
    mailers put them against the rules. An RFC 2231 form wins over a plain one; of two alike the first wins.
    """
    head, _, rest = value.partition(";")
    words = head.split(None, 1)
    main = words[0].lower() if words else ""
    if len(words) > 1 and not words[1].startswith("("):
        rest = f"{words[1]};{rest}"
    if "=" in main and "/" not in main:
        main, rest = "", value
    return main, _collapse(_pairs(rest))


def _pairs(text: str) -> Iterator[tuple[str, str]]:
    """Name and value as written, quotes undone."""
    pos = 0
    for _ in range(MAX_PARAMETERS):
        separators = _SEPARATORS.match(text, pos)
        pos = separators.end() if separators else pos
        found = _NAME.match(text, pos)
        if not found:
            pos = text.find(";", pos) + 1
            if not pos:
                return
            continue
        name = found[1].lower()
        pos = found.end()
        quoted = _QUOTED.match(text, pos)
        if quoted:
            pos = quoted.end()
            yield name, _ESCAPED.sub(r"\1", quoted[1])
            continue
        end = text.find(";", pos)
        end = len(text) if end < 0 else end
        # A semicolon was forgotten before the next parameter.
        following = _NEXT_NAME.search(text, pos, end)
        end = following.start() if following else end
        plain = text[pos:end].strip()
        if name.partition("*")[0] not in _FREE_TEXT:
            plain = re.split(r"[\s(]", plain, maxsplit=1)[0]
        yield name, plain
        pos = end


def _collapse(pairs: Iterator[tuple[str, str]]) -> dict[str, str]:
    """Join what belongs together (RFC 2231 §3, §4)."""
    plain: dict[str, str] = {}
    extended: dict[str, str] = {}
    sections: dict[str, dict[int, tuple[str, bool]]] = {}
    for name, value in pairs:
        section = _SECTION.fullmatch(name)
        if section is None or (section[2] is None and section[3] is None):
            plain.setdefault(name, value)
        elif section[2] is None:
            extended.setdefault(section[1], value)
        else:
            sections.setdefault(section[1], {}).setdefault(int(section[2]), (value, bool(section[3])))
    joined = {name: _decode_sections([parts[i] for i in sorted(parts)]) for name, parts in sections.items()}
    joined |= {name: _decode_sections([(value, True)]) for name, value in extended.items()}
    decoded = {name: value if name == "boundary" else decode_words(value) for name, value in plain.items()}
    merged = decoded | joined
    return {name: _CONTROL.sub(" ", value).strip() for name, value in merged.items()}


def _decode_sections(sections: list[tuple[str, bool]]) -> str:
    first, first_is_extended = sections[0]
    charset = ""
    if first_is_extended and first.count("'") >= 2:
        charset, _, first = first.split("'", 2)
        sections = [(first, True), *sections[1:]]
    if not any(is_extended for _, is_extended in sections):
        return decode_words("".join([value for value, _ in sections]))
    data = b"".join([unquote_to_bytes(v) if is_ext else v.encode("utf-8", "replace") for v, is_ext in sections])
    return decode(data, charset)[0]
