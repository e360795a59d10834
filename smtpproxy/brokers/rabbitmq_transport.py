"""Celery's RabbitMQ transport, which does not wait for ever, and which no payload brings down (QUE-4, QUE-8, ACC-3)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from amqp import basic_message, method_framing
from kombu.transport import pyamqp

from delivery import queues
from smtpproxy.brokers.configuration import ANSWER_TIMEOUT, DEAD

library: Any = pyamqp  # its types leave out what is extended here
Message: Any = basic_message.Message

_RINGS_COME_BY = ("", queues.OUTBOUND_EXCHANGE, queues.SECURITY_EXCHANGE)
_HEADER_FRAME = 2
_FIXED = 12
"""Octets of a header frame before its properties (AMQP 0-9-1 §4.2.6.1)."""
MOST_DEAD = 100_000
"""Rings the dead-letter queue keeps; older ones give way. What they rang for is in the database."""


class Impatient:
    """Whoever fails to get an answer within ANSWER_TIMEOUT seconds gets an error, and the connection is given up: an
    answer that came late would be taken for that to the next question."""

    connection: Any

    def wait(self, method: Any, callback: Any = None, timeout: float | None = None, returns_tuple: bool = False) -> Any:
        library_: Any = super()
        try:
            return library_.wait(method, callback, timeout or ANSWER_TIMEOUT, returns_tuple)
        except Exception:
            if self.connection is not None:
                self.connection.collect()
            raise


class Channel(Impatient, library.Channel):
    """Every publication is confirmed."""

    def basic_publish_confirm(self, *args: Any, **kwargs: Any) -> Any:
        """Raises when the broker does not confirm, or has no queue for a ring (`mandatory`)."""
        ring = kwargs.get("exchange") in _RINGS_COME_BY
        kwargs = {**kwargs, "mandatory": ring, "timeout": kwargs.get("timeout") or ANSWER_TIMEOUT}
        return super().basic_publish_confirm(*args, **kwargs)

    basic_publish = basic_publish_confirm

    def queue_declare(self, queue: str = "", passive: bool = False, **options: Any) -> Any:
        """Where the rings go that RabbitMQ gives up is declared along with the queue they came from."""
        if not passive and (options.get("arguments") or {}).get("x-dead-letter-exchange") == DEAD:
            self.exchange_declare(DEAD, type="fanout", durable=True, auto_delete=False)
            kept = {"x-queue-type": "quorum", "x-max-length": MOST_DEAD}
            super().queue_declare(DEAD, durable=True, auto_delete=False, arguments=kept)
            self.queue_bind(DEAD, DEAD)
        return super().queue_declare(queue, passive=passive, **options)


class Connection(Impatient, library.Connection):
    Channel = Channel

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, frame_handler=frame_handler, **options)


class Transport(library.Transport):
    Connection = Connection


class SSLTransport(library.SSLTransport):
    Connection = Connection


def frame_handler(connection: Any, callback: Callable[..., None]) -> Callable[[Any], bool]:
    """The library's, but properties that cannot be read cost a message its properties, not the worker its connection,
    to which the message would come back at once."""
    on_frame = method_framing.frame_handler(connection, callback)

    def on_any_frame(frame: tuple[int, int, Any]) -> bool:
        kind, channel, content = frame
        if kind == _HEADER_FRAME and not _readable(content):
            frame = kind, channel, bytes(content[:_FIXED]) + b"\0\0"
        return bool(on_frame(frame))

    return on_any_frame


def _readable(content: Any) -> bool:
    try:
        Message().inbound_header(content)
    except Exception:  # noqa: BLE001 -- the library's reader raises all kinds
        return False
    return True
