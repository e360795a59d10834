"""`manage.py queues`: what waits in each queue, and who looks at it (QUE-7)."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand

from delivery import queue_states
from delivery.queue_states import QueueState

HEADS = ("queue", "rings", "workers", "due", "oldest", "under way", "at most", "")


class Command(BaseCommand):
    help = "Show for each queue: rings in the broker, workers, due messages and their age in seconds, limits."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true", help="one JSON object, messages by status")

    def handle(self, **options: Any) -> None:
        states = queue_states.states()
        if options["json"]:
            self.stdout.write(json.dumps({state.name: _object(state) for state in states}))
            return
        lines = [HEADS, *(_line(state) for state in states)]
        widths = [max(len(line[column]) for line in lines) for column in range(len(HEADS))]
        for name, *numbers, note in lines:
            cells = [number.rjust(width) for number, width in zip(numbers, widths[1:], strict=False)]
            self.stdout.write("  ".join([name.ljust(widths[0]), *cells, note]).rstrip())


def _object(state: QueueState) -> dict[str, Any]:
    return {
        "rings": state.rings,
        "workers": state.workers,
        "paused": state.cap.paused,
        "most_at_once": state.cap.most,
        "under_way": state.under_way,
        "messages": dict(state.waiting.by_status),
        "oldest_seconds": round(state.waiting.oldest, 1),
    }


def _line(state: QueueState) -> tuple[str, ...]:
    shown = (state.rings, state.workers, state.due, round(state.waiting.oldest), state.under_way)
    numbers = ["?" if number is None else f"{number:,}" for number in shown]
    return (
        state.name,
        *numbers,
        f"{state.cap.most:,}" if state.cap.most else "-",
        "paused" if state.cap.paused else "",
    )
