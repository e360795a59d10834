"""A `SendEmail` message, strictly read: what is not understood is refused with its reason, never dropped in silence."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn, TypeVar

from delivery import mailbox
from delivery.exceptions import Rejected
from delivery.mime import is_content_type, parse_parameters
from providers.base import Attachment, Mailbox

T = TypeVar("T")
MAX_KEY = 255  # characters of a publisher_message_id
MAX_ATTACHMENTS = 200
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
    payload = _json(body)
    fingerprint = _fingerprint(payload)
    _known(payload, _FIELDS, "the message")
    key = _optional(payload, "publisher_message_id", _key) or ""
    words = _required(payload, "body", _body)
    metadata = _optional(payload, "metadata", _object) or {}
    return SendEmail(
        publisher_message_id=key,
        key=key or HASHED + fingerprint,
        fingerprint=fingerprint,
        from_=_required(payload, "from", _address),
        to=_optional(payload, "to", _addresses) or [],
        cc=_optional(payload, "cc", _addresses) or [],
        bcc=_optional(payload, "bcc", _addresses) or [],
        subject=_optional(payload, "subject", _line) or "",
        text=words.get("text"),
        html=words.get("html"),
        attachments=_optional(payload, "attachments", _attachments) or [],
        tenant=_optional(metadata, "tenant", _line, "metadata.") or "",
        account=_optional(metadata, "account", _line, "metadata.") or "",
    )


def _refuse(code: str, text: str) -> NoReturn:
    raise Rejected(text, code=code, status="5.6.0")


def _json(body: bytes) -> dict[str, Any]:
    try:
        payload = json.loads(body.decode("utf-8"), parse_constant=_no_constant, object_pairs_hook=_object_once)
    except (ValueError, RecursionError):
        _refuse("malformed", "The message is not JSON in UTF-8 with each name once.")
    if not isinstance(payload, dict):
        _refuse("malformed", "The message is not a JSON object.")
    return payload


def _no_constant(_: str) -> NoReturn:
    raise ValueError("not a number of JSON")


def _object_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Of two values under one name one would be dropped in silence (RFC 8259 §4)."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name twice")
    return found


def _fingerprint(payload: dict[str, Any]) -> str:
    """The same for the same payload, however its keys are ordered and its blanks are set."""
    try:
        canonical = json.dumps(payload, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        _refuse("malformed", "The message holds text that is not Unicode.")
    return hashlib.sha256(canonical).hexdigest()


def _known(entry: Mapping[str, Any], names: set[str], where: str) -> None:
    if unknown := sorted(set(entry) - names):
        _refuse("unknown_field", f"Nobody knows {unknown[0][:64]!r} in {where}.")


def _required(entry: Mapping[str, Any], name: str, read_: Callable[[str, Any], T], prefix: str = "") -> T:
    value = entry.get(name)
    if value is None:
        _refuse("missing_field", f"{prefix}{name} is missing.")
    return read_(prefix + name, value)


def _optional(entry: Mapping[str, Any], name: str, read_: Callable[[str, Any], T], prefix: str = "") -> T | None:
    value = entry.get(name)
    return None if value is None else read_(prefix + name, value)


def _object(name: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        _refuse("bad_field", f"{name} is not an object.")
    return value


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        _refuse("bad_field", f"{name} is not a text.")
    return value


def _line(name: str, value: Any) -> str:
    """A text without line breaks and control characters: it goes into headers and logs."""
    if not (text := _text(name, value)).isprintable():
        _refuse("bad_field", f"{name} holds a line break or a control character.")
    return text


def _key(name: str, value: Any) -> str:
    key = _line(name, value)
    if not 0 < len(key) <= MAX_KEY:
        _refuse("bad_field", f"{name} has to have 1 to {MAX_KEY} characters.")
    return key


def _address(name: str, value: Any) -> Mailbox:
    try:
        return mailbox.read(value)
    except mailbox.MalformedAddress:
        _refuse("bad_address", f"{name} is no e-mail address.")


def _addresses(name: str, value: Any) -> list[Mailbox]:
    entries = value if isinstance(value, list) else [value]
    return [_address(f"{name}[{number}]", entry) for number, entry in enumerate(entries)]


def _body(name: str, value: Any) -> dict[str, str]:
    entry = _object(name, value)
    _known(entry, {"contentType", "content"}, name)
    kind = _required(entry, "contentType", _line, "body.")
    if kind.lower() not in _BODY_TYPES:
        _refuse("bad_field", f"{name}.contentType is neither text/plain nor text/html.")
    return {_BODY_TYPES[kind.lower()]: _required(entry, "content", _text, "body.")}


def _attachments(name: str, value: Any) -> list[Attachment | Pointer]:
    if not isinstance(value, list):
        _refuse("bad_field", f"{name} is not a list.")
    if len(value) > MAX_ATTACHMENTS:
        _refuse("bad_field", f"{name} has more than {MAX_ATTACHMENTS} entries.")
    return [_attachment(f"{name}[{number}]", entry) for number, entry in enumerate(value)]


def _attachment(where: str, value: Any) -> Attachment | Pointer:
    entry, prefix = _object(where, value), f"{where}."
    _known(entry, _ATTACHMENT_FIELDS, where)
    name = _required(entry, "name", _line, prefix)
    kind, parameters = parse_parameters(_optional(entry, "contentType", _line, prefix) or "application/octet-stream")
    if not is_content_type(kind):
        _refuse("bad_field", f"{prefix}contentType is not a content type.")
    parameters = {key: text for key, text in parameters.items() if key not in ("name", "boundary")}
    content_id = (_optional(entry, "contentId", _line, prefix) or "").strip("<>")
    size = _optional(entry, "size", _size, prefix)
    if (entry.get("content") is None) == (entry.get("urlOrId") is None):
        _refuse("bad_field", f"{where} needs either content or urlOrId.")
    if entry.get("urlOrId") is not None:
        return Pointer(name, kind, parameters, content_id, _required(entry, "urlOrId", _line, prefix), size)
    content = _required(entry, "content", _base64, prefix)
    if size is not None and size != len(content):
        _refuse("size_mismatch", f"{where} has {len(content):,} octets, not {size:,}.")
    return Attachment(name, kind, content, content_id, bool(content_id), parameters)


def _size(name: str, value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        _refuse("bad_field", f"{name} is not a number of octets.")
    return value


def _base64(name: str, value: Any) -> bytes:
    try:
        return base64.b64decode("".join(_text(name, value).split()), validate=True)
    except (binascii.Error, ValueError):
        _refuse("bad_field", f"{name} is not base64.")
