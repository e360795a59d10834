"""The daily consistency check, a turn of a worker at a time (STO-6).

Nothing is repaired before all has been compared, and nothing unasked where the report is in doubt.
"""

from __future__ import annotations

import json
import uuid
from collections import Counter
from dataclasses import dataclass, field
from typing import cast

import structlog
from django.conf import settings

from accounts import shared_state
from delivery import chores, queues, store
from delivery.consistency import Check, Position
from delivery.exceptions import StoreUnavailable
from delivery.findings import FEW, Report

log = structlog.get_logger(__name__)

NAME = "consistency"
EVERY = 24 * 3600.0
"""Seconds between two checks."""
_KEPT = 24 * 3600
_PLACE = "consistency-place"


@dataclass(slots=True)
class _State:
    """Where a check is. `most` is how many findings it may repair, None while it only looks."""

    position: Position = field(default_factory=Position)
    report: Report = field(default_factory=Report)
    most: int | None = None


def run(turn: chores.Turn) -> None:
    """Go on with the check that was begun, or begin one; see `delivery.chores`."""
    state: _State | None = _load()
    while state is not None:
        left = None if state.most is None else state.most - state.report.repaired.total()
        check = Check(repair=left is not None, most=left or 0, position=state.position)
        try:
            rest = check.run(turn.out_of_time)
        except StoreUnavailable as error:
            log.error("consistency check stopped by the message store", error=str(error))
            _forget()
            return
        _add(state.report, check.report)
        if rest is not None:
            state.position = rest
            _keep(state)
            return
        state = _ended(state)
    _forget()
    store.tidy()


def _ended(state: _State) -> _State | None:
    """What comes after a whole check: another that repairs what this one has found, or nothing."""
    if state.most is None and settings.CONSISTENCY_REPAIR and not state.report.in_order:
        if not state.report.doubtful:
            return _State(most=allowance(state.report))
        log.error("consistency not repaired: too much is wrong", found=dict(state.report.found))
    tell(state.report)
    return None


def allowance(report: Report) -> int:
    """How much may be repaired when so much was found a moment ago: a store that goes away meanwhile is no finding."""
    return report.found.total() + FEW


def tell(report: Report) -> None:
    """One line in the log for a whole check; an error while something is wrong."""
    (log.info if report.in_order else log.error)("consistency", **report.as_json())


def _add(whole: Report, part: Report) -> None:
    whole.keys += part.keys
    whole.found += part.found
    whole.repaired += part.repaired
    for kind, names in part.examples.items():
        whole.examples.setdefault(kind, []).extend(names)


def _load() -> _State:
    """Where the check is; at its beginning where the shared store has forgotten."""
    try:
        kept = cast("bytes | None", shared_state.client().get(shared_state.key(_PLACE)))
    except shared_state.Unavailable:
        kept = None
    if kept is None:
        return _State()
    told = json.loads(kept)
    position = Position(told["window"], uuid.UUID(told["copy"]) if told["copy"] else None)
    report = Report(told["keys"], Counter(told["found"]), Counter(told["repaired"]))
    return _State(position, report, told["most"])


def _keep(state: _State) -> None:
    told = {
        "window": state.position.window,
        "copy": str(state.position.copy) if state.position.copy else None,
        "keys": state.report.keys,
        "found": state.report.found,
        "repaired": state.report.repaired,
        "most": state.most,
    }
    try:
        shared_state.client().set(shared_state.key(_PLACE), json.dumps(told), ex=_KEPT)
    except shared_state.Unavailable as error:
        log.warning("consistency check begins anew", error=str(error))
    chores.again(NAME)


def _forget() -> None:
    try:
        shared_state.client().delete(shared_state.key(_PLACE))
    except shared_state.Unavailable as error:
        log.warning("consistency check not noted", error=str(error))


CHORE = chores.Chore(name=NAME, queue=queues.MAINTENANCE, due=chores.every(EVERY, NAME), run=run)
