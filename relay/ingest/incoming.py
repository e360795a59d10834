"""What the broker has brought, and what is to be done with it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.utils import timezone

from delivery.models import Receipt
from relay.ingest.payload import SendEmail


@dataclass(slots=True, eq=False)
class Incoming:
    """One delivery of the broker that is not acknowledged yet. `tag` names it on its channel.

    `not_before` is when it is looked at again (monotonic), `tries` how often what it points to could not be fetched,
    `failures` how often it could not be taken for a reason of our own.
    """

    tag: int
    body: bytes = field(repr=False)
    properties: Mapping[str, Any] = field(default_factory=dict, repr=False)
    headers: Mapping[str, Any] = field(default_factory=dict, repr=False)
    received_at: datetime = field(default_factory=timezone.now)
    since: float = field(default_factory=time.monotonic)
    not_before: float = 0.0
    tries: int = 0
    failures: int = 0


@dataclass(frozen=True, slots=True)
class Taken:
    """The message is durable: its publisher is to be told, unless `receipt` says that it has been."""

    publisher_message_id: str
    receipt: Receipt


@dataclass(frozen=True, slots=True)
class Dead:
    """It can never be taken: to the dead-letter queue."""

    reason: str
    text: str


@dataclass(frozen=True, slots=True)
class Later:
    """Not now: to be looked at again after so many seconds; with `everything` the same holds for the whole queue."""

    seconds: float
    reason: str
    text: str = ""
    everything: bool = False


@dataclass(frozen=True, slots=True)
class Fetch:
    """What it points to has to be fetched first, which may take its time."""

    request: SendEmail = field(repr=False)


Outcome = Taken | Dead | Later | Fetch
