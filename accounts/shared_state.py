"""What all processes know together and may forget: counters, rates, health. On the Redis-compatible server (QUE-1).

Nothing here is the truth of anything: after the server has lost its memory every caller must find its way again.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from typing import Any, cast

import redis
from django.conf import settings
from redis.backoff import NoBackoff
from redis.retry import Retry

PREFIX = "smtpproxy:"
"""Before every key, so that a server may serve others besides."""

Unavailable = redis.RedisError
"""The server did not answer, or refused; what that means is for the caller to say."""

_lock = threading.Lock()
_clients: dict[tuple[int, str], redis.Redis] = {}


def client() -> redis.Redis:
    """This process's client; its pool gives each thread a connection. Answers are `bytes`.

    A call waits two seconds for the server at most and is not repeated.
    """
    known = (os.getpid(), settings.SHARED_STATE_URL)  # a forked worker must not share its parent's sockets
    found = _clients.get(known)
    if found is None:
        with _lock:
            found = _clients.get(known)
            if found is None:
                found = _clients[known] = redis.Redis.from_url(
                    settings.SHARED_STATE_URL,
                    socket_timeout=2,
                    socket_connect_timeout=2,
                    retry=Retry(NoBackoff(), 0),
                    health_check_interval=30,  # no TCP keep-alive: the embedded server's unix socket has none
                )
    return found


def key(*parts: object) -> str:
    """The name under which something is kept: `key("limit", provider.pk)`."""
    return PREFIX + ":".join(str(part) for part in parts)


class Script:
    """A Lua script, which the server runs as one step."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._script: Any = None

    def __call__(self, keys: Sequence[str], args: Sequence[object] = ()) -> Any:
        """Run it; raises Unavailable."""
        if self._script is None:
            self._script = client().register_script(self._source)
        return self._script(keys=list(keys), args=list(args), client=client())


def in_use() -> bool:
    """Whether this process has asked the server for anything."""
    return (os.getpid(), settings.SHARED_STATE_URL) in _clients


def forget_everything() -> None:
    """Delete every key of ours; for tests and for starting afresh."""
    server = client()
    keys = cast("list[bytes]", server.keys(PREFIX + "*"))
    if keys:
        server.delete(*keys)
