"""Acceptance: the only way a message comes in (ACC-1)."""

from __future__ import annotations

from collections.abc import Sequence

from delivery.exceptions import NotAccepted
from delivery.submission import Accepted, Submission


def accept(submissions: Sequence[Submission]) -> list[Accepted | NotAccepted]:
    """Check, store, record and ring for messages that ended at the same moment; one answer each, in order.

    Blocks on disk, database and broker: call it from a thread. Never raises for a single message's sake; an
    unforeseen error is a Deferred for every message it concerns.
    """
    raise NotImplementedError
