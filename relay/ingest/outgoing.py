"""What is published: `SendEmailReceived`, and dead letters with their reason."""

from __future__ import annotations

import json
import struct
import time
from collections.abc import Mapping
from typing import Any

from amqp.exceptions import AMQPError
from amqp.serialization import dumps

from relay.ingest.incoming import Dead, Incoming, Taken
from relay.ingest.link import Outgoing

_KEPT = (
    "content_type",
    "content_encoding",
    "priority",
    "correlation_id",
    "reply_to",
    "message_id",
    "timestamp",
    "type",
    "app_id",
)
"""Properties a dead letter keeps. An expiration would end it, and a user id that is not ours the broker refuses."""
_ROUTING = {"CC", "BCC"}
"""Headers by which RabbitMQ would send a copy elsewhere (https://www.rabbitmq.com/docs/sender-selected)."""
LONGEST_TEXT = 500
MOST_HEADERS = 100_000  # octets, of a frame's 131,072


def acknowledgement(one: Incoming, taken: Taken, queue: str) -> Outgoing:
    """That we have the message. The same each time it is said: `event_id` is that of the receipt."""
    receipt = taken.receipt
    body = {
        "event_id": str(receipt.pk),
        "publisher_message_id": taken.publisher_message_id or receipt.key,
        "incoming_email_id": str(receipt.message_id),
        "received_at": receipt.created_at.isoformat(),
        "status": "accepted",
    }
    correlation = one.properties.get("correlation_id") or taken.publisher_message_id
    properties = {
        "content_type": "application/json",
        "message_id": str(receipt.pk),
        "type": "SendEmailReceived",
        "app_id": "smtpproxy",
        "timestamp": int(time.time()),
        **({"correlation_id": correlation} if _short(correlation) else {}),
    }
    return Outgoing(queue, json.dumps(body).encode("ascii"), properties)


def dead_letter(one: Incoming, dead: Dead, origin: str, queue: str) -> Outgoing:
    """The message as it came, with the reason in its headers."""
    reason = {
        "x-smtpproxy-reason": dead.reason,
        "x-smtpproxy-text": dead.text[:LONGEST_TEXT],
        "x-smtpproxy-queue": origin,
    }
    properties = {name: one.properties[name] for name in _KEPT if name in one.properties}
    kept = {name: value for name, value in one.headers.items() if name not in _ROUTING}
    return Outgoing(queue, one.body, properties, {**(kept if _writable(kept) else {}), **reason})


def _writable(headers: Mapping[str, Any]) -> bool:
    """Not all that can be read can be written again; and with ours besides they have to fit into one frame."""
    try:
        return len(dumps("F", (dict(headers),))) <= MOST_HEADERS
    except (AMQPError, ValueError, TypeError, struct.error):
        return False


def _short(text: Any) -> bool:
    """Whether it may be a property: those have at most 255 octets."""
    return isinstance(text, str) and 0 < len(text.encode()) <= 255


def reply_queue(properties: Mapping[str, Any]) -> str:
    """Where the publisher wants its answer; "" when it does not say."""
    name = properties.get("reply_to")
    return name if isinstance(name, str) else ""
