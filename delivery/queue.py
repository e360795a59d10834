"""The only place that puts work on the broker: ids, never bodies (ACC-8). A ring says "look now"; what is due is in the
database, so a lost ring costs time and never mail."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from amqp.exceptions import ChannelError
from celery import current_app
from django.conf import settings
from kombu import Exchange

from delivery import queues

DELIVER = "delivery.tasks.deliver"
CHORE = "delivery.tasks.chore"
PASSWORD_LINK = "delivery.tasks.password_link"  # noqa: S105  the name of a task
_HEADERS = {
    "lang": "py",
    "parent_id": None,
    "group": None,
    "retries": 0,
    "eta": None,
    "expires": None,
    "timelimit": [None, None],
    "argsrepr": "",
    "kwargsrepr": "",
    "ignore_result": True,
}
_NO_FOLLOWERS = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}


class RingFailed(Exception):
    """The broker did not take the ring."""


def ring(ids: Sequence[uuid.UUID], queue: str = queues.FRESH) -> None:
    """Tell the workers to look at these messages now, in lists of at most DELIVERY_BATCH.

    Raises RingFailed when the broker did not confirm; some of the lists may have got through. Waits for the broker no
    longer than its socket timeouts.
    """
    for some in pages(ids, settings.DELIVERY_BATCH):
        _send(DELIVER, [[str(id_) for id_ in some]], queue)


def ring_chore(name: str, holder: str, queue: str) -> None:
    """Tell the workers to do a chore (see `delivery.chores`); raises RingFailed."""
    _send(CHORE, [name, holder], queue)


def ring_password_link(user_id: uuid.UUID, purpose: str, origin: str) -> None:
    """Have a link mailed (see `delivery.password_mail`); the link itself is made there. Raises RingFailed."""
    _send(PASSWORD_LINK, [str(user_id), purpose, origin], queues.MAINTENANCE)


def _send(task: str, arguments: list[Any], queue: str) -> None:
    """Publish a task as Celery's message protocol 2 has it (docs.celeryq.dev, "Message Protocol").

    Written out here, since `send_task` costs more than twice as much, and each batch of new mail rings once (PERF-1).
    """
    id_ = str(uuid.uuid4())
    try:
        to = current_app.amqp.queues[queue]
        with current_app.producer_pool.acquire(block=True) as producer:
            producer.publish(
                (arguments, {}, _NO_FOLLOWERS),
                exchange="",  # the one that every queue hangs on by its name: nothing to look up
                routing_key=to.name,
                declare=[to],
                serializer="json",
                delivery_mode=Exchange.PERSISTENT_DELIVERY_MODE,
                correlation_id=id_,
                headers={**_HEADERS, "task": task, "id": id_, "root_id": id_},
                retry=False,
            )
    except Exception as error:  # kombu passes on whatever its transport raises
        raise RingFailed(f"{type(error).__name__}: {error}") from error


def waiting(queue: str) -> int:
    """Rings that wait in a queue; raises RingFailed when the broker does not say."""
    try:
        with current_app.producer_or_acquire() as producer:
            return int(producer.channel.queue_declare(queue, passive=True).message_count)
    except ChannelError:
        return 0  # nobody has rung yet
    except Exception as error:  # kombu passes on whatever its transport raises
        raise RingFailed(f"{type(error).__name__}: {error}") from error


def pages(ids: Iterable[uuid.UUID], size: int) -> Iterator[list[uuid.UUID]]:
    """`ids` in lists of at most `size`."""
    page: list[uuid.UUID] = []
    for id_ in ids:
        page.append(id_)
        if len(page) == size:
            yield page
            page = []
    if page:
        yield page
