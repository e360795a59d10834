"""A message as services without raw MIME take it: bodies, attachments, a few headers, and what is lost (PRV-4).

Everything here is pure; the vendors' own limits are in `Abilities`.
"""

from __future__ import annotations

import html
import mimetypes
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from email.header import Header
from enum import Enum, auto

from providers.base import Attachment, Content, Mailbox, OutboundMessage
from providers.envelope import Addressing, Limits, address, ascii_address
from providers.exceptions import PermanentFailure, Unsupported

EMPTY_PAGE = "<html><body></body></html>"
NO_SUBJECT = "(no subject)"

_CONTROL = re.compile(r"[\x00-\x1f\x7f]+")
_HEADER_NAME = re.compile(r"[!-9;-~]+")
_REMADE = frozenset(
    # Said elsewhere in the request, or written anew by every service; nobody misses the old one.
    {"to", "cc", "bcc", "from", "sender", "reply-to", "subject"}
    | {"date", "mime-version", "received", "return-path", "delivered-to"}
)
_SIGNATURES = frozenset({"application/pkcs7-signature", "application/x-pkcs7-signature", "application/pgp-signature"})
_STRUCTURES = {
    "multipart/signed": "signature (multipart/signed)",
    "multipart/encrypted": "encryption (multipart/encrypted)",
    "multipart/report": "report structure (multipart/report)",
    "application/pkcs7-mime": "S/MIME structure (application/pkcs7-mime)",
    "application/x-pkcs7-mime": "S/MIME structure (application/pkcs7-mime)",
}


class Types(Enum):
    """How a service learns the type of an attachment."""

    FULL = auto()  # content type with its parameters
    BARE = auto()  # maintype/subtype only
    AGREEING = auto()  # content type with parameters, which must agree with the extension of the file name
    BY_NAME = auto()  # from the extension of the file name


class Inline(Enum):
    """Which attachments the HTML can refer to by Content-ID."""

    ANY = auto()
    IMAGES = auto()
    NONE = auto()


@dataclass(frozen=True, slots=True)
class Abilities:
    """What a service can say. `refused_headers` are lower case; `forbidden_in_…` are single characters."""

    limits: Limits
    refused_headers: frozenset[str] = frozenset()
    only_headers: frozenset[str] | None = None
    encodes_headers: bool = True
    """Takes RFC 2047 words in header values; otherwise headers that are not ASCII stay behind."""
    reply_tos: int = 1
    subject_required: bool = False
    html_required: bool = False
    inline: Inline = Inline.ANY
    types: Types = Types.BARE
    forbidden_in_filename: str = ""
    forbidden_in_content_id: str = ""
    name_length: int | None = None


@dataclass(frozen=True, slots=True)
class Letter:
    """One call's message. At least one of `text` and `html` is not empty; every attachment has a name and content.

    `broken` is True when a signature or an encryption does not survive.
    """

    sender: Mailbox
    reply_to: tuple[Mailbox, ...]
    addressing: Addressing
    subject: str
    text: str | None
    html: str | None
    attachments: tuple[Attachment, ...]
    headers: dict[str, str]
    lost: tuple[str, ...]
    broken: bool = False


def compose(message: OutboundMessage, abilities: Abilities) -> Letter:
    """The letter for this call. Raises Unsupported or PermanentFailure for what the service cannot say at all."""
    content = message.content
    lost: list[str] = list(_lost_structure(content))
    broken = any(loss.startswith(("signature", "encryption", "S/MIME")) for loss in lost)
    sender = _sender(message, abilities, lost)
    reply_to = _reply_to(content, abilities, lost)
    addressing = address(content.to, content.cc, message.recipients, abilities.limits)
    addressing = replace(
        addressing,
        to=tuple(_named(box, abilities) for box in addressing.to),
        cc=tuple(_named(box, abilities) for box in addressing.cc),
    )
    lost += addressing.lost
    subject = clean(content.subject)
    if not subject.strip() and abilities.subject_required:
        subject = NO_SUBJECT
        lost.append(f"Subject: empty, sent as {NO_SUBJECT!r}")
    text, page = _bodies(content, abilities, lost)
    attachments = tuple(_attachments(content.attachments, abilities, lost))
    headers = _headers(content.headers, abilities, lost)
    return Letter(sender, reply_to, addressing, subject, text, page, attachments, headers, tuple(lost), broken)


def clean(text: str) -> str:
    """One line of well-formed Unicode: no control characters, no half surrogates."""
    return _CONTROL.sub(" ", text).encode("utf-8", "replace").decode("utf-8")


def _named(box: Mailbox, abilities: Abilities) -> Mailbox:
    return Mailbox(clean(box.name).strip()[: abilities.name_length].strip(), box.address)


def _writable(box: Mailbox, abilities: Abilities) -> bool:
    local, _, domain = box.address.rpartition("@")
    return bool(local and domain) and (abilities.limits.utf8_local_part or local.isascii())


def _sender(message: OutboundMessage, abilities: Abilities, lost: list[str]) -> Mailbox:
    content = message.content
    boxes = [box for box in content.from_ if "@" in box.address]
    if not boxes:
        if not message.mail_from:
            raise PermanentFailure("The message names no sender.", code="no_sender")
        boxes = [Mailbox("", message.mail_from)]
        lost.append("From: missing, the envelope sender is shown")
    box = boxes[0]
    if not _writable(box, abilities):
        raise Unsupported(f"This service cannot write the sender {box.address!r}.", code="smtputf8_required")
    if len(boxes) > 1:
        lost.append(f"From: only the first of {len(boxes)}")
    if content.sender and content.sender.address != box.address:
        lost.append("Sender")
    return _named(Mailbox(box.name, ascii_address(box.address)), abilities)


