"""Rings that a broker has given up go back to the queue they came from (QUE-3, QUE-4).

Each is deleted where it was only after the broker has confirmed that it has it again; one that stops in between is
there twice, which a claim makes harmless.
"""

from __future__ import annotations

import base64
import json
from collections import Counter
from collections.abc import Collection, Iterator
from typing import Any

import amqp
from celery import current_app
from django.conf import settings

from smtpproxy.brokers import names, sqs
from smtpproxy.brokers.configuration import DEAD
from smtpproxy.brokers.exceptions import BrokerUnusable

_SOURCE = "DeadLetterQueueSourceArn"
_PAGE = 10
_DEATHS = ("x-death", "x-first-death-exchange", "x-first-death-queue", "x-first-death-reason")
_NONE = (
    "With QUEUE_TYPE={type} there is no dead-letter queue to redrive: Redis gives no ring up, and the scheduler rings "
    "again for whatever is due. Dead letters are messages; the admin lists them under Messages."
)


def count() -> int:
    """How many rings the broker has given up, as it counted lately; raises BrokerUnusable where it keeps none."""
    if settings.QUEUE_TYPE == "sqs":
        wanted = ["ApproximateNumberOfMessages"]
        found = sqs.client().get_queue_attributes(QueueUrl=_dead_letter_url(), AttributeNames=wanted)
        return int(found["Attributes"][wanted[0]])
    if settings.QUEUE_TYPE == "rabbitmq":
        with current_app.connection_for_write() as connection:
            channel: Any = connection.default_channel
            return int(channel.queue_declare(DEAD, passive=True).message_count)
    raise BrokerUnusable(_NONE.format(type=settings.QUEUE_TYPE))


def redrive(limit: int) -> Counter[str]:
    """Send back at most `limit` rings; returns how many went to each queue. Raises BrokerUnusable as `count`, and what
    the broker's library raises: what was sent back until then stays so."""
    if settings.QUEUE_TYPE == "sqs":
        return Counter(_sqs(limit))
    if settings.QUEUE_TYPE == "rabbitmq":
        return Counter(_rabbitmq(limit))
    raise BrokerUnusable(_NONE.format(type=settings.QUEUE_TYPE))


def _dead_letter_url() -> str:
    if not settings.SQS_DLQ_URL:
        raise BrokerUnusable("Set SQS_DLQ_URL to the URL of the dead-letter queue.")
    return str(settings.SQS_DLQ_URL)


def _sqs(limit: int) -> Iterator[str]:
    client, dead = sqs.client(), _dead_letter_url()
    queues = {sqs.url(queue.name).rpartition("/")[2]: queue.name for queue in settings.CELERY_TASK_QUEUES}
    left = limit
    while left > 0:
        found = client.receive_message(
            QueueUrl=dead,
            MaxNumberOfMessages=min(_PAGE, left),
            WaitTimeSeconds=1,
            MessageSystemAttributeNames=[_SOURCE],
            MessageAttributeNames=["All"],
        ).get("Messages", [])
        if not found:
            return
        for message in found:
            source = message.get("Attributes", {}).get(_SOURCE, "").rpartition(":")[2]
            queue = queues.get(source) or _addressed_to(message["Body"], queues.values())
            attributes: dict[str, Any] = message.get("MessageAttributes", {})
            client.send_message(QueueUrl=sqs.url(queue), MessageBody=message["Body"], MessageAttributes=attributes)
            client.delete_message(QueueUrl=dead, ReceiptHandle=message["ReceiptHandle"])
            left -= 1
            yield queue


def _addressed_to(body: str, queues: Collection[str]) -> str:
    """The queue a ring was sent to, as its envelope says; for what is none, the first."""
    try:
        queue = json.loads(base64.b64decode(body, validate=True))["properties"]["delivery_info"]["routing_key"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return names.PRIMARY
    return queue if queue in queues else names.PRIMARY


def _rabbitmq(limit: int) -> Iterator[str]:
    known = {queue.name for queue in settings.CELERY_TASK_QUEUES}
    with current_app.connection_for_write() as connection:
        channel: Any = connection.default_channel
        for _ in range(limit):
            message = channel.basic_get(DEAD, no_ack=False)
            if message is None:
                return
            source = message.headers.get("x-first-death-queue")
            queue = source if source in known else names.PRIMARY
            headers = {name: value for name, value in message.headers.items() if name not in _DEATHS}
            again = amqp.Message(message.body, **{**message.properties, "application_headers": headers})
            channel.basic_publish_confirm(again, exchange="", routing_key=queue)
            channel.basic_ack(message.delivery_tag)
            yield queue
