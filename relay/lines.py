"""The client's octets: command lines that end with CR LF and with nothing else, or whatever has come, for DATA."""

from __future__ import annotations

import asyncio

MAX_LINE = 12_288  # octets; the longest line any command may have (an AUTH response, RFC 4954 §4)
READ_SIZE = 64 * 1024


class LineTooLong(Exception):
    """A line longer than MAX_LINE has gone by; all of it, up to its CR LF, was thrown away."""


class Input:
    """Splits a stream into lines without ever holding more than one over-long line's worth."""

    def __init__(self, reader: asyncio.StreamReader) -> None:
        self._reader = reader
        self._buffer = bytearray()
        self._discarding = False

    def line(self) -> bytes | None:
        """The next complete line without its CR LF, or None when it has not come yet.

        Raises LineTooLong once for an over-long line, when its end has come.
        """
        buffer = self._buffer
        end = buffer.find(b"\r\n")
        if end < 0:
            if len(buffer) > MAX_LINE:
                self._discarding = True
            if self._discarding:
                del buffer[: len(buffer) - buffer.endswith(b"\r")]  # a CR may be half of the line's end
            return None
        line = bytes(buffer[:end])
        del buffer[: end + 2]
        if self._discarding or end > MAX_LINE:
            self._discarding = False
            raise LineTooLong
        return line

    async def fill(self) -> None:
        """Wait for more octets. Raises EOFError when the client has closed, ConnectionError when it is gone."""
        self._buffer += await self.chunk()

    async def chunk(self) -> bytes:
        """The next octets as they come, never none. Raises like `fill`."""
        data = await self._reader.read(READ_SIZE)
        if not data:
            raise EOFError
        return data

    def take(self) -> bytes:
        """Everything that has been read and not used."""
        data = bytes(self._buffer)
        self._buffer.clear()
        return data

    def give_back(self, data: bytes) -> None:
        """Put octets in front, to be read next."""
        self._buffer[:0] = data

    def discard(self) -> None:
        """Forget what the client sent ahead (RFC 3207 §4.2), also what the loop has received and nobody has read."""
        self._buffer.clear()
        self._discarding = False
        self._reader._buffer.clear()  # type: ignore[attr-defined]  # as aiosmtpd does; there is no public way

    @property
    def holds_bare_lf(self) -> bool:
        """Whether an unfinished line holds a LF: a client that does not know how lines end."""
        return b"\n" in self._buffer