def _reply_to(content: Content, abilities: Abilities, lost: list[str]) -> tuple[Mailbox, ...]:
    boxes = [box for box in content.reply_to if _writable(box, abilities)][: abilities.reply_tos]
    if len(boxes) < len(content.reply_to):
        lost.append(f"Reply-To: only {len(boxes)} of {len(content.reply_to)}")
    return tuple(_named(Mailbox(box.name, ascii_address(box.address)), abilities) for box in boxes)


def _bodies(content: Content, abilities: Abilities, lost: list[str]) -> tuple[str | None, str | None]:
    text, page = _body(content.text), _body(content.html)
    if not text and not page:
        # Services refuse an empty body, and some take white space for empty.
        lost.append("empty body: sent as an empty HTML page")
        page = EMPTY_PAGE
    elif text and not page and abilities.html_required:
        lost.append("plain text: sent with an HTML copy")
        page = f'<html><body><pre style="white-space: pre-wrap">{html.escape(text)}</pre></body></html>'
    return text or None, page or None


def _body(text: str | None) -> str:
    return (text or "").replace("\0", "").encode("utf-8", "replace").decode("utf-8")


def _attachments(attachments: Iterable[Attachment], abilities: Abilities, lost: list[str]) -> Iterable[Attachment]:
    for number, attachment in enumerate(attachments, 1):
        name = _filename(attachment, number, abilities)
        if attachment.filename and name != attachment.filename:
            lost.append(f"file name: {clean(attachment.filename)!r} sent as {name!r}")
        inline = (
            bool(attachment.inline and attachment.content_id)
            and (not set(abilities.forbidden_in_content_id).intersection(attachment.content_id))
            and (
                abilities.inline is Inline.ANY
                or (abilities.inline is Inline.IMAGES and attachment.content_type.startswith("image/"))
            )
        )
        if attachment.inline and attachment.content_id and not inline:
            lost.append(f"inline part: {name!r} sent as an attachment")
        if not attachment.content:
            lost.append(f"empty attachment: {name!r} sent as one line end")
        lost += _lost_type(attachment, name, abilities)
        guessed = mimetypes.guess_type(name)[0]
        if abilities.types is Types.AGREEING and guessed not in {None, attachment.content_type}:
            attachment = replace(attachment, content_type=guessed or "", parameters={})  # noqa: PLW2901
        yield replace(
            attachment,
            filename=name,
            content=attachment.content or b"\r\n",  # services refuse empty content
            content_id=clean(attachment.content_id) if inline else "",
            inline=inline,
        )


def _filename(attachment: Attachment, number: int, abilities: Abilities) -> str:
    name = clean(attachment.filename).strip()
    for character in abilities.forbidden_in_filename:
        name = name.replace(character, "_")
    extension = mimetypes.guess_extension(attachment.content_type) or ".bin"
    if not name:
        return f"attachment-{number}{extension}"
    if abilities.types is Types.BY_NAME and "." not in name:
        return name + extension
    return name


def _lost_type(attachment: Attachment, name: str, abilities: Abilities) -> Iterable[str]:
    type_ = attachment.content_type
    if type_ == "text/calendar":
        yield "calendar part: sent as an attachment"
    guessed = mimetypes.guess_type(name)[0]
    if (abilities.types is Types.BY_NAME and guessed != type_) or (
        abilities.types is Types.AGREEING and guessed not in {None, type_}
    ):
        yield f"type {type_} of {name!r}"
    charset = attachment.parameters.get("charset", "").lower()
    if abilities.types in {Types.BARE, Types.BY_NAME} and charset not in {"", "utf-8", "us-ascii"}:
        yield f"charset {charset} of {name!r}"


def _headers(headers: Iterable[tuple[str, str]], abilities: Abilities, lost: list[str]) -> dict[str, str]:
    kept: dict[str, str] = {}
    left: list[str] = []
    seen: set[str] = set()
    for name, value in headers:
        key = name.lower()
        if key in _REMADE or key.startswith(("content-", "arc-")):
            continue
        line = clean(value).strip()
        if line and not line.isascii() and abilities.encodes_headers:
            line = Header(line, "utf-8", maxlinelen=76).encode(linesep="")
        carried = (
            key not in abilities.refused_headers
            and (abilities.only_headers is None or key in abilities.only_headers)
            and key != "dkim-signature"
            and _HEADER_NAME.fullmatch(name)
        )
        if key in seen or not carried or not line or not line.isascii():
            left.append(name)
        else:
            kept[name] = line
        seen.add(key)
    lost += [f"header {name}" for name in dict.fromkeys(left)]
    return kept


def _lost_structure(content: Content) -> Iterable[str]:
    type_ = next((value for name, value in content.headers if name.lower() == "content-type"), "")
    type_ = type_.partition(";")[0].strip().lower()
    if type_ in _STRUCTURES:
        yield _STRUCTURES[type_]
    elif any(attachment.content_type in _SIGNATURES for attachment in content.attachments):
        yield "signature"
    if "original-attached" in content.defects:
        yield "structure: broken, the original is attached"
