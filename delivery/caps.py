"""What operators have set for queues while everything runs: paused, and how many messages at once (QUE-5).

Counts are kept in the shared store, each with a lease, so that the places of a killed worker come back by themselves.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import structlog
from django.conf import settings

from accounts import shared_state
from delivery.models import QueueSetting
from providers.limits import leases

log = structlog.get_logger(__name__)

KEEP = 1.0
"""Seconds for which what operators have set is remembered."""


@dataclass(frozen=True, slots=True)
class Cap:
    """`most` messages under way at once, over all workers; None: as many as there are."""

    paused: bool = False
    most: int | None = None


@dataclass(frozen=True, slots=True)
class Place:
    """That one message may be under way, in each of `names`."""

    names: tuple[str, ...]
    lease: str

    @property
    def keys(self) -> list[str]:
        return [_key(name) for name in self.names]


_known: tuple[float, dict[str, Cap]] = (float("-inf"), {})


def restricted() -> dict[str, Cap]:
    """The queues that are paused or have a cap, at most KEEP seconds old. Asks the database: not within a transaction
    that ought to be short."""
    global _known  # noqa: PLW0603
    looked_at, caps = _known
    if time.monotonic() - looked_at >= KEEP:
        caps = {name: Cap(most=most) for name, most in settings.QUEUE_MOST_AT_ONCE.items()}
        for name, paused, most in QueueSetting.objects.values_list("name", "paused", "most_at_once"):
            default = settings.QUEUE_MOST_AT_ONCE.get(name)
            caps[name] = Cap(paused, default if most is None else most or None)
        caps = {name: cap for name, cap in caps.items() if cap != Cap()}
        _known = (time.monotonic(), caps)
    return caps


def paused(name: str) -> bool:
    """Whether nothing is to be taken from this queue now."""
    return restricted().get(name, Cap()).paused


def forget() -> None:
    """Read anew what operators have set."""
    global _known  # noqa: PLW0603
    _known = (float("-inf"), {})


_TAKE = shared_state.Script(
    """
-- KEYS: places of each queue. ARGV: seconds, most of each queue..., then a lease for each place wanted.
local t = redis.call('TIME')
local now = tonumber(t[1]) + tonumber(t[2]) / 1000000
local free = #ARGV - 1 - #KEYS
for i, key in ipairs(KEYS) do
  redis.call('ZREMRANGEBYSCORE', key, '-inf', now)
  free = math.min(free, tonumber(ARGV[1 + i]) - redis.call('ZCARD', key))
end
free = math.max(free, 0)
for n = 1, free do
  for _, key in ipairs(KEYS) do redis.call('ZADD', key, now + ARGV[1], ARGV[1 + #KEYS + n]) end
end
if free > 0 then
  for _, key in ipairs(KEYS) do redis.call('EXPIRE', key, 2 * ARGV[1]) end
end
return free
"""
)


def take(caps: dict[str, int], wanted: int) -> list[Place]:
    """At most `wanted` places, each in all of these queues, of which so many may be taken altogether.

    None while the shared store is away: what cannot be counted waits. Never raises.
    """
    names = tuple(caps)
    asked = [Place(names, uuid.uuid4().hex) for _ in range(wanted)]
    arguments = [leases.SECONDS, *caps.values(), *(place.lease for place in asked)]
    try:
        got = asked[: int(_TAKE([_key(name) for name in names], arguments))]
    except shared_state.Unavailable as error:
        log.warning("messages under way cannot be counted", queues=names, error=str(error))
        return []
    for place in got:
        leases.hold(place.lease, place.keys)
    return got


def give_back(places: Iterable[Place]) -> None:
    """Their messages are no longer under way. Never raises."""
    for place in places:
        leases.release("", place.lease, place.keys, None)


def under_way(names: Sequence[str]) -> dict[str, int]:
    """How many messages have a place in each of these queues; only those with a cap are counted. Raises
    shared_state.Unavailable."""
    pipe = shared_state.client().pipeline(transaction=False)
    pipe.time()
    for name in names:
        pipe.zrange(_key(name), 0, -1, withscores=True)
    (seconds, _), *found = pipe.execute()
    return {name: sum(until > seconds for _, until in held) for name, held in zip(names, found, strict=True)}


def _key(name: str) -> str:
    return shared_state.key("queue", name, "places")
