"""A channel to RabbitMQ: what it brings is handed on, and what is published is waited for until the broker has it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import amqp
from amqp.exceptions import AMQPError
from amqp.method_framing import frame_handler

from delivery import rabbitmq
from relay.ingest import properties

ERRORS = (AMQPError, OSError)
"""After any of these the link is of no use any more, and what was not acknowledged is brought again."""
HEARTBEAT = 20
CONFIRM_TIMEOUT = rabbitmq.TIMEOUT
"""Seconds without any confirm after which the broker counts as away."""

_CONSUMER = "smtpproxy"  # unique on its channel

Brought = Callable[[amqp.Message], None]


@dataclass(slots=True, eq=False)
class Outgoing:
    """One message for a queue, persistent. `confirmed` once the broker has it; `returned` when no queue wants it."""

    queue: str
    body: bytes = field(repr=False)
    properties: Mapping[str, Any] = field(repr=False)
    headers: Mapping[str, Any] = field(default_factory=dict, repr=False)
    confirmed: bool = False
    returned: bool = False


def _frame_handler(connection: amqp.Connection, callback: Callable[..., None]) -> Callable[[Any], bool]:
    """The library's own, which never sees properties that it would fail at."""
    handle: Callable[[Any], bool] = frame_handler(connection, callback)

    def on_frame(frame: Any) -> bool:
        kind, channel, octets = frame
        return handle((kind, channel, properties.legible(octets)) if kind == properties.HEADER_FRAME else frame)

    return on_frame


class Link:
    """One connection with one channel, for one thread. Every method may raise ERRORS."""

    def __init__(self, url: str, name: str) -> None:
        self._connection = amqp.Connection(
            **rabbitmq.address(url, name), heartbeat=HEARTBEAT, frame_handler=_frame_handler
        )
        self._open: dict[int, Outgoing] = {}
        self._published = 0
        try:
            self._connection.connect()
            channel: Any = self._connection.channel()
            self._channel = channel
            channel.confirm_select()
        except BaseException:
            self.close()
            raise
        channel.auto_decode = False  # bodies stay the octets they are, whatever their properties say
        channel.events["basic_ack"].add(self._acked)
        channel.events["basic_nack"].add(self._nacked)
        channel.events["basic_return"].add(self._returned)

    def declare(self, queue: str, arguments: Mapping[str, Any]) -> None:
        """A durable queue, made where there is none."""
        self._channel.queue_declare(queue, durable=True, auto_delete=False, arguments=dict(arguments))

    def look_for(self, queue: str) -> None:
        """Raises when there is none of this name."""
        self._channel.queue_declare(queue, passive=True)

    def depth(self, queue: str) -> int:
        """Messages that wait there for somebody to take them."""
        return int(self._channel.queue_declare(queue, passive=True).message_count)

    def consume(self, queue: str, prefetch: int, brought: Brought) -> None:
        """Have at most `prefetch` messages brought before they are acknowledged."""
        self._channel.basic_qos(0, prefetch, False)
        self._channel.basic_consume(queue, _CONSUMER, callback=brought)

    def stop_consuming(self) -> None:
        self._channel.basic_cancel(_CONSUMER)

    def wait(self, seconds: float) -> bool:
        """Hand on what is brought within so many seconds; whether anything was heard."""
        self._connection.heartbeat_tick()
        try:
            self._connection.drain_events(timeout=seconds)
        except TimeoutError:
            return False
        return True

    def publish(self, batch: Sequence[Outgoing]) -> None:
        """Publish all, and wait until the broker has confirmed, refused or returned each."""
        for one in batch:
            self._published += 1
            self._open[self._published] = one
            message = amqp.Message(
                one.body, **{**one.properties, "delivery_mode": 2}, application_headers=dict(one.headers)
            )
            self._channel.basic_publish(message, "", one.queue, mandatory=True)
        heard = time.monotonic()
        while self._open:
            before = len(self._open)
            self.wait(1.0)
            if len(self._open) < before:
                heard = time.monotonic()
            elif time.monotonic() - heard > CONFIRM_TIMEOUT:
                raise TimeoutError("no confirm")

    def ack(self, tag: int) -> None:
        self._channel.basic_ack(tag)

    def requeue(self, tag: int) -> None:
        self._channel.basic_reject(tag, requeue=True)

    def close(self) -> None:
        """What is not acknowledged goes back to its queue."""
        try:
            self._connection.close()
        except ERRORS:
            with contextlib.suppress(*ERRORS):
                self._connection.collect()

    @property
    def server_version(self) -> tuple[int, ...]:
        """Of the broker, (0,) when it does not say."""
        told: dict[str, Any] = self._connection.server_properties  # type: ignore[attr-defined]  # as above
        text = str(told.get("version", "0"))
        return tuple(int(part) for part in text.split(".")[:2] if part.isdigit()) or (0,)

    def _acked(self, tag: int, multiple: bool) -> None:
        for one in self._take(tag, multiple):
            one.confirmed = not one.returned

    def _nacked(self, tag: int, multiple: bool) -> None:
        self._take(tag, multiple)

    def _take(self, tag: int, multiple: bool) -> list[Outgoing]:
        tags = [each for each in self._open if each <= tag] if multiple else [tag]
        return [self._open.pop(each) for each in tags if each in self._open]

    def _returned(self, _error: Exception, _exchange: str, queue: str, message: amqp.Message) -> None:
        """It comes before the confirm of the same message; ids tell which it is."""
        id_ = message.properties.get("message_id")
        for one in self._open.values():
            if one.queue == queue and one.properties.get("message_id") == id_:
                one.returned = True
