"""What the broker brings. A task is one or two lines; what it does is elsewhere."""

from __future__ import annotations

import uuid
from typing import Any

import structlog
from celery import Task, shared_task
from django.conf import settings
from django.db import connection

from delivery import capped, caps, chores, lanes, password_mail, queues, sender, sweeper
from delivery.models import Message

log = structlog.get_logger(__name__)


@shared_task(name="delivery.tasks.deliver", bind=True)
def deliver(task: Task, *payload: Any, **unknown: Any) -> None:
    """Look at these messages now."""
    ids = _ids(payload, unknown)
    if ids:
        _look_after_connection()
        name = _queue(task)
        if not lanes.take(name):  # whoever leaves a lane rings again
            if name in caps.restricted():
                capped.put_off(Message.objects.filter(pk__in=ids))
            return
        try:
            sender.deliver(ids, name)
        finally:
            sweeper.ring_next(dict.fromkeys(lanes.leave(), settings.DELIVERY_BATCH))


@shared_task(name="delivery.tasks.ring_due")
def ring_due() -> None:
    """Ring for everything due."""
    _look_after_connection()
    sweeper.ring_due()


@shared_task(name="delivery.tasks.chore")
def chore(name: str, holder: str) -> None:
    """Do what is to be done besides sending."""
    _look_after_connection()
    chores.do(str(name), str(holder))


@shared_task(name="delivery.tasks.password_link")
def password_link(user_id: str, purpose: str, origin: str) -> None:
    """Mail somebody the link with which they choose a password."""
    _look_after_connection()
    password_mail.send(user_id, purpose, origin)


def _look_after_connection() -> None:
    """Connections are kept between tasks; one that broke meanwhile is made anew."""
    if not connection.in_atomic_block:
        connection.close_if_unusable_or_obsolete()


def _queue(task: Task) -> str:
    """The queue a ring lay in."""
    name = (task.request.delivery_info or {}).get("routing_key")
    return name if name in queues.MAIL else queues.FRESH


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
