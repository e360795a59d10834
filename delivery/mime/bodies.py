"""Parts to what people read: which part is text, which is HTML, which is an attachment (MIM-1, MIM-2)."""

import html as html_escape
import mimetypes
import re
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import unquote

from delivery.mime import transfer
from delivery.mime.charsets import decode
from delivery.mime.fields import read_fields
from delivery.mime.limits import CHARSET_UNKNOWN, CHARSET_WRONG, Findings
from delivery.mime.structure import Part
from delivery.mime.words import decode_words, to_text
from providers.base import Attachment

_META_CHARSET = re.compile(rb"<meta[^>]{0,200}?charset\s*=\s*[\"']?\s*([A-Za-z0-9_.:-]{2,40})", re.IGNORECASE)
_CID = re.compile(r"\bcid:([^\s\"'<>)\\]{1,300})", re.IGNORECASE)
_UNSAFE_IN_NAME = re.compile(r"[\x00-\x1f\x7f/\\:*?\"<>|]+")

# Types whose text is for programs; a message that is nothing but one of these is an attachment, not a body.
_NOT_PROSE = frozenset(
    f"text/{subtype}"
    for subtype in ("calendar", "csv", "directory", "rfc822-headers", "rtf", "vcard", "x-amp-html", "x-vcard", "xml")
)

