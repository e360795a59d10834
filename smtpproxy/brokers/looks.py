"""Whether the broker is there and as it must be, for probes and for workers that start (OBS-3, QUE-3)."""

from __future__ import annotations

import structlog
from django.conf import settings

from smtpproxy.brokers import names, rabbitmq, sqs
from smtpproxy.brokers.exceptions import BrokerUnusable

log = structlog.get_logger(__name__)


def look() -> None:
    """Return when the broker answers; else raise what its library raises, or BrokerUnusable.

    The Redis-compatible server is none of its business: that is asked for its own sake, whatever the broker.
    """
    if settings.QUEUE_TYPE == "rabbitmq":
        rabbitmq.look()
    elif settings.QUEUE_TYPE == "sqs" and (found := list(sqs.faults([names.PRIMARY]))):
        raise BrokerUnusable(" ".join(found))


def faults() -> list[str]:
    """What is wrong with the queues, a sentence each; raises when the broker does not answer."""
    if settings.QUEUE_TYPE == "rabbitmq":
        return list(rabbitmq.faults())
    if settings.QUEUE_TYPE == "sqs":
        return list(sqs.faults([queue.name for queue in settings.CELERY_TASK_QUEUES]))
    return []


def before_work() -> None:
    """Called in a worker that starts: ends it when its queues cannot be used as they are (raises SystemExit).

    A broker that does not answer is only told of: it may yet come up, and the worker waits for it.
    """
    try:
        found = faults()
    except Exception as error:  # noqa: BLE001 -- each library has its own
        log.error("broker does not answer", broker=settings.QUEUE_TYPE, error=f"{type(error).__name__}: {error}")
        return
    for text in found:
        log.error("broker cannot be used", broker=settings.QUEUE_TYPE, fault=text)
    if found:
        raise SystemExit(f"The broker cannot be used as it is. {' '.join(found)} See docs/brokers.md.")
