"""A stand-in for SendGrid with a set latency: takes Mail Send v3 and counts what it took.

    python -m bench.provider --latency 0.05

Its own process, HTTP/1.1 with kept connections, as cheap as can be. Prints `port <number>` when it listens. It reads
the subject of each message, which the load makes unique, and tells at `GET /stats` how many calls it answered and
which subjects came more than once. It is no check of the format: the strict stand-ins are in the tests of `providers`.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import json
import re
import time

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_SUBJECT = re.compile(rb'"subject": ?"([^"]*)"')
PATH = b"POST /v3/mail/send "


class Ledger:
    """What was taken. A subject is entered before it is answered: the message may be lost to us, never to it."""

    def __init__(self) -> None:
        self.subjects: collections.Counter[bytes] = collections.Counter()
        self.calls = 0
        self.unknown = 0

    def enter(self, body: bytes) -> str:
        found = _SUBJECT.search(body)
        self.calls += 1
        if found:
            self.subjects[found[1]] += 1
        else:
            self.unknown += 1
        return f"bench-{self.calls}"

    def stats(self) -> bytes:
        twice = {subject.decode("latin-1"): count for subject, count in self.subjects.items() if count > 1}
        return json.dumps(
            {"calls": self.calls, "distinct": len(self.subjects), "unknown": self.unknown, "duplicates": twice}
        ).encode()


class Service(asyncio.Protocol):
    """One connection; answers in order, each after the latency."""

    def __init__(self, ledger: Ledger, latency: float) -> None:
        self.ledger = ledger
        self.latency = latency
        self.buffer = bytearray()
        self.needed = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while len(self.buffer) >= self.needed:
            if not self.needed:
                end = self.buffer.find(b"\r\n\r\n")
                if end < 0:
                    return
                length = _LENGTH.search(self.buffer, 0, end)
                self.head = end + 4
                self.needed = self.head + (int(length[1]) if length else 0)
                continue
            request = bytes(self.buffer[: self.needed])
            del self.buffer[: self.needed]
            self.needed = 0
            self.answer(request)

    def answer(self, request: bytes) -> None:
        if request.startswith(PATH):
            message_id = self.ledger.enter(request[self.head :])
            reply = f"HTTP/1.1 202 Accepted\r\nX-Message-Id: {message_id}\r\nContent-Length: 0\r\n\r\n".encode()
            asyncio.get_running_loop().call_later(self.latency, self.transport.write, reply)
        elif request.startswith(b"GET /stats "):
            stats = self.ledger.stats()
            self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(stats), stats))
        else:
            self.transport.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")


async def serve(port: int, latency: float, seconds: float) -> None:
    """Listen on loopback until killed, or for `seconds` at most, so that nothing is left behind for long."""
    ledger = Ledger()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Service(ledger, latency), "127.0.0.1", port, backlog=1000)
    print(f"port {server.sockets[0].getsockname()[1]}", flush=True)
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        await asyncio.sleep(1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=0, help="0: any free one")
    parser.add_argument("--latency", type=float, default=0.05, help="seconds before each answer")
    parser.add_argument("--seconds", type=float, default=3600, help="end by itself after so long")
    given = parser.parse_args()
    asyncio.run(serve(given.port, given.latency, given.seconds))


if __name__ == "__main__":
    main()
