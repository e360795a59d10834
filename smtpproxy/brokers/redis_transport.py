"""Celery's Redis transport, which no payload can bring down (QUE-8).

An entry that is no envelope is dropped where it is taken from the list, before anything is noted about it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any

from kombu.transport import redis as library
from kombu.utils.encoding import bytes_to_str
from kombu.utils.scheduling import round_robin_cycle

from delivery import queues
from smtpproxy import payloads
from smtpproxy.brokers import envelopes


class InTurn(round_robin_cycle):
    """Each queue in its turn, so that none waits for another's backlog; transactional mail before all (QUE-5)."""

    def consume(self, n: int) -> list[str]:  # type: ignore[override]
        names = super().consume(n)
        first = [name for name in names if name == queues.TRANSACTIONAL]
        return first + [name for name in names if name != queues.TRANSACTIONAL]


class Channel(library.Channel):
    """Takes envelopes only."""

    queue_order_strategy = f"{__name__}:{InTurn.__name__}"

    _queue_cycle: Any

    @contextmanager
    def conn_or_acquire(self, client: Any = None) -> Iterator[Any]:
        """One client for everything that does not wait: the library makes a new one for each call, at the price of a
        ring. It takes a connection from the pool for each command."""
        yield client or self._plain_client

    @cached_property
    def _plain_client(self) -> Any:
        return self._create_client()

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
        kind = envelopes.flaw(entry, self)
        if kind:
            queue = bytes_to_str(key).rsplit(self.sep, 1)[0]
            self._queue_cycle.rotate(queue)  # as after any other entry: the other queues come first now
            payloads.dropped(queue, kind, len(entry))
        return not kind


class Transport(library.Transport):
    Channel = Channel
