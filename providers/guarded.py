"""HTTP to addresses that tenants choose: nowhere but into the Internet (EVT-3).

A name is looked up once, and the connection is made to the very address that was looked at: a name that leads
elsewhere a moment later leads nobody astray. Redirects are left to the caller, who must not follow them blindly.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from ipaddress import ip_address
from typing import Any

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import ConnectTimeoutError, NewConnectionError

from providers import destinations

DEFAULT_CONNECT_TIMEOUT = 5.0


class PrivateAddress(NewConnectionError):
    """The name leads to addresses of private networks only; nothing was connected."""


class Cut:
    """Ends a request of another thread, whatever it is waiting for."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._called = False

    def __call__(self) -> None:
        """The request fails now, or as soon as it is connected."""
        with self._lock:
            self._called = True
            self._end()

    def watch(self, connected: socket.socket | None) -> None:
        with self._lock:
            self._socket = connected
            if self._called:
                self._end()

    def _end(self) -> None:
        if self._socket is not None:
            with contextlib.suppress(OSError):  # it has ended
                # The plain socket's own: that of TLS would take its state apart while the other thread uses it.
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)


_of_this_thread = threading.local()


def cut_by(cut: Cut) -> None:
    """Let `cut` end the requests that this thread makes from now on."""
    _of_this_thread.cut = cut


class _Guarded:
    """Connects to public addresses only; `private` lets all others pass."""

    private = False

    def _new_conn(self) -> socket.socket:
        host, port = self._dns_host, self.port  # type: ignore[attr-defined]
        timeout = self.timeout if isinstance(self.timeout, int | float) else DEFAULT_CONNECT_TIMEOUT  # type: ignore[attr-defined]
        until = time.monotonic() + timeout
        try:
            found = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise NewConnectionError(self, "The name is not known.") from error  # type: ignore[arg-type]
        allowed = [one for one in found if self.private or destinations.is_public(ip_address(one[4][0]))]
        if not allowed:
            raise PrivateAddress(self, "The name leads to a private network.")  # type: ignore[arg-type]
        failed: OSError | None = None
        for left, one in zip(range(len(allowed), 0, -1), allowed, strict=True):
            try:
                sock = self._connected(*one, seconds=max(0.05, (until - time.monotonic()) / left))
            except OSError as error:
                failed = error
            else:
                sock.settimeout(timeout)
                return sock
        if isinstance(failed, TimeoutError):
            raise ConnectTimeoutError(self, "Connecting timed out.") from failed
        raise NewConnectionError(self, "Nobody answers there.") from failed  # type: ignore[arg-type]

    def _connected(
        self, family: int, kind: int, protocol: int, _name: str, address: Any, *, seconds: float
    ) -> socket.socket:
        sock = socket.socket(family, kind, protocol)
        try:
            for option in self.socket_options or ():  # type: ignore[attr-defined]
                sock.setsockopt(*option)
            sock.settimeout(seconds)
            sock.connect(address)
        except OSError:
            sock.close()
            raise
        return sock

    def request(self, *args: Any, **kwargs: Any) -> None:
        cut: Cut | None = getattr(_of_this_thread, "cut", None)
        if cut is not None and self.sock is not None:  # type: ignore[attr-defined]
            cut.watch(self.sock)  # type: ignore[attr-defined]
        super().request(*args, **kwargs)  # type: ignore[misc]

    def connect(self) -> None:
        super().connect()  # type: ignore[misc]
        cut: Cut | None = getattr(_of_this_thread, "cut", None)
        if cut is not None:
            cut.watch(self.sock)  # type: ignore[attr-defined]


def _pools(private: bool) -> dict[str, Any]:
    plain = type("Plain", (_Guarded, HTTPConnection), {"private": private})
    secure = type("Secure", (_Guarded, HTTPSConnection), {"private": private})
    return {
        "http": type("PlainPool", (HTTPConnectionPool,), {"ConnectionCls": plain}),
        "https": type("SecurePool", (HTTPSConnectionPool,), {"ConnectionCls": secure}),
    }


_CLASSES = {private: _pools(private) for private in (False, True)}


def pools(*, private: bool, kept: int = 4) -> urllib3.PoolManager:
    """Connections to public addresses only, or to `private` ones too; up to `kept` to each host are used again.

    Requests raise urllib3's HTTPError; PrivateAddress is one.
    """
    manager = urllib3.PoolManager(num_pools=100, maxsize=kept)
    manager.pool_classes_by_scheme = _CLASSES[private]
    return manager
