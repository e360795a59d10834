"""Guessing made slow: after five failures each further try waits longer, at every door alike (SEC-4).

Counted are failures of an address with one account, and of an address with any. The counters are on the server all
processes share, and in this process while that is away. A try is charged before its password is looked at, so that a
hundred tries at once do not all come first; what succeeds takes its charge back.
"""

from __future__ import annotations

import hashlib
import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_network
from typing import Any, cast

import structlog

from accounts import networks, shared_state
from accounts.shared_state import Script

log = structlog.get_logger(__name__)

FREE = 5
"""Failures of an address with one account before the next try waits."""
FREE_OF_ADDRESS = 30
"""Failures of an address whatever the account: many people may share one."""
FIRST_WAIT, LONGEST_WAIT = 15, 3600
"""Seconds: each failure doubles the wait."""
REMEMBERED = 6 * 3600
"""Seconds after the last failure until it is forgotten."""
MOST_HERE = 10_000


class LockedOut(Exception):
    """Too many failures; `wait` is in seconds."""

    def __init__(self, wait: int) -> None:
        super().__init__(wait)
        self.wait = wait


@dataclass(frozen=True, slots=True)
class Lock:
    """An address that has to wait before it may try this account again, for `wait` seconds."""

    address: str
    wait: int


def wait_after(failures: int, free: int = FREE) -> int:
    """Seconds to wait after so many failures: 0, then 15, 30, 60 … up to an hour."""
    return 0 if failures < free else min(FIRST_WAIT * 2 ** min(failures - free, 20), LONGEST_WAIT)


@dataclass(frozen=True, slots=True)
class Attempt:
    """A try that is under way, charged already. Who calls `charge` ends it with `forgive` or `succeeded`, or leaves it
    a failure; `locks` says that one more failure now has to wait."""

    account: str
    address: str
    failures: int

    @property
    def locks(self) -> int:
        """Seconds that have to be waited after this try, if it fails."""
        return wait_after(self.failures)


def charge(account: str, client_ip: str | None) -> Attempt:
    """Begin a try at `account` (an e-mail address, whether anybody has it or not). Raises LockedOut."""
    who, where = _account(account), neighbourhood(client_ip)
    pair, alone = _keys(who, where)
    wait, failures = _run(
        lambda: _CHARGE(
            [pair, alone, _places(who)], [FREE, FREE_OF_ADDRESS, FIRST_WAIT, LONGEST_WAIT, REMEMBERED, where]
        ),
        lambda: _here.charge(pair, alone),
    )
    if wait:
        raise LockedOut(wait)
    return Attempt(who, where, failures)


def forgive(attempt: Attempt) -> None:
    """Take back one charge: it was right so far, and says nothing of the failures before it."""
    pair, alone = _keys(attempt.account, attempt.address)
    _run(lambda: _FORGIVE([pair, alone], [FREE, FREE_OF_ADDRESS]), lambda: _here.forgive(pair, alone))


def succeeded(attempt: Attempt) -> None:
    """Forget all failures of this address with this account, not those with others: who guesses may have one too."""
    pair, _ = _keys(attempt.account, attempt.address)
    forgive(attempt)
    _run(lambda: _forget_pair(attempt, pair), lambda: _here.forget([pair]))


def _forget_pair(attempt: Attempt, pair: str) -> tuple[int, int]:
    shared_state.client().delete(pair)
    shared_state.client().srem(_places(attempt.account), attempt.address)
    return 0, 0


def locks(account: str) -> list[Lock]:
    """The addresses that have to wait before they may try this account again."""
    who = _account(account)
    try:
        places = _places_of(who)
        found = [
            (place, float(cast(Any, shared_state.client().hget(_keys(who, place)[0], "until")) or 0))
            for place in places
        ]
    except shared_state.Unavailable:
        return []
    now = time.time()
    return sorted(
        (Lock(place, math.ceil(until - now)) for place, until in found if until > now), key=lambda lock: lock.address
    )


def unlock(account: str) -> None:
    """Let everybody try this account again at once. Raises `shared_state.Unavailable`."""
    who = _account(account)
    server = shared_state.client()
    places = _places_of(who)
    server.delete(_places(who), *(_keys(who, place)[0] for place in places))
    _here.clear()


