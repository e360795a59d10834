"""What is to be done besides sending: each chore is looked for by the sweep and done by a worker (DEL-3, EVT-4, STO-5).

As with messages, the database says what is due and a ring only says "look now". One worker does a chore at a time; that
two do is possible all the same (the shared store may forget), so every chore must bear it.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass

import structlog
from django.db import DatabaseError

from accounts import shared_state
from delivery import caps, queue

log = structlog.get_logger(__name__)

MOST_SECONDS = 20.0
"""A chore stops after this long and is rung for again, so that others in its queue come to their turn."""
RUNG = 60
"""Seconds after which a ring that nobody has answered, or a worker that is not heard of any more, counts as lost."""
_REMEMBERED = 10.0
"""Seconds between two rings of one process while the shared store is away."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chore:
    """`due` says whether there is anything to do, by one look at an index. `run` does what is due until
    `out_of_time()` of its Turn; it commits as it goes, and leaves nothing half done when it is killed."""

    name: str
    queue: str
    due: Callable[[], bool]
    run: Callable[[Turn], None]


class Turn:
    """A worker's time for a chore."""

    def __init__(self) -> None:
        self._end = time.monotonic() + MOST_SECONDS

    def out_of_time(self) -> bool:
        """Whether to stop; what is left is rung for again."""
        return time.monotonic() >= self._end


CHORES: dict[str, Chore] = {}
"""By name; see `register`."""

_rung_at: dict[str, float] = {}


def register(chore: Chore) -> None:
    """Have the sweep look for it; once for each name, when Django starts."""
    if CHORES.setdefault(chore.name, chore) is not chore:
        raise ValueError(f"There is a chore {chore.name!r} already.")


def every(seconds: float, name: str) -> Callable[[], bool]:
    """A `due` for what is to be done from time to time: `seconds` after it was last begun, whoever did it.

    The note of that lies in the shared store; when it is lost the chore is done once more.
    """

    def due() -> bool:
        try:
            return bool(
                shared_state.client().set(shared_state.key("chore-begun", name), 1, nx=True, px=int(seconds * 1000))
            )
        except shared_state.Unavailable:
            return False

    return due


def again(name: str) -> None:
    """Have what is due by `every` begun at once: it had no time to come to its end."""
    try:
        shared_state.client().delete(shared_state.key("chore-begun", name))
    except shared_state.Unavailable as error:
        log.warning("chore goes on at its next time", chore=name, error=str(error))


def ring_due() -> int:
    """Ring for every chore that has something to do and is in nobody's hands; returns how many."""
    return sum([_ring(chore) for chore in CHORES.values() if not caps.paused(chore.queue)])


def _ring(chore: Chore) -> bool:
    """Whether it was rung for. Never raises: that it cannot be told what one has to do holds up no other."""
    holder = uuid.uuid4().hex
    try:
        if _in_hand(chore.name) or not chore.due() or not _take(chore.name, holder):
            return False
        queue.ring_chore(chore.name, holder, chore.queue)
    except queue.RingFailed as error:
        _let_go(chore.name, holder)
        again(chore.name)
        log.error("chore not rung for", chore=chore.name, error=str(error))
        return False
    except DatabaseError as error:
        log.error(
            "it cannot be told whether a chore is due", chore=chore.name, error=f"{type(error).__name__}: {error}"
        )
        return False
    except Exception:
        log.exception("it cannot be told whether a chore is due", chore=chore.name)
        return False
    return True


def do(name: str, holder: str) -> None:
    """Do one chore, as rung for; an unknown name is logged and dropped (QUE-8)."""
    chore = CHORES.get(name)
    if chore is None:
        log.warning("unknown chore dropped", chore=name[:64])
        return
    try:
        if not caps.paused(chore.queue):
            chore.run(Turn())
    finally:
        _let_go(name, holder)


def _key(name: str) -> str:
    return shared_state.key("chore", name)


def _in_hand(name: str) -> bool:
    try:
        return bool(shared_state.client().exists(_key(name)))
    except shared_state.Unavailable:
        return time.monotonic() - _rung_at.get(name, float("-inf")) < _REMEMBERED


def _take(name: str, holder: str) -> bool:
    _rung_at[name] = time.monotonic()
    try:
        return bool(shared_state.client().set(_key(name), holder, nx=True, ex=RUNG))
    except shared_state.Unavailable:
        return True  # better twice than not at all


_RELEASE = shared_state.Script("if redis.call('get', KEYS[1]) == ARGV[1] then redis.call('del', KEYS[1]) end")


def _let_go(name: str, holder: str) -> None:
    try:
        _RELEASE([_key(name)], [holder])
    except shared_state.Unavailable as error:
        log.warning("chore still counts as in hand", chore=name, error=str(error))
