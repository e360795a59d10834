"""Celery's Redis transport, which no payload can bring down (QUE-8).

The library's own reads a list entry and trusts it to be an envelope: JSON with `body`, `headers` and `properties`. Any
other entry ends the worker or its connection, and many come back to do it again. Here such an entry is dropped where
it is taken from the list, before anything is noted about it. What the envelope holds is for `consumer.Consumer`.
"""

from __future__ import annotations

from typing import Any

from kombu.transport import TRANSPORT_ALIASES
from kombu.transport import redis as library
from kombu.utils.encoding import bytes_to_str
from kombu.utils.json import loads

from smtpproxy import payloads


class Channel(library.Channel):
    """Takes envelopes only."""

    _queue_cycle: Any

    def _create_client(self, asynchronous: bool = False) -> Any:
        """The connection that waits for entries (it is the asynchronous one) looks at each before it hands it on."""
        client = super()._create_client(asynchronous=asynchronous)  # type: ignore[misc]
        if asynchronous:
            read = client.parse_response

            def parse_response(connection: Any, command_name: str, **options: Any) -> Any:
                reply = read(connection, command_name, **options)
                return reply if command_name != "BRPOP" or not reply or self._sound(*reply) else None

            client.parse_response = parse_response
        return client

    def _sound(self, key: bytes, entry: bytes) -> bool:
        """Whether the entry is an envelope; None in its place is what the library gets when a queue stays empty."""
        kind = self._flaw(entry)
        if kind:
            queue = bytes_to_str(key).rsplit(self.sep, 1)[0]
            self._queue_cycle.rotate(queue)  # as after any other entry: the other queues come first now
            payloads.dropped(queue, kind, len(entry))
        return not kind

    def _flaw(self, entry: bytes) -> str:
        """What is wrong with an entry, or ""."""
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
            self.Message(envelope, channel=self)
        except Exception:  # noqa: BLE001 -- whatever it is, the library would raise it later
            return "damaged envelope"
        return ""


class Transport(library.Transport):
    Channel = Channel


def register() -> None:
    """Let every Redis broker URL mean this transport, in this process."""
    path = f"{__name__}:{Transport.__name__}"
    TRANSPORT_ALIASES.update(redis=path, rediss=path)


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
