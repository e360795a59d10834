"""Octets of a message to `Content` (MIM-1 … MIM-3)."""

from collections.abc import Sequence
from itertools import chain

from delivery.mime.addresses import addresses
from delivery.mime.bodies import Reader, join, mark_referenced
from delivery.mime.fields import Field, skip_blank_lines
from delivery.mime.limits import FAULTS, ORIGINAL_ATTACHED, UNREADABLE, Findings
from delivery.mime.structure import Part, read_part
from delivery.mime.words import decode_words, to_text
from providers.base import Attachment, Content, Mailbox

_IDENTIFIERS = frozenset({b"message-id", b"in-reply-to", b"references", b"content-id"})


def parse(raw: bytes) -> Content:
    r"""Take a message apart. Never raises, whatever `raw` is, and takes time linear in its length.

    Text and HTML have "\n" line ends and are otherwise unchanged (format=flowed stays flowed); attachments have
    their exact octets. Text parts without a file name that follow the first are joined to it. Whatever is broken is
    read as most mail programs read it and named in `defects`; where that leaves doubt, or a bound of
    `delivery.mime.limits` was hit, the original is attached as `original.eml`.
    """
    if b"\n" not in raw and b"\r" in raw:
        return _parse(raw.replace(b"\r", b"\n"), raw)
    return _parse(raw, raw)


def _parse(raw: bytes, original: bytes) -> Content:
    findings = Findings()
    try:
        root = read_part(raw, skip_blank_lines(raw), len(raw), findings)
        reader = Reader(raw, findings)
        text, html = join(reader.read(root, is_root=True))
        attachments = list(mark_referenced(reader.attachments, html or ""))
        if text is None and html is None and not attachments:
            text = ""
        if findings.uncertain:
            attachments.append(_original(original))
            findings.note(ORIGINAL_ATTACHED)
        return _content(root, text, html, attachments, findings.defects)
    except FAULTS:  # MIM-3: a mistake of ours must not keep a message from its readers
        return _unreadable(original)


def _content(
    root: Part, text: str | None, html: str | None, attachments: Sequence[Attachment], defects: tuple[str, ...]
) -> Content:
    charset = root.parameters.get("charset", "")
    senders = _mailboxes(root.fields, b"sender", charset)
    return Content(
        subject=_first(root.fields, b"subject", charset),
        from_=_mailboxes(root.fields, b"from", charset),
        sender=senders[0] if senders else None,
        reply_to=_mailboxes(root.fields, b"reply-to", charset),
        to=_mailboxes(root.fields, b"to", charset),
        cc=_mailboxes(root.fields, b"cc", charset),
        text=text,
        html=html,
        attachments=tuple(attachments),
        headers=tuple((f.name.decode("ascii", "replace"), _value(f, charset)) for f in root.fields),
        defects=defects,
    )


def _value(field: Field, charset: str) -> str:
    text = to_text(field.value, charset)
    return text if field.key in _IDENTIFIERS else decode_words(text)


def _first(fields: list[Field], key: bytes, charset: str) -> str:
    return next((_value(f, charset) for f in fields if f.key == key), "")


def _mailboxes(fields: list[Field], key: bytes, charset: str) -> tuple[Mailbox, ...]:
    """Of all fields of that name together."""
    return tuple(chain.from_iterable(addresses(to_text(f.value, charset)) for f in fields if f.key == key))


def _original(raw: bytes) -> Attachment:
    return Attachment("original.eml", "message/rfc822", raw)


def _unreadable(raw: bytes) -> Content:
    return Content(
        subject="",
        from_=(),
        sender=None,
        reply_to=(),
        to=(),
        cc=(),
        text="",
        html=None,
        attachments=(_original(raw),),
        headers=(),
        defects=(UNREADABLE, ORIGINAL_ATTACHED),
    )
