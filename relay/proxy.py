"""The PROXY protocol, versions 1 and 2, read off the bare socket before anything else, TLS included (SMTP-12).

https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt
"""

from __future__ import annotations

import asyncio
import logging
import socket

from aiosmtpd.proxy_protocol import AF, V2_CMD, ProxyData, get_proxy

TIMEOUT = 10.0  # seconds
MAX_V1_HEADER = 107  # octets, with CR LF

logging.getLogger("mail.debug").setLevel(logging.CRITICAL)  # aiosmtpd's words on bad headers; the listener has its own


class BadProxyHeader(Exception):
    """The header is missing, malformed or did not come in time."""


async def client_address(connection: socket.socket) -> str | None:
    """The address of the client behind the proxy; None when the proxy speaks for itself or cannot tell.

    Not one octet beyond the header is taken from the socket. Raises BadProxyHeader.
    """
    try:
        async with asyncio.timeout(TIMEOUT):
            header = await get_proxy(_SocketReader(connection))
    except (TimeoutError, OSError, EOFError) as error:
        raise BadProxyHeader(type(error).__name__) from error
    if not header.valid:
        raise BadProxyHeader(header.error or "malformed")
    return _source(header)


def _source(header: ProxyData) -> str | None:
    if header.command == V2_CMD.LOCAL and header.version == 2:
        return None
    if header.family in (AF.INET, AF.INET6) and header.src_addr is not None:
        return str(header.src_addr)
    return None


class _SocketReader:
    """aiosmtpd's AsyncReader over a socket that nothing else reads yet."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection

    async def read(self, n: int = -1) -> bytes:
        data = await asyncio.get_running_loop().sock_recv(self._connection, n)
        if not data:
            raise EOFError
        return data

    async def readexactly(self, n: int) -> bytes:
        data = b""
        while len(data) < n:
            data += await self.read(n - len(data))
        return data

    async def readuntil(self, separator: bytes = b"\n") -> bytes:
        """Octet by octet, since what follows belongs to TLS or to SMTP."""
        data = b""
        while not data.endswith(separator):
            data += await self.read(1)
            if len(data) > MAX_V1_HEADER:
                raise EOFError
        return data
