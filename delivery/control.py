"""What an operator may do with messages: hold, release, retry now, cancel, re-route, reprocess (DEL-9, RET-5).

The admin, the commands and the API call these and never set a status themselves. A message that a worker is sending
at this moment is refused: its outcome decides. What a person or a command has done is in the audit, beside the
change; actions on all that a filter finds are in `delivery.bulk`.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TypeAlias

import structlog
from django.db import transaction
from django.utils import timezone

from accounts import audit
from accounts.api_keys import KeyIdentity
from accounts.models import User
from delivery import actions, events, queue, rows
from delivery.actions import WAITING, Action
from delivery.exceptions import ControlRefused
from delivery.models import Message, MessageStatus
from providers.models import Provider

__all__ = ["WAITING", "Actor", "Outcome", "cancel", "do", "hold", "release", "reprocess", "reroute", "retry"]

log = structlog.get_logger(__name__)

PAGE = 500
NO_SUCH = "There is no such message."

Actor: TypeAlias = User | KeyIdentity | str | None
"""A person, an application by its key, the name of a command, or nobody but the system."""


@dataclass(slots=True)
class Outcome:
    """The messages an action changed, and those it did not, with the reason."""

    done: list[uuid.UUID] = field(default_factory=list)
    refused: dict[uuid.UUID, str] = field(default_factory=dict)

    @property
    def changed(self) -> int:
        """How many were changed."""
        return len(self.done)


def hold(ids: Iterable[uuid.UUID], *, actor: Actor, reason: str = "", ip: str | None = None) -> Outcome:
    """Park waiting messages (queued, retrying, scheduled) until somebody releases them."""
    return do(actions.Hold(reason), ids, actor=actor, ip=ip)


def release(ids: Iterable[uuid.UUID], *, actor: Actor, ip: str | None = None) -> Outcome:
    """Queue held messages and `enqueue_failed` ones now; rules no longer hold them. A scheduled one keeps its time.

    Recipients whose last answer was lost are sent to again: that is what releasing them means.
    """
    return do(actions.Release(), ids, actor=actor, ip=ip)


def retry(ids: Iterable[uuid.UUID], *, actor: Actor, ip: str | None = None) -> Outcome:
    """Try now: retrying and scheduled messages, and failed, partial and dead-lettered ones with the counter reset.

    Recipients that failed are tried again, and those skipped as suppressed, in case they no longer are; those already
    served stay served.
    """
    return do(actions.Retry(), ids, actor=actor, ip=ip)


def reprocess(ids: Iterable[uuid.UUID], *, actor: Actor, ip: str | None = None) -> Outcome:
    """As `retry`, for dead letters only (RET-5)."""
    return do(actions.Reprocess(), ids, actor=actor, ip=ip)


def cancel(ids: Iterable[uuid.UUID], *, actor: Actor, ip: str | None = None) -> Outcome:
    """End messages that wait or are held; recipients already served stay served, the others have failed."""
    return do(actions.Cancel(), ids, actor=actor, ip=ip)


def reroute(ids: Iterable[uuid.UUID], provider: Provider | None, *, actor: Actor, ip: str | None = None) -> Outcome:
    """Send through this provider and no other, whatever the rules say; None: as the rules say again.

    Takes what waits, is held, has failed or is a dead letter, resets the retry counter and queues it now; a scheduled
    one keeps its time. The provider must be enabled, and the tenant's own or a shared one the tenant may use.
    """
    return do(actions.Reroute(provider), ids, actor=actor, ip=ip)


def do(
    action: Action,
    ids: Iterable[uuid.UUID],
    *,
    actor: Actor,
    ip: str | None = None,
    audited: bool = True,
    ring: bool = True,
) -> Outcome:
    """Apply an action to messages page by page, each page in one transaction with its events and audit entries.

    Whose messages they are is for the caller to check. Without `ring` what is due is left to the sweep, which rings no
    faster than workers follow.
    """
    outcome = Outcome()
    for page in queue.pages(dict.fromkeys(ids), PAGE):
        with transaction.atomic():
            changed = _page(action, page, actor, outcome)
            if ring:
                transaction.on_commit(partial(_ring, changed), robust=True)
            if audited and actor is not None:
                by = actor if isinstance(actor, User) else str(actor)
                audit.record_each(by, f"message.{action.done}", changed, ip, action.told())
        log.info("messages changed", by=name(actor), done=action.done, messages=[str(one.pk) for one in changed])
    return outcome


def _page(action: Action, page: Sequence[uuid.UUID], actor: Actor, outcome: Outcome) -> list[Message]:
    now, by = timezone.now(), name(actor)
    found = list(Message.objects.select_for_update().filter(pk__in=page).order_by("pk"))
    action.look_at(found)
    changed: list[Message] = []
    before: dict[str, list[uuid.UUID]] = {}
    for message in found:
        try:
            action.check(message)
        except ControlRefused as refusal:
            outcome.refused[message.pk] = str(refusal)
            continue
        before.setdefault(message.status, []).append(message.pk)
        action.change(message, now, by)
        changed.append(message)
    rows.update_each(changed, actions.FIELDS)
    action.change_recipients(before, now, by)
    events.record(
        events.about(one, action.event, now, by=by, reason=one.status_reason, **action.told()) for one in changed
    )
    outcome.done += [message.pk for message in changed]
    outcome.refused |= dict.fromkeys(set(page) - {message.pk for message in found}, NO_SUCH)
    return changed


def name(actor: Actor) -> str:
    """Who acted, as the tenant may read it; which operator it was is in the audit."""
    if actor is None:
        return "the system"
    if isinstance(actor, KeyIdentity):
        return str(actor)
    return "the platform operator" if isinstance(actor, str) or actor.is_superuser else actor.email


def _ring(changed: Sequence[Message]) -> None:
    """Each in the queue it belongs to (QUE-5)."""
    due: dict[str, list[uuid.UUID]] = {}
    for message in changed:
        if message.status == MessageStatus.QUEUED:
            due.setdefault(message.queue, []).append(message.pk)
    for where, ids in due.items():
        try:
            queue.ring(ids, where)
        except queue.RingFailed as error:
            log.warning("ring failed; left to the sweeper", messages=len(ids), error=str(error))
            return
