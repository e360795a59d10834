"""A message as JSON, strictly read: what is not understood is refused, never dropped in silence (API-2)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from delivery import schedule
from delivery import strict_json as given
from delivery.exceptions import Rejected
from delivery.letter import Letter
from delivery.mime import is_content_type, parse_parameters
from providers.base import Attachment

MAX_HEADERS = 100

_FIELDS = {
    *("from", "to", "cc", "bcc", "reply_to", "subject", "text", "html"),
    *("attachments", "headers", "send_at"),
}
_ATTACHMENT_FIELDS = {"name", "content_type", "content", "content_id"}


@dataclass(frozen=True, slots=True)
class Asked:
    """The letter and when it is to be sent, None for at once. `payload` is what was given."""

    letter: Letter
    send_at: datetime | None
    payload: dict[str, Any]


def read(octets: bytes | bytearray) -> Asked:
    """What these octets ask for; raises Rejected."""
    payload = given.document(octets)
    given.known(payload, _FIELDS, "the message")
    letter = Letter(
        from_=given.required(payload, "from", given.address),
        to=given.optional(payload, "to", given.addresses) or [],
        cc=given.optional(payload, "cc", given.addresses) or [],
        bcc=given.optional(payload, "bcc", given.addresses) or [],
        reply_to=given.optional(payload, "reply_to", given.addresses) or [],
        subject=given.optional(payload, "subject", given.line) or "",
        text=given.optional(payload, "text", given.text),
        html=given.optional(payload, "html", given.text),
        attachments=given.optional(payload, "attachments", _attachments) or [],
        headers=given.optional(payload, "headers", _headers) or {},
    )
    return Asked(letter, given.optional(payload, "send_at", _moment), payload)


def _attachments(name: str, value: Any) -> list[Attachment]:
    entries = given.entries(name, value, given.MAX_ATTACHMENTS)
    return [_attachment(f"{name}[{number}]", entry) for number, entry in enumerate(entries)]


def _attachment(where: str, value: Any) -> Attachment:
    entry, prefix = given.mapping(where, value), f"{where}."
    given.known(entry, _ATTACHMENT_FIELDS, where)
    name = given.required(entry, "name", given.line, prefix)
    kind, parameters = parse_parameters(given.optional(entry, "content_type", given.line, prefix) or _OCTETS)
    if not is_content_type(kind):
        given.refuse("bad_field", f"{prefix}content_type is not a content type.", f"{prefix}content_type")
    parameters = {key: text for key, text in parameters.items() if key not in ("name", "boundary")}
    content_id = (given.optional(entry, "content_id", given.line, prefix) or "").strip("<>")
    content = given.required(entry, "content", given.octets, prefix)
    return Attachment(name, kind, content, content_id, bool(content_id), parameters)


_OCTETS = "application/octet-stream"


def _headers(name: str, value: Any) -> Mapping[str, str]:
    """Which may be given, and that none is given twice, `mime.compose` knows."""
    entry = given.mapping(name, value)
    if len(entry) > MAX_HEADERS:
        given.refuse("bad_field", f"{name} has more than {MAX_HEADERS} entries.", name)
    return {header: given.line(f"{name}.{header[:64]}", text) for header, text in entry.items()}


def _moment(name: str, value: Any) -> datetime:
    try:
        return schedule.read(given.line(name, value))
    except Rejected as refusal:
        raise given.Unfit(refusal.text.replace(schedule.HEADER, name), code=refusal.code, field=name) from refusal
