"""How often links for forgotten passwords may be asked for, by address and by client (SEC-4).

Counted on the server all processes share, and in this process while that is away, as failed sign-ins are.
"""

from __future__ import annotations

import hashlib
import threading
import time

import structlog

from accounts import shared_state
from accounts.lockout import neighbourhood

log = structlog.get_logger(__name__)

PER_ADDRESS, PER_CLIENT = 3, 20
"""Times in one WINDOW: an address gets no more mail than that, a client asks for no more addresses."""
WINDOW = 3600
"""Seconds."""
MOST_HERE = 10_000

_COUNT = shared_state.Script(
    """
    local over = 0
    for at = 1, 2 do
        local n = redis.call('INCR', KEYS[at])
        if n == 1 then redis.call('EXPIRE', KEYS[at], ARGV[3]) end
        if n > tonumber(ARGV[at]) then over = 1 end
    end
    return over
    """
)
_here: dict[str, tuple[int, float]] = {}  # how often, and until when it counts (monotonic)
_lock = threading.Lock()


def may_ask(email: str, client_ip: str | None) -> bool:
    """Whether this client may ask for a link to this address once more; counts this time."""
    who = hashlib.sha256(email.strip().lower().encode("utf-8", "replace")).hexdigest()[:32]
    keys = [shared_state.key("asking", who), shared_state.key("asking", "client", neighbourhood(client_ip))]
    try:
        return not int(_COUNT(keys, [PER_ADDRESS, PER_CLIENT, WINDOW]))
    except shared_state.Unavailable as error:
        log.warning("links asked for are counted in this process only", error=type(error).__name__)
        return _count_here(keys)


def _count_here(keys: list[str]) -> bool:
    now = time.monotonic()
    with _lock:
        if len(_here) > MOST_HERE:
            _here.clear()
        for key in keys:
            times, until = _here.get(key, (0, 0.0))
            _here[key] = (times + 1, until) if until > now else (1, now + WINDOW)
        return all(_here[key][0] <= most for key, most in zip(keys, (PER_ADDRESS, PER_CLIENT), strict=True))


def forget_here() -> None:
    """Drop what this process has counted by itself; for tests."""
    with _lock:
        _here.clear()
