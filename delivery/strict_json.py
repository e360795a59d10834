"""Strict reading of the JSON a door is given: what is not understood is refused with its reason, never dropped in
silence (AMQP-1, API-2)."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any, NoReturn, TypeVar

from delivery import mailbox
from delivery.exceptions import Rejected
from providers.base import Mailbox

T = TypeVar("T")
MAX_KEY = 255  # characters of a key that makes repeats recognisable
MAX_ATTACHMENTS = 200


class Unfit(Rejected):
    """What was given cannot be taken; `field` names the place (`to[0]`), "" for the whole."""

    def __init__(self, text: str, *, code: str, field: str = "") -> None:
        super().__init__(text, code=code, status="5.6.0")
        self.field = field


def refuse(code: str, text: str, field: str = "") -> NoReturn:
    """Raises Unfit."""
    raise Unfit(text, code=code, field=field)


def document(octets: bytes | bytearray) -> dict[str, Any]:
    """The object in these octets, which are UTF-8 and hold each name once."""
    try:
        text = octets.decode("utf-8")
        payload = json.loads(text, parse_constant=_no_constant, object_pairs_hook=_object_once)
    except (ValueError, RecursionError):
        refuse("malformed", "The message is not JSON in UTF-8 with each name once.")
    if not isinstance(payload, dict):
        refuse("malformed", "The message is not a JSON object.")
    return payload


def _no_constant(_: str) -> NoReturn:
    raise ValueError("not a number of JSON")


def _object_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Of two values under one name one would be dropped in silence (RFC 8259 §4)."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name twice")
    return found


def fingerprint(payload: dict[str, Any]) -> str:
    """The same for the same payload, however its keys are ordered and its blanks are set."""
    try:
        canonical = json.dumps(payload, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        refuse("malformed", "The message holds text that is not Unicode.")
    return hashlib.sha256(canonical).hexdigest()


def known(entry: Mapping[str, Any], names: set[str], where: str) -> None:
    """Refuse what nobody would read."""
    if unknown := sorted(set(entry) - names):
        name = unknown[0][:64]
        refuse("unknown_field", f"Nobody knows {name!r} in {where}.", name)


def required(entry: Mapping[str, Any], name: str, read: Callable[[str, Any], T], prefix: str = "") -> T:
    value = entry.get(name)
    if value is None:
        refuse("missing_field", f"{prefix}{name} is missing.", prefix + name)
    return read(prefix + name, value)


def optional(entry: Mapping[str, Any], name: str, read: Callable[[str, Any], T], prefix: str = "") -> T | None:
    value = entry.get(name)
    return None if value is None else read(prefix + name, value)


def mapping(name: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        refuse("bad_field", f"{name} is not an object.", name)
    return value


def entries(name: str, value: Any, most: int) -> list[Any]:
    if not isinstance(value, list):
        refuse("bad_field", f"{name} is not a list.", name)
    if len(value) > most:
        refuse("bad_field", f"{name} has more than {most} entries.", name)
    return value


def text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        refuse("bad_field", f"{name} is not a text.", name)
    return value


def line(name: str, value: Any) -> str:
    """A text without line breaks and control characters: it goes into headers and logs."""
    if not (found := text(name, value)).isprintable():
        refuse("bad_field", f"{name} holds a line break or a control character.", name)
    return found


def key(name: str, value: Any) -> str:
    found = line(name, value)
    if not 0 < len(found) <= MAX_KEY:
        refuse("bad_field", f"{name} has to have 1 to {MAX_KEY} characters.", name)
    return found


def address(name: str, value: Any) -> Mailbox:
    try:
        return mailbox.read(value)
    except mailbox.MalformedAddress:
        refuse("bad_address", f"{name} is no e-mail address.", name)


def addresses(name: str, value: Any) -> list[Mailbox]:
    """One address or a list."""
    given = value if isinstance(value, list) else [value]
    return [address(f"{name}[{number}]", entry) for number, entry in enumerate(given)]


def octets(name: str, value: Any) -> bytes:
    """What base64 stands for."""
    try:
        return base64.b64decode("".join(text(name, value).split()), validate=True)
    except (binascii.Error, ValueError):
        refuse("bad_field", f"{name} is not base64.", name)
