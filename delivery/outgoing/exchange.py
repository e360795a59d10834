"""The topic exchange that events are published to (AMQP-2).

Publisher confirms are waited for a page at a time: one by one, each would cost a round trip and a write of the broker.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import amqp
from amqp.exceptions import AMQPError, NotFound
from django.conf import settings

from delivery import rabbitmq
from delivery.exceptions import ExchangeUnavailable
from providers.scrub import scrub

CONFIRM_TIMEOUT = rabbitmq.TIMEOUT
"""Seconds without any confirm after which the broker counts as away."""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One event on its way: `id` is what consumers recognise a repetition by."""

    id: str
    routing_key: str
    body: bytes


class Exchange:
    """An open channel to the exchange; see `opened`."""

    def __init__(self, connection: amqp.Connection) -> None:
        self._connection = connection
        self._channel = _declared(connection)
        self._channel.confirm_select()
        self._open: dict[int, str] = {}
        self._refused: set[str] = set()
        self._tag = 0
        heard: dict[str, set[Any]] = self._channel.events  # type: ignore[attr-defined]  # the stubs leave it out
        heard["basic_ack"].add(self._acked)
        heard["basic_nack"].add(self._nacked)

    def publish(self, page: Iterable[Outgoing]) -> set[str]:
        """Publish all, persistent, and wait until the broker has taken each; returns the ids of those it has refused.

        Raises ExchangeUnavailable, after which nobody knows which of them it has.
        """
        self._refused = set()
        with _told():
            for one in page:
                self._tag += 1
                self._open[self._tag] = one.id
                self._channel.basic_publish(_message(one), settings.EVENTS_EXCHANGE, one.routing_key)
            heard = time.monotonic()
            while self._open:
                before = len(self._open)
                self._connection.drain_events(timeout=CONFIRM_TIMEOUT)
                if len(self._open) < before:
                    heard = time.monotonic()
                elif time.monotonic() - heard > CONFIRM_TIMEOUT:
                    raise TimeoutError("no confirm")
        return self._refused

    def _acked(self, tag: int, multiple: bool) -> None:
        self._take(tag, multiple)

    def _nacked(self, tag: int, multiple: bool) -> None:
        self._refused.update(self._take(tag, multiple))

    def _take(self, tag: int, multiple: bool) -> list[str]:
        tags = [each for each in self._open if each <= tag] if multiple else [tag]
        return [self._open.pop(each) for each in tags if each in self._open]


@contextmanager
def opened() -> Iterator[Exchange]:
    """A connection to the broker of EVENTS_URL; raises ExchangeUnavailable."""
    connection = amqp.Connection(**rabbitmq.address(settings.EVENTS_URL, "smtpproxy events"))
    try:
        with _told():
            connection.connect()
            exchange = Exchange(connection)
        yield exchange
    finally:
        try:
            connection.close()
        except (AMQPError, OSError):
            connection.collect()


def _declared(connection: amqp.Connection) -> amqp.Channel:
    """A channel of a connection with the exchange, which is made where there is none. One that somebody else has made,
    perhaps with options of its own, is used as it is."""
    channel = connection.channel()
    try:
        channel.exchange_declare(settings.EVENTS_EXCHANGE, "topic", passive=True)
    except NotFound:
        channel = connection.channel()
        channel.exchange_declare(settings.EVENTS_EXCHANGE, "topic", durable=True, auto_delete=False)
    return channel


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except (AMQPError, OSError) as error:
        text = scrub(str(error), [rabbitmq.password(settings.EVENTS_URL)])
        raise ExchangeUnavailable(f"{type(error).__name__}: {text}") from error


def _message(one: Outgoing) -> amqp.Message:
    return amqp.Message(
        one.body,
        content_type="application/json",
        content_encoding="utf-8",
        delivery_mode=2,
        message_id=one.id,
        type=one.routing_key,
        timestamp=int(time.time()),
        app_id="smtpproxy",
    )
