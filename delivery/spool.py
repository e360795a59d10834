"""A message while it arrives: in memory up to a threshold, beyond that in a file (ACC-6)."""

from __future__ import annotations

import io
import os
import tempfile
from pathlib import Path
from typing import BinaryIO, cast

BLOCK = 256 * 1024  # octets kept in memory before the next write, once there is a file


class Spool:
    """A `delivery.submission.Body` that is written once and then read, also by several threads at once.

    The file has no name: whatever becomes of this process, the system takes the space back.
    """

    def __init__(self, threshold: int, directory: str) -> None:
        self._limit = threshold
        self._directory = directory
        self._chunks: list[bytes] = []
        self._in_memory = 0
        self._file: BinaryIO | None = None
        self._memory: bytes | None = None
        self.size = 0

    def write(self, data: bytes) -> None:
        """Take more octets; never blocks. While `overfull`, call `spill` from a thread before writing more."""
        self._chunks.append(data)
        self._in_memory += len(data)
        self.size += len(data)

    @property
    def overfull(self) -> bool:
        return self._in_memory > self._limit

    @property
    def on_disk(self) -> bool:
        return self._file is not None

    def spill(self) -> None:
        """Move what is in memory to the file; blocks. Raises OSError."""
        if self._file is None:
            Path(self._directory).mkdir(mode=0o700, parents=True, exist_ok=True)
            self._file = cast(BinaryIO, tempfile.TemporaryFile(dir=self._directory, buffering=0))  # noqa: SIM115
            self._limit = BLOCK
        view = memoryview(b"".join(self._chunks))
        self._chunks.clear()
        self._in_memory = 0
        while view:
            view = view[os.write(self._file.fileno(), view) :]

    def open(self) -> BinaryIO:
        """A new stream at the first octet, independent of every other and of `close`."""
        if self._file is not None:
            return cast(BinaryIO, io.BufferedReader(_Reader(os.dup(self._file.fileno()), self.size), BLOCK))
        return io.BytesIO(self._whole())

    def header_block(self) -> bytes:
        """The octets up to and including the empty line, all of them when there is none; reads the file if any."""
        if self._file is None:
            whole = self._whole()
            end = whole.find(b"\r\n\r\n")
            return whole if end < 0 else whole[: end + 4]
        found = bytearray()
        with self.open() as stream:
            while block := stream.read(BLOCK):
                searched = max(0, len(found) - 3)
                found += block
                end = found.find(b"\r\n\r\n", searched)
                if end >= 0:
                    return bytes(found[: end + 4])
        return bytes(found)

    def close(self) -> None:
        """Let go of the octets; streams that are open stay usable."""
        if self._file is not None:
            self._file.close()
        self._chunks.clear()
        self._in_memory = 0
        self._memory = None

    def _whole(self) -> bytes:
        if self._memory is None:
            self._memory = b"".join(self._chunks)
            self._chunks.clear()
        return self._memory


class _Reader(io.RawIOBase):
    """Reads a descriptor of its own at a position of its own."""

    def __init__(self, descriptor: int, size: int) -> None:
        self._descriptor = descriptor
        self._size = size
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        self._position = base + offset
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        count = os.preadv(self._descriptor, [buffer], self._position)
        self._position += count
        return count

    def close(self) -> None:
        if not self.closed:
            os.close(self._descriptor)
        super().close()
