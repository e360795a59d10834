"""Address lists of header fields (RFC 5322 §3.4 with its obsolete forms, RFC 6532), read leniently.

One pass over the tokens, so that 100,000 parentheses cost no more than 100,000 letters.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

from delivery.mime.limits import MAX_ADDRESSES, MAX_TOKENS
from delivery.mime.words import decode_words, to_text
from providers.base import Mailbox

_TOKEN_PARTS = {
    "blank": r"\s+",
    "word": r"=\?[^?\s]{1,100}\?[bBqQ]\?[^?\s]*+\?=",
    "atom": r"[^\s\"(\[<>,;:@]+",
    "quoted": r'"(?:[^"\\]|\\.)*+"',
    "literal": r"\[[^\[\]]*+\]",
    "comment": r"\((?:[^()\\]|\\.)*+\)",
    "special": r"[<>,;:@]",
    "junk": r".",
}


def _pattern(**changed: str) -> re.Pattern[str]:
    parts = _TOKEN_PARTS | changed
    return re.compile("|".join(f"(?P<{kind}>{part})" for kind, part in parts.items()), re.DOTALL)


# After a quote or parenthesis that never closes, the next ones are not searched to the end again.
_NEVER = "(?!)"
_SHORT_COMMENT = r"\([^()]*+\)"
_PATTERNS = {
    (True, True): _pattern(),
    (False, True): _pattern(quoted=_NEVER),
    (True, False): _pattern(comment=_SHORT_COMMENT),
    (False, False): _pattern(quoted=_NEVER, comment=_SHORT_COMMENT),
}
_PAREN = re.compile(r"[()]|\\.", re.DOTALL)
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_PIECE = r"[^\s<>,;:()\"\[\]@]++"
_LOOKS_LIKE_ADDRESS = re.compile(rf"(?<![^\s<>,;:()\"\[\]@]){_PIECE}(?:@(?:{_PIECE}|\[[^\s\[\]]++\]))++")


class Token(NamedTuple):
    """`kind` is one of blank, word, atom, quoted, literal, comment, special, junk."""

    kind: str
    text: str


_OPEN = Token("special", "<")
_CLOSE = Token("special", ">")


def tokens(value: str) -> Iterator[Token]:
    """The tokens of a structured header value, at most MAX_TOKENS.

    A quote or parenthesis that is never closed is junk of one letter.
    """
    pos = 0
    quotes_close = comments_close = True
    for _ in range(MAX_TOKENS):
        found = _PATTERNS[quotes_close, comments_close].match(value, pos)
        if not found:
            return
        kind, text = found.lastgroup or "junk", found.group()
        if kind == "junk" and text == '"':
            quotes_close = False
        elif kind == "junk" and text == "(" and comments_close:
            end = _end_of_comment(value, pos)
            comments_close = end > 0
            if comments_close:
                kind, text = "comment", value[pos:end]
        yield Token(kind, text)
        pos += len(text)


def _end_of_comment(value: str, start: int) -> int:
    """Where the comment that opens at `start` ends, 0 when it never does."""
    depth = 0
    for found in _PAREN.finditer(value, start):
        depth += {"(": 1, ")": -1}.get(found.group(), 0)
        if depth == 0:
            return found.end()
    return 0


def addresses(value: str | bytes) -> tuple[Mailbox, ...]:
    """The mailboxes of an address list, in order; groups are flattened.

    Never raises. What is no address (`undisclosed-recipients:;`, a name alone, `<>`) yields nothing. Semicolons and
    missing commas separate as commas do. At most MAX_ADDRESSES are read.
    """
    text = to_text(value) if isinstance(value, bytes) else value
    found = _read(text)
    if not found and "<" not in text:
        # The whole address quoted or encoded: some programs write that, and readers take it as meant.
        plain = decode_words(text)
        found = _read(plain) or [Mailbox("", a) for a in _LOOKS_LIKE_ADDRESS.findall(plain)[:MAX_ADDRESSES]]
    return tuple(found)


def looks_like_addresses(text: str) -> list[str]:
    """Everything in `text` that a careless reader could take for an address."""
    return _LOOKS_LIKE_ADDRESS.findall(text)


def _read(text: str) -> list[Mailbox]:
    found: list[Mailbox] = []
    for item in _items(text):
        found.extend(_mailboxes(item))
        if len(found) >= MAX_ADDRESSES:
            return found[:MAX_ADDRESSES]
    return found


def _items(text: str) -> Iterator[list[Token]]:
    """The token lists between separators, group names left out."""
    item: list[Token] = []
    has_at = in_angle = in_route = False
    for token in tokens(text):
        kind, char = token
        if kind != "special":
            item.append(token)
            continue
        ends = char in ",;" or (char == ":" and not in_angle)
        if ends and not (char == "," and in_route):
            if char != ":" or has_at:  # else it is a group's name
                yield item
            item = []
            has_at = in_angle = in_route = False
            continue
        # `<@one,@two:user@example.com>`: RFC 5322 §4.4 has commas inside the brackets.
        in_route = (in_route or (char == "@" and bool(item) and item[-1] == _OPEN)) and char not in ":>"
        in_angle = (in_angle or char == "<") and char != ">"
        has_at = has_at or char == "@"
        item.append(token)
    yield item


def _mailboxes(item: list[Token]) -> Iterator[Mailbox]:
    """`Name <address>`, once or (a comma missing) several times, or a bare address."""
    phrase: list[Token] = []
    pos = 0
    found = False
    while pos < len(item):
        if item[pos] != _OPEN:
            phrase.append(item[pos])
            pos += 1
            continue
        end = next((i for i in range(pos + 1, len(item)) if item[i] in (_OPEN, _CLOSE)), len(item))
        address = _address(item[pos + 1 : end])
        if address:
            yield Mailbox(_name(phrase), address)
            found = True
        phrase = []
        pos = end + 1 if end < len(item) and item[end] == _CLOSE else end
    if phrase:
        yield from _bare(phrase, named=not found)


def _address(spec: list[Token]) -> str:
    """`local@domain` of an addr-spec, "" when it is none. A source route, or `mailto:`, is passed over."""
    kept = [t for t in spec if t.kind not in ("blank", "comment", "junk")]
    colon = next((i for i, t in enumerate(kept) if t == ("special", ":")), -1)
    text = "".join([t.text for t in kept[colon + 1 :]])
    local, _, domain = text.rpartition("@")
    return text if local and domain else ""


def _bare(item: list[Token], *, named: bool) -> Iterator[Mailbox]:
    """An address without angle brackets; words before it, or else a comment, are its name, what follows is junk."""
    name: list[Token] = []
    comments = [t for t in item if t.kind == "comment"]
    for run in _runs(item):
        address = _address(run) if any(t.text == "@" for t in run) else ""
        if address:
            yield Mailbox(_name(name or comments) if named else "", address)
            return
        name.extend([*run, Token("blank", " ")])


def _runs(item: list[Token]) -> Iterator[list[Token]]:
    """Split at blanks, but not around "@" nor before a dot of the domain."""
    run: list[Token] = []
    seen_blank = False
    has_at = False
    for token in item:
        if token.kind == "blank":
            seen_blank = True
        elif token.kind not in ("comment", "junk") and token != _CLOSE:
            glued = token.text == "@" or (run and (run[-1].text == "@" or (has_at and token.text.startswith("."))))
            if run and seen_blank and not glued:
                yield run
                run, has_at = [], False
            run.append(token)
            has_at = has_at or token.text == "@"
            seen_blank = False
    if run:
        yield run


def _name(phrase: list[Token]) -> str:
    """The display name, decoded; a comment stands in for a missing one."""
    words = [_unquote(t) for t in phrase if t.kind not in ("comment", "junk")]
    text = decode_words("".join(words)).strip()
    if not text:
        text = decode_words(" ".join([_unquote(t) for t in phrase if t.kind == "comment"])).strip()
    return " ".join(text.split())


def _unquote(token: Token) -> str:
    if token.kind == "quoted":
        return _ESCAPED.sub(r"\1", token.text[1:-1])
    if token.kind == "comment":
        return _ESCAPED.sub(r"\1", token.text[1:-1].strip())
    return token.text
