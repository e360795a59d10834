"""What the page of a message tells beside its fields: where it stands, what comes next, what happened, to whom."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.urls import reverse

from accounts.models import User
from accounts.tenancy import Area, Verb, permits
from delivery import contents, queues, timeline
from delivery.models import DEAD_LETTERS, DeliveryLog, Event, Message, MessageStatus, Recipient
from delivery.read_only_admin import in_words
from providers.models import Provider

MOST_RECIPIENTS = 100

_DEAD = "Nothing more happens by itself. Mend what the reason names, then retry or re-route it."
_NEXT: dict[str, str] = {
    MessageStatus.QUEUED: "The next free worker sends it{due}.",
    MessageStatus.PROCESSING: "A worker is sending it now. Should that worker die, it is taken up again{due}.",
    MessageStatus.RETRYING: "It is tried again{due}.",
    MessageStatus.SCHEDULED: "It is sent{due}.",
    MessageStatus.HELD: "It waits until somebody releases, re-routes or cancels it.",
    MessageStatus.DELIVERED: "Nothing is left to do. What the provider tells later is added below.",
    MessageStatus.PARTIAL: "Nothing more happens by itself; a retry serves those that have failed.",
    MessageStatus.FAILED: "Nothing more happens by itself; a retry serves those that have failed.",
    MessageStatus.REJECTED: "Nothing more: a rule refused it.",
    MessageStatus.DISCARDED: "Nothing more: a rule dropped it.",
    MessageStatus.CANCELLED: "Nothing more: recipients already served stay served.",
    **dict.fromkeys(DEAD_LETTERS, _DEAD),
}


@dataclass(frozen=True, slots=True)
class Shown:
    """A step of the timeline as the page has it."""

    entry: timeline.Entry
    status: str
    since: str
    took: str
    facts: tuple[tuple[str, str], ...]
    link: str


def context(user: User, message: Message) -> dict[str, Any]:
    """For the template of the page; at most `timeline.MOST` steps and `MOST_RECIPIENTS` recipients are read."""
    steps, more = _steps(user, message)
    recipients = list(Recipient.objects.filter(message=message).order_by("pk")[: MOST_RECIPIENTS + 1])
    return {
        "message": message,
        "next_step": next_step(message),
        "steps": steps,
        "more_steps": more,
        "recipients": recipients[:MOST_RECIPIENTS],
        "more_recipients": len(recipients) > MOST_RECIPIENTS,
        "contents": links(user, message),
    }


def next_step(message: Message) -> str:
    """What happens next, and when, in a sentence."""
    due = f" at {message.next_attempt_at:%Y-%m-%d %H:%M:%S} UTC" if message.next_attempt_at else ""
    if message.status == MessageStatus.QUEUED:
        due = f", from the queue {message.queue}" if message.queue in queues.TABLE else ""
    told = _NEXT[message.status].format(due=due)
    if message.body_deleted_at is not None:
        told += f" Its body was deleted at {message.body_deleted_at:%Y-%m-%d %H:%M:%S} UTC, when its days were over."
    return told


def links(user: User, message: Message) -> list[tuple[str, str, str]]:
    """Kind, label and address of the pages with what is in it; none for who may not read bodies (ADM-4)."""
    if not contents.may_read(user):
        return []
    name = "admin:delivery_message_contents"
    return [(kind, label, reverse(name, args=[message.pk, kind])) for kind, label in contents.KINDS.items()]


def _steps(user: User, message: Message) -> tuple[list[Shown], bool]:
    if not permits(user, Area.LOGS, Verb.READ):
        return [], False
    most = timeline.MOST + 1
    events = list(Event.objects.filter(message=message).order_by("pk")[:most])
    # What it was to be resumed from, and each recipient's outcome, may be large.
    attempts = list(DeliveryLog.objects.filter(message=message).order_by("pk").defer("progress", "results")[:most])
    keys = {event.provider_id for event in events if event.provider_id is not None}
    names = dict(Provider.objects.filter(pk__in=keys).values_list("pk", "name")) if keys else {}
    told = timeline.entries(events, attempts, names)
    return [_shown(entry) for entry in told], len(events) + len(attempts) > timeline.MOST


def _shown(entry: timeline.Entry) -> Shown:
    model = "deliverylog" if entry.is_attempt else "event"
    row = entry.row
    return Shown(
        entry,
        str(row.get_status_display() if isinstance(row, DeliveryLog) else row.get_type_display()),
        "" if entry.since is None else duration(entry.since.total_seconds()),
        "" if entry.took is None else duration(entry.took.total_seconds()),
        tuple((name.replace("_", " "), in_words(value)) for name, value in entry.facts.items()),
        reverse(f"admin:delivery_{model}_change", args=[row.pk]),
    )


_UNITS: Sequence[tuple[int, str]] = ((86_400, "d"), (3600, "h"), (60, "min"))


def duration(seconds: float) -> str:
    """`250 ms`, `3.2 s`, `4 min 5 s`, `2 d 3 h`: the two largest units."""
    if seconds < 0:
        return f"-{duration(-seconds)}"
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    left, told = round(seconds), []
    for size, unit in _UNITS:
        number, left = divmod(left, size)
        if number:
            told.append(f"{number} {unit}")
    if left:
        told.append(f"{left} s")
    return " ".join(told[:2])
