"""What an operator's actions do to a message: which they fit, and what they change of it and of its recipients (DEL-9).

`delivery.control` carries them out; nobody else changes a row by them.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar

from django.db.models import Q, QuerySet

from accounts.models import Tenant
from delivery.exceptions import ControlRefused
from delivery.models import (
    DEAD_LETTERS,
    PENDING_STATUSES,
    EventType,
    Message,
    MessageStatus,
    Recipient,
    RecipientStatus,
)
from delivery.notices import CANCELLED
from delivery.suppressions import SUPPRESSED
from providers.models import Provider

WAITING = (MessageStatus.QUEUED, MessageStatus.RETRYING, MessageStatus.SCHEDULED)
GIVEN_UP = (MessageStatus.FAILED, MessageStatus.PARTIAL, *DEAD_LETTERS)
"""Ended, with recipients who may be tried again."""
NO_BODY = "Its body is no longer stored."

FIELDS = (
    "status",
    "status_reason",
    "next_attempt_at",
    "rung_at",
    "finished_at",
    "claims",
    "tries",
    "released",
    "routed_to",
    "scheduled_at",
)
"""What of a message an action may change."""


class Action:
    """One action on the messages of a page, all of them locked. `done` names it in the audit."""

    done: ClassVar[str]
    statuses: ClassVar[Collection[str]]
    event: ClassVar[EventType]
    sends: ClassVar[bool] = False

    def look_at(self, messages: Iterable[Message]) -> None:
        """Read at once what `check` needs to know of all of them."""

    def check(self, message: Message) -> None:
        """Raises ControlRefused for a message the action does not fit; the text names no single message."""
        if message.status not in self.statuses:
            raise ControlRefused(f"The message is {message.status}.")
        if self.sends and message.body_deleted_at is not None:
            raise ControlRefused(NO_BODY)

    def change(self, message: Message, now: datetime, by: str) -> None:
        """Change the message in memory."""
        raise NotImplementedError

    def change_recipients(self, changed: dict[str, list[uuid.UUID]], now: datetime, by: str) -> None:
        """Change the recipients of messages that were changed, given by the status they had."""

    def told(self) -> dict[str, Any]:
        """What event and audit tell beside who did it."""
        return {}


@dataclass(frozen=True, slots=True)
class Hold(Action):
    done, statuses, event = "held", WAITING, EventType.HELD
    reason: str = ""

    def change(self, message: Message, now: datetime, by: str) -> None:  # noqa: ARG002
        message.status, message.next_attempt_at = MessageStatus.HELD, None
        message.status_reason = (self.reason or f"Held by {by}.")[:500]


@dataclass(frozen=True, slots=True)
class Release(Action):
    done, statuses, event, sends = (
        "released",
        (MessageStatus.HELD, MessageStatus.ENQUEUE_FAILED),
        EventType.RELEASED,
        True,
    )

    def change(self, message: Message, now: datetime, by: str) -> None:  # noqa: ARG002
        message.released = True
        _resume(message, now)

    def change_recipients(self, changed: dict[str, list[uuid.UUID]], now: datetime, by: str) -> None:  # noqa: ARG002
        _send_lost_again([id_ for ids in changed.values() for id_ in ids], now)


@dataclass(frozen=True, slots=True)
class Retry(Action):
    done, event, sends = "retried", EventType.RELEASED, True
    statuses: ClassVar[Collection[str]] = (MessageStatus.RETRYING, MessageStatus.SCHEDULED, *GIVEN_UP)

    def change(self, message: Message, now: datetime, by: str) -> None:  # noqa: ARG002
        if message.status in GIVEN_UP:
            message.tries = 0
        if message.scheduled_at is not None and message.scheduled_at > now:
            message.scheduled_at = None
        _queue(message, now)

    def change_recipients(self, changed: dict[str, list[uuid.UUID]], now: datetime, by: str) -> None:  # noqa: ARG002
        _try_failed_again(changed, now)


class Reprocess(Retry):
    done, statuses = "reprocessed", DEAD_LETTERS


@dataclass(frozen=True, slots=True)
class Cancel(Action):
    done, event = "cancelled", EventType.CANCELLED
    statuses: ClassVar[Collection[str]] = (*WAITING, MessageStatus.HELD)

    def change(self, message: Message, now: datetime, by: str) -> None:
        message.status, message.next_attempt_at, message.finished_at = MessageStatus.CANCELLED, None, now
        message.status_reason = _cancelled(by)

    def change_recipients(self, changed: dict[str, list[uuid.UUID]], now: datetime, by: str) -> None:
        _of(id_ for ids in changed.values() for id_ in ids).filter(status__in=PENDING_STATUSES).update(
            status=RecipientStatus.FAILED, error_code=CANCELLED, error_text=_cancelled(by), updated_at=now
        )


class Withdraw(Cancel):
    """What an application may cancel: what it has scheduled, until it starts (DEL-11)."""

    statuses = (MessageStatus.SCHEDULED,)


class Reroute(Action):
    """To a provider, or with None back to what the rules say."""

    done, event, sends = "rerouted", EventType.RELEASED, True
    statuses = (*WAITING, MessageStatus.HELD, *GIVEN_UP)

    def __init__(self, provider: Provider | None) -> None:
        self.provider = provider
        self._may_share: set[uuid.UUID] = set()

    def look_at(self, messages: Iterable[Message]) -> None:
        if self.provider is not None and self.provider.tenant_id is None:
            tenants = {message.tenant_id for message in messages}
            sharing = Tenant.objects.filter(pk__in=tenants, may_use_shared_providers=True)
            self._may_share = set(sharing.values_list("pk", flat=True))

    def check(self, message: Message) -> None:
        super().check(message)
        if self.provider is None:
            if message.routed_to_id is None:
                raise ControlRefused("The rules decide already.")
            return
        usable = self.provider.tenant_id == message.tenant_id or message.tenant_id in self._may_share
        if not usable:
            raise ControlRefused("Its tenant may not use that provider.")
        if not self.provider.enabled:
            raise ControlRefused("That provider is not enabled.")

    def change(self, message: Message, now: datetime, by: str) -> None:  # noqa: ARG002
        message.routed_to, message.tries = self.provider, 0
        _resume(message, now)

    def change_recipients(self, changed: dict[str, list[uuid.UUID]], now: datetime, by: str) -> None:  # noqa: ARG002
        _send_lost_again(changed.get(MessageStatus.HELD, []), now)
        _try_failed_again(changed, now)

    def told(self) -> dict[str, Any]:
        return {"provider": self.provider.name if self.provider else "as the rules say"}


def _queue(message: Message, now: datetime) -> None:
    """Due now: the ring follows the commit, and the sweeper finds what it misses."""
    message.status, message.status_reason = MessageStatus.QUEUED, ""
    message.next_attempt_at, message.rung_at, message.finished_at = now, None, None
    message.claims = 0


def _resume(message: Message, now: datetime) -> None:
    """As `_queue`; a message whose time has not come keeps it (DEL-11)."""
    _queue(message, now)
    if message.scheduled_at is not None and message.scheduled_at > now:
        message.status, message.next_attempt_at = MessageStatus.SCHEDULED, message.scheduled_at


def _of(ids: Iterable[uuid.UUID]) -> QuerySet[Recipient]:
    return Recipient.objects.filter(message_id__in=list(ids))


def _send_lost_again(ids: list[uuid.UUID], now: datetime) -> None:
    """Recipients whose last answer was lost (DEL-5): a person wants the message sent."""
    _of(ids).filter(status=RecipientStatus.UNKNOWN).update(status=RecipientStatus.PENDING, updated_at=now)


def _try_failed_again(changed: dict[str, list[uuid.UUID]], now: datetime) -> None:
    """Recipients that failed, and those skipped as suppressed, in case they no longer are."""
    skipped = Q(status=RecipientStatus.SUPPRESSED, error_code=SUPPRESSED)
    ended = (id_ for status, ids in changed.items() if status in GIVEN_UP for id_ in ids)
    _of(ended).filter(Q(status=RecipientStatus.FAILED) | skipped).update(
        status=RecipientStatus.PENDING, error_code="", error_text="", delivered_at=None, updated_at=now
    )


def _cancelled(by: str) -> str:
    return f"Cancelled by {by}."[:500]
