"""Celery's consumer, which starts known tasks only and is not brought down by others, whatever the broker (QUE-8)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from inspect import signature
from typing import Any

from celery.worker import consumer as library
from kombu.message import Message

from smtpproxy import payloads

log = logging.getLogger(__name__)

_Blueprint: Any = library.Consumer.Blueprint
_ABOUT_OTHER_TASKS = ("callbacks", "errbacks", "chain", "chord")


class Consumer(library.Consumer):
    """Looks at each message before the library takes it as a task of protocol 2, which is what ours are sent in
    (https://docs.celeryq.dev/en/stable/internals/protocol.html)."""

    class Blueprint(_Blueprint):
        """Without what the library sets up for tasks with a start time, which ours never have: on RabbitMQ that would
        be 28 more queues (QUE-3)."""

        default_steps = [step for step in _Blueprint.default_steps if not step.endswith(":DelayedDelivery")]

    strategies: dict[str, Any]
    connection_errors: tuple[type[Exception], ...]

    def __init__(self, *args: Any, **options: Any) -> None:
        """Workers have nothing to tell one another: what they share is in the database and the shared store."""
        super().__init__(
            *args, **{**options, "without_mingle": True, "without_gossip": True, "without_heartbeat": True}
        )

    def create_task_handler(self, *args: Any, **kwargs: Any) -> Callable[[Message], None]:
        start = super().create_task_handler(*args, **kwargs)

        def on_task_received(message: Message) -> None:
            kind = self._flaw(message)
            if kind:
                self._drop(message, kind)
                return
            try:
                start(message)
            except (TypeError, ValueError, AttributeError, ArithmeticError) as error:
                # Of what a header may hold only the library knows all; data that it trips over trips it every time.
                # Should it have been a good ring, the scheduler rings again.
                self._drop(message, type(error).__name__)

        return on_task_received

    def on_unknown_message(self, _body: Any, message: Message) -> None:
        self._drop(message, "no task")

    def on_unknown_task(self, _body: Any, message: Message, _exc: Exception) -> None:
        self._drop(message, "unknown task")

    def on_invalid_task(self, _body: Any, message: Message, _exc: Exception) -> None:
        self._drop(message, "invalid task")

    def on_decode_error(self, message: Message, _exc: Exception) -> None:
        self._drop(message, "not decodable")

    def _drop(self, message: Message, kind: str) -> None:
        """Acknowledged, not rejected: some brokers keep what is rejected, or bring it again."""
        name = (message.delivery_info or {}).get("routing_key")
        queue = name if isinstance(name, str) and name in self.app.amqp.queues else "unknown"
        payloads.dropped(queue, kind, _length(message))
        if not message.acknowledged:
            message.ack_log_error(log, self.connection_errors)

    def _flaw(self, message: Message) -> str:
        """What keeps a message from being a task, or ""."""
        headers = message.headers
        name = headers.get("task") if isinstance(headers, dict) else None
        if not isinstance(name, str):
            return "no task"
        if name not in self.strategies:
            return "unknown task"
        if _length(message) > payloads.LONGEST:
            return "too long"
        if not _sound_headers(headers):
            return "unknown headers"
        try:
            payload = message.decode()
        except Exception:  # noqa: BLE001 -- each content type and encoding fails in its own way
            return "not decodable"
        return self._payload_flaw(name, payload)

    def _payload_flaw(self, name: str, payload: Any) -> str:
        if payloads.too_deep(payload):
            return "too deep"
        if not isinstance(payload, list) or len(payload) != 3:
            return f"{type(payload).__name__} in place of a task"
        args, kwargs, embed = payload
        if not isinstance(args, list) or not isinstance(kwargs, dict) or not isinstance(embed, dict | None):
            return "unknown arguments"
        if _starts_others(embed or {}):
            return "task with others in tow"
        try:
            signature(self.app.tasks[name].run).bind(*args, **kwargs)
        except TypeError:
            return "unknown arguments"
        return ""


def _sound_headers(headers: Mapping[str, Any]) -> bool:
    """Those that the worker itself goes by before a task is started."""
    id_ = headers.get("id")
    limits = headers.get("timelimit") or [None, None]
    return (
        not payloads.too_deep(headers)
        and isinstance(id_, str)
        and 0 < len(id_) <= 255
        and id_.isascii()
        and isinstance(limits, list)
        and len(limits) == 2
        and all(_sound_limit(limit) for limit in limits)
        and not _starts_others(headers)
    )


def _sound_limit(limit: Any) -> bool:
    """Seconds, fewer than in a week."""
    return limit is None or (isinstance(limit, int | float) and 0 < limit < 604_800)


def _starts_others(options: Mapping[str, Any]) -> bool:
    """No task of ours does; naming others in a way that cannot be read would bring the worker down afterwards."""
    return any(options.get(name) for name in _ABOUT_OTHER_TASKS)


def _length(message: Message) -> int:
    body = message.body
    return len(body) if isinstance(body, bytes | str | bytearray | memoryview) else 0
