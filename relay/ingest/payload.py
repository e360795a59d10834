"""A `SendEmail` message, strictly read: what is not understood is refused with its reason, never dropped in silence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from delivery import strict_json as given
from delivery.mime import is_content_type, parse_parameters
from providers.base import Attachment, Mailbox

HASHED = "sha256:"
"""What the key of a message without publisher_message_id begins with."""

_FIELDS = {"publisher_message_id", "from", "to", "cc", "bcc", "subject", "body", "attachments", "metadata"}
_ATTACHMENT_FIELDS = {"name", "size", "contentType", "contentId", "content", "urlOrId"}
_BODY_TYPES = {"text": "text", "text/plain": "text", "html": "html", "text/html": "html"}


@dataclass(frozen=True, slots=True)
class Pointer:
    """An attachment that lies elsewhere. `size` is None where the publisher did not say."""

    name: str
    content_type: str
    parameters: Mapping[str, str]
    content_id: str
    where: str
    size: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SendEmail:
    """What a publisher asks for. `tenant` and `account` are whom it says it is, "" where it does not."""

    publisher_message_id: str
    key: str
    fingerprint: str
    from_: Mailbox
    to: list[Mailbox]
    cc: list[Mailbox]
    bcc: list[Mailbox]
    subject: str
    text: str | None
    html: str | None
    attachments: list[Attachment | Pointer]
    tenant: str
    account: str

    @property
    def pointers(self) -> bool:
        return any(isinstance(item, Pointer) for item in self.attachments)


def read(body: bytes) -> SendEmail:
    """The message in these octets; raises Rejected, whose code is the reason of the dead letter."""
    payload = given.document(body)
    fingerprint = given.fingerprint(payload)
    given.known(payload, _FIELDS, "the message")
    key = given.optional(payload, "publisher_message_id", given.key) or ""
    words = given.required(payload, "body", _body)
    metadata = given.optional(payload, "metadata", given.mapping) or {}
    return SendEmail(
        publisher_message_id=key,
        key=key or HASHED + fingerprint,
        fingerprint=fingerprint,
        from_=given.required(payload, "from", given.address),
        to=given.optional(payload, "to", given.addresses) or [],
        cc=given.optional(payload, "cc", given.addresses) or [],
        bcc=given.optional(payload, "bcc", given.addresses) or [],
        subject=given.optional(payload, "subject", given.line) or "",
        text=words.get("text"),
        html=words.get("html"),
        attachments=given.optional(payload, "attachments", _attachments) or [],
        tenant=given.optional(metadata, "tenant", given.line, "metadata.") or "",
        account=given.optional(metadata, "account", given.line, "metadata.") or "",
    )


def _body(name: str, value: Any) -> dict[str, str]:
    entry = given.mapping(name, value)
    given.known(entry, {"contentType", "content"}, name)
    kind = given.required(entry, "contentType", given.line, "body.")
    if kind.lower() not in _BODY_TYPES:
        given.refuse("bad_field", f"{name}.contentType is neither text/plain nor text/html.")
    return {_BODY_TYPES[kind.lower()]: given.required(entry, "content", given.text, "body.")}


def _attachments(name: str, value: Any) -> list[Attachment | Pointer]:
    entries = given.entries(name, value, given.MAX_ATTACHMENTS)
    return [_attachment(f"{name}[{number}]", entry) for number, entry in enumerate(entries)]


def _attachment(where: str, value: Any) -> Attachment | Pointer:
    entry, prefix = given.mapping(where, value), f"{where}."
    given.known(entry, _ATTACHMENT_FIELDS, where)
    name = given.required(entry, "name", given.line, prefix)
    kind, parameters = parse_parameters(
        given.optional(entry, "contentType", given.line, prefix) or "application/octet-stream"
    )
    if not is_content_type(kind):
        given.refuse("bad_field", f"{prefix}contentType is not a content type.")
    parameters = {key: text for key, text in parameters.items() if key not in ("name", "boundary")}
    content_id = (given.optional(entry, "contentId", given.line, prefix) or "").strip("<>")
    size = given.optional(entry, "size", _size, prefix)
    if (entry.get("content") is None) == (entry.get("urlOrId") is None):
        given.refuse("bad_field", f"{where} needs either content or urlOrId.")
    if entry.get("urlOrId") is not None:
        return Pointer(name, kind, parameters, content_id, given.required(entry, "urlOrId", given.line, prefix), size)
    content = given.required(entry, "content", given.octets, prefix)
    if size is not None and size != len(content):
        given.refuse("size_mismatch", f"{where} has {len(content):,} octets, not {size:,}.")
    return Attachment(name, kind, content, content_id, bool(content_id), parameters)


def _size(name: str, value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        given.refuse("bad_field", f"{name} is not a number of octets.")
    return value
