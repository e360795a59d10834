"""The counters behind quotas, on the server all processes share: a sliding window, or a figure for a calendar month."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from accounts import shared_state
from accounts.shared_state import Script

MONTH_KEPT = 3600
"""Seconds a month's figure outlives its last use. Then it is counted anew, so that no error in it stays."""


@dataclass(frozen=True, slots=True)
class Counter:
    """A counter with its limit. Of a window, `step` is the length of a bucket in seconds and `steps` are their number;
    both are 0 for a figure without a window, which counts up until somebody deletes it."""

    key: str
    most: int
    step: float = 0
    steps: int = 0


@dataclass(frozen=True, slots=True)
class Group:
    """`wanted` units, each of which needs room in all of `counters` (numbers of a list of counters)."""

    wanted: int
    counters: Sequence[int]


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of groups. By group: how many units were `granted`, and the counter `full` that stopped the others.
    By counter: what is `used` now, the `bucket` that was counted into, and the seconds to `wait` for room."""

    granted: Sequence[int]
    full: Sequence[int | None]
    used: Sequence[int]
    buckets: Sequence[int]
    waits: Sequence[float]


class Missing(Exception):
    """Figures that the server does not have, by number; nothing was counted."""

    def __init__(self, counters: Sequence[int]) -> None:
        super().__init__(counters)
        self.counters = counters


# A bucket counts until the youngest unit in it can be older than the window: never more than the limit in any window,
# a little less while the oldest bucket goes. The server's clock is everybody's.
_TAKE = Script(
    """
    local clock = redis.call('TIME')
    local now = tonumber(clock[1]) + tonumber(clock[2]) / 1000000
    local counters, groups = cjson.decode(ARGV[1]), cjson.decode(ARGV[2])
    local missing = {}
    for i, c in ipairs(counters) do
      c.used, c.added, c.bucket, c.found = 0, 0, 0, {}
      if c.steps > 0 then
        c.bucket = math.floor(now / c.step)
        local all = redis.call('HGETALL', KEYS[i])
        for j = 1, #all, 2 do
          local bucket, units = tonumber(all[j]), tonumber(all[j + 1])
          if bucket < c.bucket - c.steps then
            redis.call('HDEL', KEYS[i], all[j])
          else
            c.used = c.used + units
            table.insert(c.found, {bucket, units})
          end
        end
      else
        local figure = redis.call('GET', KEYS[i])
        if figure then c.used = tonumber(figure) else table.insert(missing, i - 1) end
      end
    end
    if #missing > 0 then return {0, missing} end
    local granted, full = {}, {}
    for g, group in ipairs(groups) do
      granted[g], full[g] = group[1], -1
      for _, n in ipairs(group[2]) do
        local room = math.max(0, counters[n + 1].most - counters[n + 1].used)
        if room < granted[g] then granted[g], full[g] = room, n end
      end
      for _, n in ipairs(group[2]) do
        local c = counters[n + 1]
        c.used, c.added = c.used + granted[g], c.added + granted[g]
      end
    end
    local used, buckets, waits = {}, {}, {}
    for i, c in ipairs(counters) do
      used[i], buckets[i], waits[i] = c.used, c.bucket, 0
      if c.steps > 0 then
        if c.added > 0 then
          redis.call('HINCRBY', KEYS[i], c.bucket, c.added)
          redis.call('PEXPIRE', KEYS[i], math.ceil((c.steps + 2) * c.step * 1000))
        end
        if c.used >= c.most then
          table.insert(c.found, {c.bucket, c.added})
          table.sort(c.found, function(a, b) return a[1] < b[1] end)
          local left = c.used
          for _, entry in ipairs(c.found) do
            left = left - entry[2]
            waits[i] = math.ceil(((entry[1] + c.steps + 1) * c.step - now) * 1000)
            if left < c.most then break end
          end
        end
      elseif c.added > 0 then
        redis.call('INCRBY', KEYS[i], c.added)
        redis.call('EXPIRE', KEYS[i], ARGV[3])
      end
    end
    return {1, granted, full, used, buckets, waits}
    """
)

_GIVE_BACK = Script(
    """
    for i, key in ipairs(KEYS) do
      local bucket, units = ARGV[2 * i - 1], tonumber(ARGV[2 * i])
      if bucket == '0' then
        local figure = tonumber(redis.call('GET', key) or 0)
        if figure > 0 then redis.call('DECRBY', key, math.min(figure, units)) end
      else
        local counted = tonumber(redis.call('HGET', key, bucket) or 0)
        if counted > 0 then redis.call('HINCRBY', key, bucket, -math.min(counted, units)) end
      end
    end
    """
)


def take(counters: Sequence[Counter], groups: Sequence[Group]) -> Taken:
    """Count what there is room for, in one step on the server; raises Missing, or shared_state.Unavailable."""
    told = [{"most": c.most, "step": c.step, "steps": c.steps} for c in counters]
    wanted = [[group.wanted, list(group.counters)] for group in groups]
    # Lua's JSON reader takes an empty list for an empty object, which its loops pass over all the same.
    answer = _TAKE([c.key for c in counters], [json.dumps(told), json.dumps(wanted), MONTH_KEPT])
    if not answer[0]:
        raise Missing(answer[1])
    _, granted, full, used, buckets, waits = answer
    return Taken(granted, [None if n < 0 else n for n in full], used, buckets, [ms / 1000 for ms in waits])


def give_back(units: Sequence[tuple[str, int, int]]) -> None:
    """Take units off counters again: key, bucket (0 for a figure), how many. Raises shared_state.Unavailable."""
    if units:
        _GIVE_BACK([key for key, _, _ in units], [value for _, *pair in units for value in pair])


def seed(key: str, figure: int) -> None:
    """Give the server a figure it does not have; where it has got one meanwhile, that stays."""
    shared_state.client().set(key, figure, nx=True, ex=MONTH_KEPT)


def forget(keys: Sequence[str]) -> None:
    """Have figures counted anew."""
    if keys:
        shared_state.client().delete(*keys)