def _places_of(account: str) -> list[str]:
    return [place.decode() for place in cast("set[bytes]", shared_state.client().smembers(_places(account)))]


def neighbourhood(client_ip: str | None) -> str:
    """What counts as one client: an IPv4 address, or the /64 an IPv6 address is in (a subscriber has all of it)."""
    address = networks.address(client_ip)
    if isinstance(address, IPv6Address):
        return str(ip_network(f"{address}/64", strict=False))
    return str(address or "nowhere")


def _account(text: str) -> str:
    return hashlib.sha256(text.strip().lower().encode("utf-8", "replace")).hexdigest()[:32]


def _keys(account: str, address: str) -> tuple[str, str]:
    return shared_state.key("lockout", account, address), shared_state.key("lockout", "address", address)


def _places(account: str) -> str:
    return shared_state.key("lockout", "places", account)


_CHARGE = Script(
    """
    local clock = redis.call('TIME')
    local now = tonumber(clock[1]) + tonumber(clock[2]) / 1000000
    local first, longest, kept = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
    local longest_left = 0
    for at = 1, 2 do
        local left = tonumber(redis.call('HGET', KEYS[at], 'until') or '0') - now
        if left > longest_left then longest_left = left end
    end
    if longest_left > 0 then return {math.ceil(longest_left), 0} end
    local failures = 0
    for at = 1, 2 do
        local free = tonumber(ARGV[at])
        local n = redis.call('HINCRBY', KEYS[at], 'failures', 1)
        if n >= free then
            local wait = math.min(first * 2 ^ math.min(n - free, 20), longest)
            redis.call('HSET', KEYS[at], 'until', string.format('%.3f', now + wait))
            if at == 1 then
                redis.call('SADD', KEYS[3], ARGV[6])
                redis.call('EXPIRE', KEYS[3], kept)
            end
        end
        redis.call('EXPIRE', KEYS[at], kept)
        if at == 1 then failures = n end
    end
    return {0, failures}
    """
)

_FORGIVE = Script(
    """
    for at = 1, 2 do
        if redis.call('EXISTS', KEYS[at]) == 1 then
            local n = redis.call('HINCRBY', KEYS[at], 'failures', -1)
            if n <= 0 then redis.call('DEL', KEYS[at])
            else redis.call('HDEL', KEYS[at], 'until') end
        end
    end
    return {0, 0}
    """
)


class _Here:
    """The same counters in this process: what holds while the shared server is away."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._failures: dict[str, tuple[int, float]] = {}  # how many, and until when to wait (monotonic)

    def charge(self, pair: str, alone: str) -> tuple[int, int]:
        now = time.monotonic()
        with self._lock:
            left = max(self._failures.get(key, (0, 0.0))[1] - now for key in (pair, alone))
            if left > 0:
                return math.ceil(left), 0
            if len(self._failures) > MOST_HERE:
                self._failures.clear()
            for key, free in ((pair, FREE), (alone, FREE_OF_ADDRESS)):
                failures = self._failures.get(key, (0, 0.0))[0] + 1
                self._failures[key] = (failures, now + wait_after(failures, free))
            return 0, self._failures[pair][0]

    def forgive(self, pair: str, alone: str) -> tuple[int, int]:
        with self._lock:
            for key in (pair, alone):
                failures = self._failures.get(key, (0, 0.0))[0] - 1
                if failures > 0:
                    self._failures[key] = (failures, 0.0)
                else:
                    self._failures.pop(key, None)
        return 0, 0

    def forget(self, keys: list[str]) -> tuple[int, int]:
        with self._lock:
            for key in keys:
                self._failures.pop(key, None)
        return 0, 0

    def clear(self) -> None:
        with self._lock:
            self._failures.clear()


_here = _Here()


def _run(shared: Callable[[], Any], here: Callable[[], tuple[int, int]]) -> tuple[int, int]:
    try:
        wait, failures = shared()
    except shared_state.Unavailable as error:
        log.warning("failed sign-ins are counted in this process only", error=type(error).__name__)
        return here()
    return int(wait), int(failures)


def forget_here() -> None:
    """Drop what this process has counted by itself; for tests."""
    _here.clear()
