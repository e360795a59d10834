"""The contract between a provider's webhook and delivery. Nothing here knows a table or a view."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any


class Told(StrEnum):
    """What a provider can tell of a recipient after it took the mail."""

    CONFIRMED = "confirmed"
    """The recipient's server took it."""
    DEFERRED = "deferred"
    """The provider goes on trying."""
    FAILED = "failed"
    """The provider did not send it after all: dropped, blocked by its own lists, not renderable."""
    BOUNCED = "bounced"
    COMPLAINED = "complained"
    OPENED = "opened"
    CLICKED = "clicked"
    UNSUBSCRIBED = "unsubscribed"


@dataclass(frozen=True, slots=True)
class ProviderEvent:
    """One fact told by a provider about one recipient.

    `ids` are the spellings under which the service may have named the message when it took it, the likeliest first.
    `recipient` is "" when the service does not say which of the recipients of that id it means. `event_id` is the same
    each time the same fact is told. `code` and `text` are the service's words, scrubbed. `hard` is True for a bounce
    or an unsubscription after which the address is not to be mailed again. `url` is what was clicked.
    """

    type: Told
    ids: tuple[str, ...]
    recipient: str
    event_id: str
    occurred_at: datetime
    code: str = ""
    text: str = ""
    hard: bool = False
    url: str = ""

    @property
    def provider_message_id(self) -> str:
        return self.ids[0] if self.ids else ""

    def as_json(self) -> dict[str, Any]:
        plain = {"type": self.type.value, "ids": list(self.ids), "occurred_at": self.occurred_at.isoformat()}
        return asdict(self) | plain

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> ProviderEvent:
        told = dict(values)
        told |= {"type": Told(told["type"]), "ids": tuple(told["ids"])}
        return cls(**told | {"occurred_at": datetime.fromisoformat(told["occurred_at"])})


@dataclass(frozen=True, slots=True)
class WebhookRequest:
    """One call to a webhook. Header names are lower case. `url` is what the service called, as far as we can know."""

    method: str
    headers: Mapping[str, str]
    body: bytes
    url: str = ""
    query: str = ""
    remote_address: str = ""
    now: datetime | None = None

    @property
    def received_at(self) -> datetime:
        return self.now or datetime.now(UTC)

    @property
    def content_type(self) -> str:
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()

    def json(self) -> Any:
        """The body read as JSON; raises WebhookRefused (400) when it is none."""
        try:
            return json.loads(self.body.decode("utf-8"))
        except (ValueError, RecursionError):
            raise WebhookRefused(400, "The body is not JSON.") from None


class WebhookRefused(Exception):
    """The call is not taken: 400 malformed, 403 not who it should be, 413 too large, 503 our own trouble.

    `text` is for people and holds nothing secret and nothing of the body.
    """

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status, self.text = status, text


def fingerprint(*parts: object) -> str:
    """An event id for services that give none: equal parts, equal id."""
    return "sha256:" + hashlib.sha256(json.dumps([str(part) for part in parts]).encode()).hexdigest()
