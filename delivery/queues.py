"""The one table of queues: what the broker is asked for, workers look at and operators set (QUE-5, AMQP-3).

Imports nothing, since the settings read it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

OUTBOUND_EXCHANGE = "outbound.jobs"
SECURITY_EXCHANGE = "security.jobs"


@dataclass(frozen=True, slots=True)
class Queue:
    """`holds` is for people. `exchange` is the RabbitMQ exchange it hangs on; `kind` is what its rings are for."""

    name: str
    holds: str
    kind: Literal["mail", "chores", "scans"]
    exchange: str = OUTBOUND_EXCHANGE


TRANSACTIONAL = "outbound.transactional"
FRESH = "outbound.deliver"
LARGE = "outbound.large"
AGAIN = "outbound.retry"
EVENTS = "events"
WEBHOOKS = "webhooks"
MAINTENANCE = "maintenance"
SPAM = "scan.spam"
VIRUS = "scan.virus"

TABLE: dict[str, Queue] = {
    queue.name: queue
    for queue in (
        Queue(TRANSACTIONAL, "fresh mail of accounts marked transactional; looked at first", "mail"),
        Queue(FRESH, "fresh mail without attachments", "mail"),
        Queue(LARGE, "fresh mail with attachments, or large", "mail"),
        Queue(AGAIN, "mail that is due again: retries, scheduled sends, lost rings", "mail"),
        Queue(EVENTS, "events on their way to RabbitMQ", "chores"),
        Queue(WEBHOOKS, "events on their way to tenants' webhooks", "chores"),
        Queue(MAINTENANCE, "everything else", "chores"),
        Queue(SPAM, "spam scans", "scans", SECURITY_EXCHANGE),
        Queue(VIRUS, "virus scans", "scans", SECURITY_EXCHANGE),
    )
}
"""By name, in the order in which a worker that has the choice begins."""
NAMES = tuple(TABLE)
MAIL = tuple(queue.name for queue in TABLE.values() if queue.kind == "mail")


def of(*, transactional: bool, has_attachments: bool, size: int, large_from: int) -> str:
    """The queue a message belongs to from acceptance on; sizes in octets."""
    if transactional:
        return TRANSACTIONAL
    return LARGE if has_attachments or size >= large_from else FRESH
