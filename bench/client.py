"""A light SMTP load generator: one process, one epoll loop, every reply awaited (no pipelining), each message timed.

    python -m bench.client 127.0.0.1:2525 --connections 50 --seconds 10 --tls --user crm --password secret

Prints one JSON line. All connections are opened (and, where asked, put under TLS and authenticated) before the first
message is sent, and kept; each sends one message at a time, as fast as it is answered.
"""

from __future__ import annotations

import argparse
import collections
import heapq
import json
import resource
import select
import socket
import ssl
import sys
import time
from dataclasses import dataclass, field

from bench.plan import Plan, message

RECEIVE = 4096
PATIENCE = 60.0
"""Seconds without any reply on any connection after which the run is given up."""


@dataclass
class Tally:
    """What came of it; times are monotonic seconds."""

    latencies: list[float] = field(default_factory=list)
    errors: collections.Counter[str] = field(default_factory=collections.Counter)
    ids: list[str] = field(default_factory=list)


class Refused(Exception):
    """The server said something else than it should."""


class Connection:
    """One session as a list of (what to send, the reply to wait for)."""

    def __init__(self, plan: Plan, loop: Loop) -> None:
        self.loop = loop
        self.plan = plan
        self.sock: socket.socket | ssl.SSLSocket = socket.create_connection(plan.address, timeout=PATIENCE)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock.setblocking(False)
        self.fd = self.sock.fileno()
        self.steps = [(b"", b"220"), *plan.greeting_steps()]
        self.at = 0
        self.ready = False
        self.handshaking = False
        self.received = b""
        self.unsent = memoryview(b"")
        self.begun = 0.0
        loop.watch(self, select.EPOLLIN)

    def on_event(self) -> None:
        if self.handshaking:
            self.handshake()
        elif self.unsent:
            self.flush()
        else:
            self.read()

    def read(self) -> None:
        while not self.received.endswith(b"\r\n") or self.last_line()[3:4] == b"-":
            try:
                chunk = self.sock.recv(RECEIVE)
            except (BlockingIOError, ssl.SSLWantReadError):
                return
            if not chunk:
                raise Refused("connection closed")
            self.received += chunk
        reply = self.last_line()
        self.received = b""
        self.on_reply(reply)

    def last_line(self) -> bytes:
        return self.received[self.received.rfind(b"\n", 0, -1) + 1 :]

    def on_reply(self, reply: bytes) -> None:
        expected = self.steps[self.at][1]
        if not reply.startswith(expected):
            raise Refused(reply.decode("latin-1").strip())
        self.at += 1
        if expected == b"220" and self.at > 1:
            self.start_tls()
        elif self.at < len(self.steps):
            self.send(self.steps[self.at][0] or self.message)
        elif self.ready:
            self.loop.message_done(self, reply)
        else:
            self.ready = True
            self.loop.connection_ready(self)

    def start_message(self, number: int) -> None:
        self.message = b"%b%010d%b" % (self.plan.message[0], number, self.plan.message[1])
        self.steps = self.loop.message_steps
        self.at = 0
        self.begun = time.monotonic()
        self.send(self.steps[0][0])

    def send(self, data: bytes) -> None:
        self.unsent = memoryview(data)
        self.flush()

    def flush(self) -> None:
        try:
            while self.unsent:
                self.unsent = self.unsent[self.sock.send(self.unsent) :]
        except (BlockingIOError, ssl.SSLWantWriteError):
            self.loop.watch(self, select.EPOLLOUT)
        else:
            self.loop.watch(self, select.EPOLLIN)

    def start_tls(self) -> None:
        self.sock = self.loop.tls.wrap_socket(self.sock, do_handshake_on_connect=False, suppress_ragged_eofs=True)
        self.handshaking = True
        self.handshake()

    def handshake(self) -> None:
        try:
            self.sock.do_handshake()  # type: ignore[union-attr]
        except ssl.SSLWantReadError:
            self.loop.watch(self, select.EPOLLIN)
        except ssl.SSLWantWriteError:
            self.loop.watch(self, select.EPOLLOUT)
        else:
            self.handshaking = False
            self.send(self.steps[self.at][0])

    def close(self) -> None:
        self.loop.forget(self)
        self.sock.close()


