"""Structured content to a message, for what we write ourselves and what arrives as JSON."""

from __future__ import annotations

import binascii
import re
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from email.utils import format_datetime
from typing import BinaryIO, Protocol

from delivery.mime import written
from providers.base import Attachment, Mailbox

RESERVED = frozenset({"from", "to", "cc", "bcc", "subject", "date", "message-id", "reply-to", "mime-version"})
"""Headers that have an argument of their own, or that nobody else writes; nor may one begin with Content-."""
_LINE_OCTETS = 57  # become 76 letters of base64
_CHUNK = _LINE_OCTETS * 4096
_LONGEST_LINE = 998
_NOT_PLAIN = bytes([0, *range(128, 256)])
_BREAK = re.compile(r"\r\n|\r|\n")


class Stream(Protocol):
    """Content that is opened when it is written."""

    def open(self) -> BinaryIO: ...


@dataclass(frozen=True, slots=True)
class StreamedAttachment:
    """An Attachment whose content is not in memory."""

    filename: str
    content_type: str
    content: Stream
    content_id: str = ""
    inline: bool = False
    parameters: Mapping[str, str] = field(default_factory=dict)


Item = Attachment | StreamedAttachment


def compose(
    *,
    from_: Mailbox,
    to: Sequence[Mailbox],
    subject: str,
    message_id: str,
    date: datetime,
    cc: Sequence[Mailbox] = (),
    reply_to: Sequence[Mailbox] = (),
    text: str | None = None,
    html: str | None = None,
    attachments: Sequence[Item] = (),
    headers: Mapping[str, str] | None = None,
) -> bytes:
    """The octets of a message with CRLF line ends; see `pieces`."""
    return b"".join(
        pieces(
            from_=from_,
            to=to,
            subject=subject,
            message_id=message_id,
            date=date,
            cc=cc,
            reply_to=reply_to,
            text=text,
            html=html,
            attachments=attachments,
            headers=headers,
        )
    )


def pieces(
    *,
    from_: Mailbox,
    to: Sequence[Mailbox],
    subject: str,
    message_id: str,
    date: datetime,
    cc: Sequence[Mailbox] = (),
    reply_to: Sequence[Mailbox] = (),
    text: str | None = None,
    html: str | None = None,
    attachments: Sequence[Item] = (),
    headers: Mapping[str, str] | None = None,
) -> Iterator[bytes]:
    """A message in pieces, the whole header first, so that large attachments need not be in memory.

    `message_id` is without angle brackets, `date` aware. Blind copies are the envelope's business and have no
    argument. Raises ValueError when an address, a header or a type cannot be written (a line break in a value, no
    "@", a header of RESERVED), as soon as the first piece is asked for; OSError when a stream cannot be read.
    """
    _check_names(headers or {})
    yield b"".join(
        [
            written.mailboxes("From", [from_]),
            *(written.mailboxes(name, who) for name, who in (("To", to), ("Cc", cc), ("Reply-To", reply_to)) if who),
            written.field("Subject", subject),
            written.field("Date", format_datetime(date)),
            written.field("Message-ID", f"<{message_id}>"),
            *(written.field(name, value) for name, value in (headers or {}).items()),
            b"MIME-Version: 1.0\r\n",
        ]
    )
    part = _body(text, html, [item for item in attachments if _shown(item, html)])
    apart = [_attached(item) for item in attachments if not _shown(item, html)]
    yield from _multipart("mixed", [part, *apart]) if apart else part


def _check_names(headers: Mapping[str, str]) -> None:
    for name in headers:
        if name.lower() in RESERVED or name.lower().startswith("content-"):
            raise ValueError(f"{name} is no header to be given by itself")
    if len({name.lower() for name in headers}) != len(headers):
        raise ValueError("a header is named twice")


def _shown(item: Item, html: str | None) -> bool:
    """Whether the HTML shows it, so that it stands beside it."""
    return bool(item.inline and item.content_id and html is not None)


def _body(text: str | None, html: str | None, shown: Sequence[Item]) -> Iterable[bytes]:
    if html is None:
        return _words("plain", text or "")
    part = _words("html", html)
    if shown:
        part = _multipart("related", [part, *(_attached(item) for item in shown)])
    return part if text is None else _multipart("alternative", [_words("plain", text), part])


def _multipart(subtype: str, parts: Iterable[Iterable[bytes]]) -> Iterator[bytes]:
    boundary = f"=_{secrets.token_hex(16)}"
    yield written.parameters("Content-Type", f"multipart/{subtype}", {"boundary": boundary}) + b"\r\n"
    for part in parts:
        yield f"--{boundary}\r\n".encode()
        yield from part
        yield b"\r\n"
    yield f"--{boundary}--\r\n".encode()


def _words(subtype: str, text: str) -> Iterator[bytes]:
    lines = _BREAK.split(text)
    raw = "\r\n".join(lines if lines[-1] == "" else [*lines, ""]).encode()
    longest = max(map(len, raw.split(b"\r\n")), default=0)
    plain = len(raw.translate(None, delete=_NOT_PLAIN))
    yield written.parameters("Content-Type", f"text/{subtype}", {"charset": "utf-8"})
    if plain == len(raw) and longest <= _LONGEST_LINE:
        yield b"Content-Transfer-Encoding: 7bit\r\n\r\n" + raw
    elif plain * 3 >= len(raw) * 2:
        yield b"Content-Transfer-Encoding: quoted-printable\r\n\r\n" + binascii.b2a_qp(raw, istext=True)
    else:
        yield b"Content-Transfer-Encoding: base64\r\n\r\n" + _base64(raw)


def _attached(item: Item) -> Iterator[bytes]:
    main, _, sub = item.content_type.partition("/")
    if main in ("message", "multipart") or not sub:
        main, sub = "application", "octet-stream"  # neither may be written as base64 (RFC 2045 §6.4)
    if not written.is_token(main) or not written.is_token(sub):
        raise ValueError(f"{item.content_type!r} is no content type")
    name = {"filename": item.filename} if item.filename else {}
    head = written.parameters("Content-Type", f"{main}/{sub}", item.parameters)
    head += written.parameters("Content-Disposition", "inline" if item.inline else "attachment", name)
    if item.content_id:
        head += written.field("Content-ID", f"<{item.content_id}>")
    yield head + b"Content-Transfer-Encoding: base64\r\n\r\n"
    if isinstance(item, Attachment):
        yield _base64(item.content)
        return
    with item.content.open() as stream:
        while chunk := stream.read(_CHUNK):
            while len(chunk) % _LINE_OCTETS and (more := stream.read(_LINE_OCTETS - len(chunk) % _LINE_OCTETS)):
                chunk += more
            yield _base64(chunk)


def _base64(octets: bytes) -> bytes:
    letters = binascii.b2a_base64(octets, newline=False)
    return b"".join(letters[start : start + 76] + b"\r\n" for start in range(0, len(letters), 76))
