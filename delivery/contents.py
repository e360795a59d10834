"""What is in a message, for the pages of those who may read bodies (ADM-4)."""

from __future__ import annotations

from accounts.models import User
from accounts.tenancy import Area, Verb, permits
from delivery import mime
from delivery.api import raw
from delivery.exceptions import StoreUnavailable
from delivery.mime.limits import MAX_HEADER_BYTES
from delivery.models import Message
from providers.base import Content

KINDS = {
    "headers": "Headers",
    "text": "Text",
    "html": "HTML",
    "attachments": "Attachments",
    "source": "Raw source",
}
"""Pages, by their place in the address."""
MOST_SOURCE = 64 * 1024
"""Octets of the source that a page shows; the download has all of it."""
MOST_TEXT = 500_000
"""Characters of a text that a page shows."""


def may_read(user: User) -> bool:
    return permits(user, Area.MESSAGES, Verb.READ) and permits(user, Area.BODIES, Verb.READ)


def content(message: Message) -> Content:
    """The message taken apart. Raises raw.Gone and Unavailable."""
    return mime.parse(_read(message))


def headers(message: Message) -> list[tuple[str, str]]:
    """Its header fields in order, decoded. Raises raw.Gone and Unavailable."""
    return mime.header_items(_read(message, MAX_HEADER_BYTES))


def source(message: Message) -> str:
    """Its first `MOST_SOURCE` octets as they are; what is no UTF-8 is shown as if it were Latin-1."""
    start = _read(message, MOST_SOURCE)
    try:
        return start.decode()
    except UnicodeDecodeError:
        return start.decode("latin-1")


def _read(message: Message, most: int = -1) -> bytes:
    with raw.opened(message) as stream:
        try:
            return stream.read(most)
        except (StoreUnavailable, OSError) as error:
            raise raw.unanswered() from error
