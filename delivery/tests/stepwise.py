"""A service that takes a message in two requests: first it is prepared, then sent."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any, ClassVar

from providers.base import Backend, OutboundMessage, SendResult


class StepwiseBackend(Backend):
    """`answers` are raised before the first step, between the two, and after the second, None lets it pass."""

    type = "stepwise"
    takes_raw = True
    max_recipients = 2
    resumes = True
    prepared: ClassVar[list[str]] = []
    sent: ClassVar[list[tuple[str, str]]] = []
    discarded: ClassVar[list[Mapping[str, Any]]] = []
    answers: ClassVar[deque[BaseException | None]] = deque()

    @classmethod
    def reset(cls) -> None:
        for kept in (cls.prepared, cls.sent, cls.discarded, cls.answers):
            kept.clear()

    def send(self, message: OutboundMessage) -> SendResult:
        self._answer()
        draft = message.progress.state.get("draft")
        if draft is None:
            draft = f"draft-{len(self.prepared)}"
            self.prepared.append(draft)
            message.progress.save({"draft": draft})
        self._answer()
        if all(draft != other for other, _ in self.sent):
            self.sent.append((draft, message.idempotency_key))
        self._answer()
        return SendResult.all_delivered(message.recipients, draft)

    def discard(self, state: Mapping[str, Any]) -> None:
        self.discarded.append(state)

    def _answer(self) -> None:
        answer = self.answers.popleft() if self.answers else None
        if answer is not None:
            raise answer
