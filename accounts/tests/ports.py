"""Ports for servers that tests start."""

import contextlib
import random
import socket


def free_port() -> int:
    """A loopback port nobody listens on, and below those the system gives to outgoing connections, so that none of
    these takes it before the server does."""
    while True:
        port = random.SystemRandom().randint(15_000, 30_000)
        with socket.socket() as listener, contextlib.suppress(OSError):
            listener.bind(("127.0.0.1", port))
            return port
