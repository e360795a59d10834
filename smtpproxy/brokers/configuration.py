"""What Celery is told of each broker: its URL, how to speak to it, and its queues. Read by the settings alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from kombu import Exchange, Queue

from delivery import queues
from smtpproxy.brokers import names

CONNECT_TIMEOUT = 2.0
ANSWER_TIMEOUT = 5.0
"""Seconds a broker may take. Ringing four times (ACC-3) then ends well before a client's patience does."""
REDELIVERY = 1800
"""Seconds after which Redis brings a task again that nobody acknowledged, and RabbitMQ, as it is shipped
(`consumer_timeout`), takes it from its consumer."""
LONGEST_VISIBILITY = 43_200
"""The same for SQS is its queue's own, of this many seconds at most (see `sqs.faults`)."""
DELIVERY_LIMIT = 20
"""How often RabbitMQ gives a ring to workers that die over it; the database has parked the message long before."""
DEAD = "dead.jobs"
"""Exchange and queue of the rings that RabbitMQ has given up."""
HEARTBEAT = 30
"""Seconds; two without a sign of life from RabbitMQ, and a worker connects anew."""


@dataclass(frozen=True, slots=True)
class Broker:
    """`redelivery` is the time in seconds that a lease must stay below (QUE-2)."""

    url: str
    options: dict[str, Any]
    queues: list[Queue]
    redelivery: int


def redis(url: str) -> Broker:
    options = {
        "visibility_timeout": REDELIVERY,
        "unacked_restore_interval": 30,
        "unacked_restore_throttle": 1,
        "socket_timeout": ANSWER_TIMEOUT,
        "socket_connect_timeout": CONNECT_TIMEOUT,
        "socket_keepalive": True,
        # One look at a broker that does not answer: how often to try again is delivery.intake's business (ACC-3).
        "max_retries": 0,
    }
    return Broker(url, options, [Queue(name) for name in queues.NAMES], REDELIVERY)


def rabbitmq(url: str) -> Broker:
    """Quorum queues on two exchanges, every publication confirmed (QUE-4, AMQP-3)."""
    options = {"confirm_publish": True, "max_retries": 0}
    return Broker(url, options, [_quorum_queue(queue) for queue in queues.TABLE.values()], REDELIVERY)


def _quorum_queue(queue: queues.Queue) -> Queue:
    return Queue(
        queue.name,
        # Celery goes around a direct exchange.
        Exchange(queue.exchange, type="topic", durable=True, delivery_mode="persistent"),
        routing_key=queue.name,
        durable=True,
        queue_arguments={
            "x-queue-type": "quorum",
            "x-delivery-limit": DELIVERY_LIMIT,
            "x-dead-letter-exchange": DEAD,
        },
    )


def sqs(queue_url: str, region: str, wait: int) -> Broker:
    """Long polling of queues that exist already (QUE-3). Credentials come from the usual AWS chain.

    The endpoint is the queue's own host: a VPC endpoint or a stand-in is named by nothing else.
    """
    address = urlsplit(queue_url)
    options = {
        "region": region,
        "is_secure": address.scheme == "https",
        # Under the names that the library makes of ours.
        "predefined_queues": {names.sqs_name(name): {"url": names.sqs_url(queue_url, name)} for name in queues.NAMES},
        "wait_time_seconds": wait,
        # Between an empty answer and the next question, and between looks whether a process of the pool is free.
        "polling_interval": 0.2,
        "client-config": {
            "connect_timeout": CONNECT_TIMEOUT,
            "read_timeout": ANSWER_TIMEOUT,
            "retries": {"total_max_attempts": 1},
        },
        "max_retries": 0,
    }
    return Broker(f"sqs://{address.netloc}", options, [Queue(name) for name in queues.NAMES], LONGEST_VISIBILITY)
