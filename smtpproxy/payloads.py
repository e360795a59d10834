"""What the transport and the worker take from a queue at all; the rest is told of and dropped (QUE-8)."""

from __future__ import annotations

from typing import Any

import structlog

log = structlog.get_logger(__name__)

LONGEST = 1024 * 1024
"""Octets of a payload: twenty times what the longest list of ids needs (DELIVERY_BATCH)."""
DEEPEST = 12
"""Levels of lists and objects in one another; a task of ours has four."""


def dropped(queue: str, kind: str, length: int) -> None:
    """Tell, once for each payload, which kind of thing lay in which queue and how many octets long it was.

    Never what is in it: an old format may have held the message itself.
    """
    log.warning("unknown payload dropped", queue=queue, kind=kind, length=length)


def too_deep(value: Any) -> bool:
    """Whether what JSON gave is nested so deep that to write it again could exhaust the stack."""
    level = [value]
    for _ in range(DEEPEST):
        level = [inner for outer in level for inner in _inside(outer)]
        if not level:
            return False
    return True


def _inside(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return list(value) if isinstance(value, list) else []
