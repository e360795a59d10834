"""The fake that ships with the contract: keeps what it takes, and fails when it is told to. Only tests use it."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from providers.base import Backend, ConfigField, OutboundMessage, RecipientResult, SendResult
from providers.exceptions import ProviderError
from providers.fidelity import LOSSLESS, Verdict


@dataclass
class Box:
    """What the backends of one box have taken, and what they shall answer next.

    An entry of `answers` is an error to raise, or results for single recipients (the rest is delivered); without
    entries everything is delivered.
    """

    accepted: list[OutboundMessage] = field(default_factory=list)
    answers: deque[ProviderError | Mapping[str, RecipientResult]] = field(default_factory=deque)
    verdict: Verdict = LOSSLESS
    lock: threading.Lock = field(default_factory=threading.Lock)

    def recipients(self) -> list[str]:
        """Everybody who was mailed, in order, as often as mailed."""
        return [recipient for message in self.accepted for recipient in message.recipients]


class MemoryBackend(Backend):
    """Delivers into `MemoryBackend.box(name)`; rows with the same `box` setting share one."""

    type = "memory"
    config_fields = (
        ConfigField("box", "Box", default="default"),
        ConfigField("password", "Password", kind="secret"),
        ConfigField("max_size", "Most octets", kind="int", low=1),
    )
    takes_raw = True
    sandbox = True
    _boxes: ClassVar[dict[str, Box]] = {}

    @classmethod
    def box(cls, name: str = "default") -> Box:
        """The box of that name, made on first use."""
        return cls._boxes.setdefault(name, Box())

    @classmethod
    def reset(cls) -> None:
        """Forget every box."""
        cls._boxes.clear()

    def __init__(self, config: Mapping[str, Any], *, timeout: float = 30.0) -> None:
        super().__init__(config, timeout=timeout)
        self._box = self.box(self.config["box"])
        self.max_size = self.config["max_size"]

    def send(self, message: OutboundMessage) -> SendResult:
        box = self._box
        with box.lock:
            answer = box.answers.popleft() if box.answers else {}
            if isinstance(answer, ProviderError):
                raise answer
            box.accepted.append(message)
            number = len(box.accepted)
        result = SendResult.all_delivered(message.recipients, f"memory-{number}", text="Kept in memory.")
        return SendResult({**result.recipients, **answer}, result.provider_message_id, text=result.text)

    def verdict(self, message: OutboundMessage) -> Verdict:  # noqa: ARG002
        return self._box.verdict

    def check_connection(self) -> str:
        return "Kept in memory."
