"""What a door hands over for acceptance, and what it gets back. SMTP, HTTP and RabbitMQ all build a Submission."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import BinaryIO, Protocol

from delivery.exceptions import NotAccepted
from delivery.models import Receipt


class Body(Protocol):
    """The raw message, in memory or spooled to disk."""

    size: int

    def open(self) -> BinaryIO:
        """A new stream at the first octet; called from any thread."""

    def header_block(self) -> bytes:
        """The octets up to and including the empty line (all of them when there is none)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """One message at a door, authenticated but not yet accepted.

    `message_id` is the key the message will have; the door makes it beforehand, because the Received line it has put
    first in `body` names it. `recipients` are envelope addresses as the client gave them. `source` is one of
    `Message.Source`. What comes again under the same `key` of its account and source (at most 255 characters; "" for
    none) makes no second message; `fingerprint` (at most 64) tells whether it is the same.
    """

    message_id: uuid.UUID
    account_id: uuid.UUID
    source: str
    mail_from: str
    recipients: Sequence[str]
    body: Body
    received_at: datetime
    smtputf8: bool = False
    client_ip: str | None = None
    session_id: str = ""
    scheduled_at: datetime | None = None
    key: str = ""
    fingerprint: str = ""


@dataclass(frozen=True, slots=True)
class Accepted:
    """The message is durable and will be delivered, or somebody told why not (ACC-2).

    What came under a key has a `receipt`. With `repeated` it had come before, and `message_id` is the message it made
    then; with `altered` it was not the same then.
    """

    message_id: uuid.UUID
    receipt: Receipt | None = None
    repeated: bool = False
    altered: bool = False


Answer = Accepted | NotAccepted