class Loop:
    """All connections of one run."""

    def __init__(self, plan: Plan, connections: int, limit: int, seconds: float, keep_ids: bool = False) -> None:
        self.plan = plan
        self.wanted = connections
        self.limit = limit
        self.seconds = seconds
        self.keep_ids = keep_ids
        self.message_steps = plan.message_steps()
        self.tally = Tally()
        self.tls = ssl.create_default_context()
        self.tls.check_hostname = False
        self.tls.verify_mode = ssl.CERT_NONE
        self.epoll = select.epoll()
        self.connections: dict[int, Connection] = {}
        self.masks: dict[int, int] = {}
        self.waiting: collections.deque[Connection] = collections.deque()
        self.paused: list[tuple[float, int, Connection]] = []  # a heap by time
        self.busy = 0
        self.started = 0
        self.until = 0.0

    def watch(self, connection: Connection, mask: int) -> None:
        before = self.masks.get(connection.fd)
        if before is None:
            self.epoll.register(connection.fd, mask)
        elif before != mask:
            self.epoll.modify(connection.fd, mask)
        self.masks[connection.fd] = mask

    def forget(self, connection: Connection) -> None:
        if self.masks.pop(connection.fd, None) is not None:
            self.epoll.unregister(connection.fd)
        self.connections.pop(connection.fd, None)

    def connection_ready(self, connection: Connection) -> None:
        self.waiting.append(connection)

    def message_done(self, connection: Connection, reply: bytes) -> None:
        now = time.monotonic()
        self.tally.latencies.append(now - connection.begun)
        if self.keep_ids:
            self.tally.ids.append(reply.decode("latin-1").strip())
        self.busy -= 1
        if self.plan.pause:
            heapq.heappush(self.paused, (connection.begun + self.plan.pause, connection.fd, connection))
        else:
            self.next_message(connection, now)

    def next_message(self, connection: Connection, now: float) -> None:
        if self.started < self.limit and now < self.until:
            self.started += 1
            self.busy += 1
            connection.start_message(self.started)

    def turn(self, timeout: float) -> None:
        """Serve what is ready; raises TimeoutError when nothing has happened for a long time."""
        for fd, _ in self.epoll.poll(timeout):
            connection = self.connections.get(fd)
            if connection is None:
                continue
            self.last_event = time.monotonic()
            try:
                connection.on_event()
            except (OSError, Refused) as error:
                self.tally.errors[str(error)[:200]] += 1
                self.busy -= connection.steps is self.message_steps and connection.at < len(connection.steps)
                connection.close()
        if time.monotonic() - self.last_event > PATIENCE:
            raise TimeoutError(f"no reply for {PATIENCE:g} s")

    def connect_all(self) -> None:
        begun = self.last_event = time.monotonic()
        opened = 0
        while opened < self.wanted or len(self.waiting) < len(self.connections):
            due = self.wanted if not self.plan.ramp else self.wanted * (time.monotonic() - begun) / self.plan.ramp
            # Not all at once: servers of one process would find their listen queue full.
            while opened < min(self.wanted, due) and opened - len(self.waiting) < 64:
                opened += 1
                try:
                    connection = Connection(self.plan, self)
                except OSError as error:
                    self.tally.errors[str(error)[:200]] += 1
                else:
                    self.connections[connection.fd] = connection
            self.turn(0.01)

    def run(self) -> float:
        """Send until the limit or the time is reached; seconds from the first message to the last reply."""
        self.last_event = begun = time.monotonic()
        self.until = begun + self.seconds
        if self.plan.pause:
            # Spread evenly over the pause, so that sessions do not march in step.
            share = self.plan.pause / max(1, len(self.waiting))
            self.paused = [(begun + number * share, one.fd, one) for number, one in enumerate(self.waiting)]
        else:
            for connection in self.waiting:
                self.next_message(connection, begun)
        while self.busy or (self.paused and time.monotonic() < self.until and self.started < self.limit):
            now = time.monotonic()
            while self.paused and self.paused[0][0] <= now:
                self.next_message(heapq.heappop(self.paused)[2], now)
            self.turn(0.005 if self.paused else 1.0)
        return time.monotonic() - begun


def percentile(values: list[float], share: float) -> float:
    """The smallest value that at least `share` of all do not exceed; 0 for none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("address", help="host:port")
    parser.add_argument("--connections", type=int, default=1)
    parser.add_argument("--messages", type=int, default=10**9, help="stop after so many")
    parser.add_argument("--seconds", type=float, default=10.0, help="stop after so long")
    parser.add_argument("--size", type=int, default=5000, help="octets of a message")
    parser.add_argument("--recipients", type=int, default=1)
    parser.add_argument("--tls", action="store_true", help="STARTTLS")
    parser.add_argument("--user", default="", help="AUTH PLAIN")
    parser.add_argument("--password", default="")
    parser.add_argument("--ramp", type=float, default=0.0, help="seconds over which connections are opened")
    parser.add_argument("--pause", type=float, default=0.0, help="seconds from one message of a connection to its next")
    parser.add_argument("--ids", action="store_true", help="print the final reply of every message as well")
    given = parser.parse_args(arguments)
    host, _, port = given.address.rpartition(":")
    plan = Plan(
        (host, int(port)),
        message(given.size),
        tls=given.tls,
        user=given.user,
        password=given.password,
        ramp=given.ramp,
        pause=given.pause,
        recipients=given.recipients,
    )
    loop = Loop(plan, given.connections, given.messages, given.seconds, given.ids)
    begun = time.monotonic()
    loop.connect_all()
    connected = time.monotonic() - begun
    print("ready", file=sys.stderr, flush=True)
    usage = resource.getrusage(resource.RUSAGE_SELF)
    seconds = loop.run()
    after = resource.getrusage(resource.RUSAGE_SELF)
    latencies = loop.tally.latencies
    print(
        json.dumps(
            {
                "messages": len(latencies),
                "seconds": seconds,
                "connect_seconds": connected,
                "p50": percentile(latencies, 0.50),
                "p95": percentile(latencies, 0.95),
                "max": max(latencies, default=0.0),
                "errors": dict(loop.tally.errors),
                "cpu": after.ru_utime + after.ru_stime - usage.ru_utime - usage.ru_stime,
                "ids": loop.tally.ids,
            }
        )
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
