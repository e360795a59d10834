"""One listener process: accepts connections, reloads, drains."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import socket
import ssl
from collections.abc import Mapping, Sequence
from typing import Any

import structlog

from delivery.refusals import Recorder, Refusal
from relay import certificates, proxy, replies
from relay.batching import SILENT_AFTER, Batcher
from relay.config import Config, within
from relay.handler import Domain, Handler
from relay.limits import AuthFailures, ConnectionLimits
from relay.protocol import SMTPProtocol
from relay.site import Site
from relay.sockets import Door, peer_address
from relay.threads import Threads, with_fresh_connection

log = structlog.get_logger(__name__)

FIXED_WHILE_RUNNING = ("hosts", "port", "tls_port", "processes", "tls_mode")
AUTH_TIMEOUT = 30.0  # seconds


class Listener:
    """Serves the connections of `doors`, which it closes in the end."""

    def __init__(
        self,
        config: Config,
        doors: Sequence[Door],
        *,
        database_threads: int,
        accept_timeout: float,
        silent_after: float = SILENT_AFTER,
        domain: Domain | None = None,
    ) -> None:
        threads = Threads(database_threads, AUTH_TIMEOUT)
        known = domain or Domain()
        batcher = Batcher(
            lambda submissions: with_fresh_connection(known.accept, submissions),
            threads.accept,
            slots=threads.accept_slots,
            timeout=accept_timeout,
            silent_after=silent_after,
            withdraw=lambda message_id: with_fresh_connection(known.withdraw, message_id),
        )
        self.limits = ConnectionLimits(lambda: self.site.config)
        self.site = Site(
            config,
            certificates.context(config),
            Handler(known, threads, batcher),
            threads,
            AuthFailures(lambda: self.site.config),
            Recorder(known.keep_refusals),
        )
        self._doors = doors
        self._accepting: list[asyncio.Task[None]] = []
        self._connections: dict[asyncio.Task[None], SMTPProtocol | None] = {}

    def start(self) -> None:
        """Begin to accept connections, in the running event loop."""
        loop = asyncio.get_running_loop()
        for door in self._doors:
            door.socket.setblocking(False)
            self._accepting.append(loop.create_task(self._accept_connections(door)))
            log.info("listening", address=door.socket.getsockname()[:2], implicit_tls=door.implicit_tls)

    def reload(self, values: Mapping[str, Any]) -> None:
        """Take new settings (SMTP-15); connections go on, under the new limits. Blocks for a moment on files.

        Raises ImproperlyConfigured, and nothing has changed.
        """
        new, old = Config.from_settings(values), self.site.config
        kept = {name: getattr(old, name) for name in FIXED_WHILE_RUNNING}
        if any(getattr(new, name) != value for name, value in kept.items()):
            log.warning("a changed address, port, TLS mode or number of processes needs a restart")
        new = dataclasses.replace(new, **kept)
        self.site.tls = certificates.context(new)
        self.site.config = new
        logging.getLogger().setLevel(new.log_level)
        log.info("settings reloaded")

    async def drain(self) -> bool:
        """Stop accepting, let messages that are on their way arrive, and close; whether all could finish in time."""
        await self._close_doors()
        for task, talk in list(self._connections.items()):
            if talk is None:
                task.cancel()  # still in its TLS handshake or PROXY header
            else:
                talk.stop()
        try:
            async with asyncio.timeout(self.site.config.drain_timeout):
                while self._connections:
                    await asyncio.wait(self._connections)
                await self.site.handler.drained()
        except TimeoutError:
            log.warning("connections cut off at shutdown", connections=len(self._connections))
            await self.abort()
            return False
        return True

    async def abort(self) -> None:
        """Close everything at once; messages that are being accepted may still be."""
        await self._close_doors()
        tasks = list(self._connections)
        for task, talk in list(self._connections.items()):
            if talk is not None:
                talk.abort()
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=1)

    def close(self) -> bool:
        """End the threads; False when some are stuck and the process has to be ended without them."""
        self.site.refusals.close()
        return self.site.threads.close()

    async def _close_doors(self) -> None:
        for task in self._accepting:
            task.cancel()
        if self._accepting:
            await asyncio.wait(self._accepting)
        self._accepting.clear()
        for door in self._doors:
            _turn_away_the_waiting(door)
            door.socket.close()

    async def _accept_connections(self, door: Door) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, peer = await loop.sock_accept(door.socket)
            except OSError as error:  # out of descriptors or memory, or a client that has gone already
                log.error("connection not accepted", error=error.strerror)
                await asyncio.sleep(0.1)
                continue
            task = loop.create_task(self._serve(connection, peer_address(peer), door.implicit_tls))
            self._connections[task] = None
            task.add_done_callback(self._connections.pop)

    async def _serve(self, connection: socket.socket, address: str, implicit_tls: bool) -> None:
        with connection:
            if within(address, self.site.config.proxy_protocol_networks):
                try:
                    address = await proxy.client_address(connection) or address
                except proxy.BadProxyHeader as error:
                    log.warning("PROXY header refused", proxy_ip=address, reason=str(error))
                    return
            reason = self.limits.admit(address)
            if reason is not None:
                _turn_away(connection, address, reason, implicit_tls)
                reply = replies.told(_REFUSALS[reason])
                self.site.refusals.note(Refusal(source="smtp", reason=reason, reply=reply, client_ip=address))
                return
            try:
                await self._converse(connection, address, self.site.tls if implicit_tls else None)
            finally:
                self.limits.release(address)

    async def _converse(self, connection: socket.socket, address: str, tls: ssl.SSLContext | None) -> None:
        loop = asyncio.get_running_loop()
        talk = SMTPProtocol(self.site, address, loop=loop)
        timeout = self.site.config.idle_timeout_before_auth if tls else None
        try:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            await loop.connect_accepted_socket(lambda: talk, connection, ssl=tls, ssl_handshake_timeout=timeout)
        except OSError as error:  # ssl.SSLError too
            reason = getattr(error, "reason", None) or type(error).__name__
            talk.log.info("TLS handshake failed", error=reason)
            if isinstance(error, ssl.SSLError):
                talk.note_refusal("tls_failed", detail=reason)
            return
        self._connections[_this_task()] = talk
        talk.log.info("client connected", tls=talk.session.tls_description)
        await talk.run()


def _this_task() -> asyncio.Task[None]:
    task = asyncio.current_task()
    if task is None:
        raise RuntimeError("not in a task")
    return task


_REFUSALS = {
    "max_connections": replies.TOO_MANY_CONNECTIONS,
    "max_connections_per_address": replies.TOO_MANY_FROM_ADDRESS,
    "max_new_connections_per_minute": replies.TOO_MANY_NEW_FROM_ADDRESS,
}


def _turn_away(connection: socket.socket, address: str, reason: str, implicit_tls: bool) -> None:
    """One stable line in the log; deploy/fail2ban reads it."""
    log.warning(f"connection refused [{address}]", reason=reason, client_ip=address)
    if not implicit_tls:
        _say(connection, _REFUSALS[reason])


def _turn_away_the_waiting(door: Door) -> None:
    """Clients the kernel has accepted and we have not; they would see their connection reset."""
    while True:
        try:
            connection, _ = door.socket.accept()
        except OSError:
            return
        with connection:
            if not door.implicit_tls:
                _say(connection, replies.SHUTTING_DOWN)


def _say(connection: socket.socket, reply: bytes) -> None:
    connection.setblocking(False)
    try:
        connection.send(reply + b"\r\n")
    except OSError:
        return
