"""What the broker brings. A task is one or two lines; what it does is elsewhere."""

from __future__ import annotations

import uuid
from typing import Any

import structlog
from celery import shared_task
from django.db import connection

from delivery import sender, sweeper

log = structlog.get_logger(__name__)


@shared_task(name="delivery.tasks.deliver")
def deliver(*payload: Any, **unknown: Any) -> None:
    """Look at these messages now."""
    ids = _ids(payload, unknown)
    if ids:
        _look_after_connection()
        sender.deliver(ids)


@shared_task(name="delivery.tasks.ring_due")
def ring_due() -> None:
    """Ring for everything due."""
    _look_after_connection()
    sweeper.ring_due()


def _look_after_connection() -> None:
    """Connections are kept between tasks; one that broke meanwhile is made anew."""
    if not connection.in_atomic_block:
        connection.close_if_unusable_or_obsolete()


def _ids(payload: tuple[Any, ...], unknown: dict[str, Any]) -> list[uuid.UUID]:
    """The ids of a ring; anything else in the queue is logged and dropped (QUE-8)."""
    try:
        (texts,) = payload
        if unknown or not isinstance(texts, list):
            raise TypeError("not a list of ids")
        return [uuid.UUID(text) for text in texts]
    except (ValueError, TypeError, AttributeError) as error:
        # Never its content: it may be a message, or hold a password.
        kinds = [type(item).__name__ for item in (*payload, *unknown.values())]
        log.warning("unknown payload dropped", error=type(error).__name__, kinds=kinds)
        return []