_TYPES = mimetypes.MimeTypes(filenames=())
_NAMES = {
    "text/calendar": "invite.ics",
    "text/rfc822-headers": "headers.txt",
    "message/rfc822-headers": "headers.txt",
    "message/delivery-status": "delivery-status.txt",
    "message/disposition-notification": "disposition-notification.txt",
    "message/feedback-report": "feedback-report.txt",
    "application/pgp-signature": "signature.asc",
    "application/pgp-encrypted": "version.asc",
    "application/pkcs7-signature": "smime.p7s",
    "application/x-pkcs7-signature": "smime.p7s",
    "application/pkcs7-mime": "smime.p7m",
    "application/x-pkcs7-mime": "smime.p7m",
    "application/ms-tnef": "winmail.dat",
}


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of the body: as text, as HTML, or in both forms."""

    text: str | None
    html: str | None


class Reader:
    """Walks a tree once and collects body segments and attachments in the order of the message."""

    def __init__(self, raw: bytes, findings: Findings) -> None:
        self._raw = raw
        self._findings = findings
        self.attachments: list[Attachment] = []

    def read(self, part: Part, *, is_root: bool = False, is_related: bool = False) -> list[Segment]:
        """The body segments of a part; what is no body becomes an attachment.

        `is_related` marks the companions of a multipart/related root: they are never body by themselves.
        """
        if part.children:
            return self._read_multipart(part)
        if part.is_multipart:
            return self._read_unsplit(part)
        if not is_related and _is_body(part, is_root=is_root):
            return self._read_body(part)
        self._attach(part)
        return []

    def _read_multipart(self, part: Part) -> list[Segment]:
        if part.content_type == "multipart/related":
            root = _related_root(part)
            return [s for child in part.children for s in self.read(child, is_related=child is not root)]
        per_child = [self.read(child) for child in part.children]
        if part.content_type == "multipart/alternative":
            return _alternatives(per_child)
        return [segment for segments in per_child for segment in segments]

    def _read_unsplit(self, part: Part) -> list[Segment]:
        """A multipart in which no part could be found: its octets are all there is to read."""
        data = self._raw[part.start : part.end]
        return [Segment(_lines(decode(data, "")[0]), None)] if data.strip() else []

    def _read_body(self, part: Part) -> list[Segment]:
        data = self._octets(part)
        charset = part.parameters.get("charset", "")
        if part.content_type == "text/html":
            return [Segment(None, _lines(self._decode(data, charset or _meta_charset(data))))]
        files, data = transfer.split_uuencode(data, self._findings)
        for name, content in files:
            filename = to_text(name)
            guessed = _TYPES.guess_type(filename)[0] or "application/octet-stream"
            self.attachments.append(Attachment(filename, guessed, content))
        return [Segment(_lines(self._decode(data, charset)), None)]

    def _octets(self, part: Part) -> bytes:
        encoding = part.value(b"content-transfer-encoding")
        return transfer.decode(self._raw[part.start : part.end], encoding, self._findings)

    def _decode(self, data: bytes, charset: str) -> str:
        text, sure = decode(data, charset)
        if not sure:
            self._findings.note(CHARSET_WRONG if "\ufffd" in text else CHARSET_UNKNOWN)
        return text

    def _attach(self, part: Part) -> None:
        content = self._octets(part)
        kept = {k: v for k, v in part.parameters.items() if k not in ("name", "boundary")}
        self.attachments.append(
            Attachment(
                filename=_filename(part, content, len(self.attachments) + 1),
                content_type=part.content_type,
                content=content,
                content_id=decode_words(part.value(b"content-id")).strip().removeprefix("<").removesuffix(">").strip(),
                inline=part.disposition == "inline",
                parameters=kept,
            )
        )


def _is_body(part: Part, *, is_root: bool) -> bool:
    if part.disposition == "attachment" or not part.content_type.startswith("text/"):
        return False
    if is_root:
        return part.content_type not in _NOT_PROSE
    return part.content_type in ("text/plain", "text/html") and not part.filename()


def _related_root(part: Part) -> Part:
    """The part that `start` names, else the first (RFC 2387 §3.2) that can be a body."""
    start = part.parameters.get("start", "").strip(" <>")
    for child in part.children:
        if start and child.value(b"content-id").strip(" <>") == start:
            return child
    readable = [c for c in part.children if c.is_multipart or c.content_type in ("text/html", "text/plain")]
    return (readable or part.children)[0]


def _alternatives(per_child: list[list[Segment]]) -> list[Segment]:
    """One segment in both forms. Alternatives in the same form are all kept, equal ones once."""
    texts: list[str] = []
    htmls: list[str] = []
    texts_beside_html: list[str] = []
    for segments in per_child:
        text, html = join(segments)
        if html is not None and html not in htmls:
            htmls.append(html)
        if text is not None:
            target = texts if html is None else texts_beside_html
            if text not in target:
                target.append(text)
    chosen = texts or texts_beside_html
    if not chosen and not htmls:
        return []
    return [Segment("\n".join(chosen) if chosen else None, "\n".join(htmls) if htmls else None)]


def join(segments: list[Segment]) -> tuple[str | None, str | None]:
    """Text and HTML of the whole body.

    Where there is HTML at all, readers see nothing but it; so stretches that exist as text alone (the footer of a
    mailing list) are put into the HTML too, in their place.
    """
    texts = [s.text for s in segments if s.text is not None]
    text = _concatenated(texts) if texts else None
    if all(s.html is None for s in segments):
        return text, None
    htmls = [s.html if s.html is not None else _as_html(s.text or "") for s in segments]
    return text, _concatenated([h for h in htmls if h] or [""])


def _concatenated(pieces: list[str]) -> str:
    ended = [p if p.endswith("\n") or not p else p + "\n" for p in pieces[:-1]]
    return "".join([*ended, pieces[-1]])


def _as_html(text: str) -> str:
    if not text.strip():
        return ""
    return f'<div style="white-space: pre-wrap">{html_escape.escape(text, quote=False)}</div>'


def _lines(text: str) -> str:
    r"""Every line end as "\n"."""
    return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text


def _meta_charset(data: bytes) -> str:
    found = _META_CHARSET.search(data, 0, 2048)
    return found.group(1).decode("ascii") if found else ""


def _filename(part: Part, content: bytes, number: int) -> str:
    """The sender's name for it, else one made up, since many services take no file without a name."""
    given = part.filename()
    if given:
        return given
    location = decode_words(part.value(b"content-location"))
    if location and not _UNSAFE_IN_NAME.search(location):
        return location
    if part.content_type == "message/rfc822":
        return _message_name(content)
    if part.content_type in _NAMES:
        return _NAMES[part.content_type]
    extension = _TYPES.guess_extension(part.content_type)
    return f"attachment-{number}{extension or ('.txt' if part.content_type.startswith('text/') else '.bin')}"


def _message_name(content: bytes) -> str:
    """An attached message is called by its subject."""
    fields = read_fields(content, limit=65536).fields
    subject = next((decode_words(to_text(f.value)) for f in fields if f.key == b"subject"), "")
    stem = " ".join(_UNSAFE_IN_NAME.sub(" ", subject).split())[:80].strip(" .")
    return f"{stem or 'forwarded'}.eml"


def mark_referenced(attachments: list[Attachment], html: str) -> Iterator[Attachment]:
    """The attachments, those the HTML shows by `cid:` marked inline."""
    shown = {unquote(cid).lower() for cid in _CID.findall(html)}
    for item in attachments:
        if item.content_id and not item.inline and item.content_id.lower() in shown:
            yield Attachment(
                item.filename, item.content_type, item.content, item.content_id, inline=True, parameters=item.parameters
            )
        else:
            yield item
