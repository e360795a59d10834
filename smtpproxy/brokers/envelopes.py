"""Whether an entry of a queue is an envelope, for the transports that keep envelopes in text: Redis and SQS (QUE-8).

The library trusts an entry to be JSON with `body`, `headers` and `properties`. Any other ends the worker or its
connection, and many come back to do it again. What the envelope holds is for `consumer.Consumer`.
"""

from __future__ import annotations

from typing import Any

from kombu.utils.encoding import bytes_to_str
from kombu.utils.json import loads

from smtpproxy import payloads


def flaw(entry: bytes | str, channel: Any) -> str:
    """What is wrong with an entry that `channel` would make a message of, or ""."""
    if len(entry) > payloads.LONGEST:
        return "too long"
    try:
        envelope = loads(bytes_to_str(entry))
    except Exception:  # noqa: BLE001 -- the library's own decoder raises all kinds
        return "not JSON"
    if payloads.too_deep(envelope):
        return "too deep"
    if not isinstance(envelope, dict) or not _complete(envelope):
        return f"{type(envelope).__name__} that is no envelope"
    try:
        channel.Message(envelope, channel=channel)
    except Exception:  # noqa: BLE001 -- whatever it is, the library would raise it later
        return "damaged envelope"
    return ""


def _complete(envelope: dict[str, Any]) -> bool:
    """Whether all is there that the library uses to note an entry as taken and to put it back."""
    properties = envelope.get("properties")
    if not isinstance(properties, dict) or not isinstance(envelope.get("headers"), dict):
        return False
    route = properties.get("delivery_info")
    return (
        isinstance(envelope.get("body"), str)
        and isinstance(properties.get("priority"), int | None)
        and isinstance(route, dict)
        and _is_name(properties.get("delivery_tag"))
        and isinstance(route.get("exchange"), str)
        and route["exchange"].isascii()
        and _is_name(route.get("routing_key"))
    )


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and value != "" and value.isascii()
