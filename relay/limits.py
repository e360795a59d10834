"""How many connections, and how many failed logins (SMTP-4, SMTP-11).

Counted in memory by each listener process for itself: with N processes on one port the kernel spreads the clients, so
an address may reach up to N times the limit.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable
from ipaddress import IPv6Address, ip_address

from relay.config import Config, within

Clock = Callable[[], float]
_MAX_KEYS = 20_000
_MAX_KNOWN = 10_000


def host_key(address: str) -> str:
    """What counts as one client: an IPv4 address, or the /64 an IPv6 address is in (a subscriber has all of it)."""
    parsed = ip_address(address)
    if isinstance(parsed, IPv6Address):
        return parsed.exploded[:19]
    return address


class ConnectionLimits:
    """Admits connections and counts them until they are released."""

    def __init__(self, config: Callable[[], Config], clock: Clock = time.monotonic) -> None:
        self._config = config
        self._clock = clock
        self._open: Counter[str] = Counter()
        self._minute = 0
        self._new: Counter[str] = Counter()
        self.total = 0

    def full(self) -> bool:
        """Whether the limit over all addresses is reached."""
        return self.total >= self._config().max_connections

    def admit(self, address: str) -> str | None:
        """Count one more connection of `address`; or say which limit forbids it, by the name of the setting."""
        config = self._config()
        key = host_key(address)
        if self.full():
            return "max_connections"
        if not within(address, config.limit_exempt_networks):
            minute = int(self._clock() // 60)
            if minute != self._minute:
                self._minute = minute
                self._new.clear()
            self._new[key] += 1
            if self._new[key] > config.max_new_connections_per_minute:
                return "max_new_connections_per_minute"
            if self._open[key] >= config.max_connections_per_address:
                return "max_connections_per_address"
        self._open[key] += 1
        self.total += 1
        return None

    def release(self, address: str) -> None:
        """An admitted connection of `address` has ended."""
        key = host_key(address)
        self._open[key] -= 1
        if not self._open[key]:
            del self._open[key]
        self.total -= 1


class AuthFailures:
    """Failed logins per address and per username within a sliding window.

    Somebody who guesses passwords from far away must not lock out the application itself: an address that has signed
    in with a username before is not refused for other addresses' failures.
    """

    def __init__(self, config: Callable[[], Config], clock: Clock = time.monotonic) -> None:
        self._config = config
        self._clock = clock
        self._times: dict[tuple[str, ...], deque[float]] = {}
        self._known: dict[tuple[str, str], None] = {}

    def address_blocked(self, address: str) -> bool:
        return self._count(("address", host_key(address))) >= self._config().max_auth_failures

    def username_blocked(self, username: str, address: str) -> bool:
        return self._count(self._username_key(username, address)) >= self._config().max_auth_failures

    def failed(self, username: str, address: str) -> None:
        """Count one failed login. Addresses without limits (load balancers, own networks) are not counted."""
        self._add(self._username_key(username, address))
        if not within(address, self._config().limit_exempt_networks):
            self._add(("address", host_key(address)))

    def succeeded(self, username: str, address: str) -> None:
        self._known[username.lower(), host_key(address)] = None
        if len(self._known) > _MAX_KNOWN:
            del self._known[next(iter(self._known))]

    def _username_key(self, username: str, address: str) -> tuple[str, ...]:
        name, host = username.lower(), host_key(address)
        return ("username and address", name, host) if (name, host) in self._known else ("username", name)

    def _add(self, key: tuple[str, ...]) -> None:
        self._times.setdefault(key, deque(maxlen=1000)).append(self._clock())
        if len(self._times) > _MAX_KEYS:
            self._forget_some()

    def _count(self, key: tuple[str, ...]) -> int:
        times = self._times.get(key)
        if times is None:
            return 0
        horizon = self._clock() - self._config().auth_failure_window
        while times and times[0] < horizon:
            times.popleft()
        if not times:
            del self._times[key]
        return len(times)

    def _forget_some(self) -> None:
        for key in list(self._times):
            self._count(key)
        while len(self._times) > _MAX_KEYS // 2:
            del self._times[next(iter(self._times))]
