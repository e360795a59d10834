"""Small bodies that are accepted together lie in one file, so that they cost one name and one sync (ACC-5, PERF-1).

A pack is written whole and once, like any other file, and never grows. Its octets:

    "SMTPPACK" | count (4) | count x (offset (8), length (8)) | count x state (1) | the bodies

Numbers are big-endian, `offset` counts from the first octet of the file, state is 1 for a body that is there and 0 for
one that is not. Deleting a body only changes its state and gives its blocks back; the last one takes the file along.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import io
import os
import struct
import uuid
from collections.abc import Sequence
from typing import Any

from delivery.draft import UNKNOWN_SIZE, Incomplete
from delivery.submission import Body

SMALL = 64 * 1024
"""Octets from which on a body has a file of its own: its own octets then cost more than its name."""
SUFFIX = ".pack"
_MAGIC = b"SMTPPACK"
_HEAD = struct.Struct(">8sI")
_ENTRY = struct.Struct(">QQ")
_THERE, _GONE = b"\1", b"\0"
_PUNCH_HOLE = 0x01 | 0x02  # FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE, linux/falloc.h


class NoPack(OSError):
    """The file is no pack, or not a whole one."""


def key_for(message_id: uuid.UUID) -> str:
    """Where a message's body lies by itself. The directory is about 65 s of time (the first 32 bits of a UUIDv7,
    RFC 9562)."""
    return f"{message_id.hex[:8]}/{message_id}.eml"


def keys_for(messages: Sequence[tuple[uuid.UUID, int]]) -> list[str]:
    """Keys for messages (id and size) that are stored together: the small ones share a pack, in this order."""
    small = [message_id for message_id, size in messages if 0 <= size < SMALL]
    if len(small) < 2:
        return [key_for(message_id) for message_id, _ in messages]
    file = f"{small[0].hex[:8]}/{small[0]}{SUFFIX}"
    number = {message_id: index for index, message_id in enumerate(small)}
    return [
        f"{file}/{number[message_id]}" if message_id in number else key_for(message_id) for message_id, _ in messages
    ]


def split(key: str) -> tuple[str, int] | None:
    """The pack's own key and the number of a body in it; None for a key that is not of that kind."""
    file, _, number = key.rpartition("/")
    return (file, int(number)) if file.endswith(SUFFIX) and number.isdecimal() and number.isascii() else None


class PackBody:
    """The bodies of one pack as one body to write. What cannot be read is an entry of `errors` and not in the pack;
    `empty` when that is all of them."""

    def __init__(self, members: Sequence[tuple[int, Body]]) -> None:
        """`members` are bodies with their numbers."""
        self.errors: dict[int, Exception] = {}
        contents = [b""] * (max(number for number, _ in members) + 1)
        states = [_GONE] * len(contents)
        for number, body in members:
            try:
                contents[number] = _whole(body)
                states[number] = _THERE
            except Exception as error:  # noqa: BLE001 - each body has its own outcome
                self.errors[number] = error
        offset = _HEAD.size + len(contents) * (_ENTRY.size + 1)
        table = []
        for content in contents:
            table.append(_ENTRY.pack(offset, len(content)))
            offset += len(content)
        self.empty = len(self.errors) == len(members)
        self._octets = b"".join([_HEAD.pack(_MAGIC, len(contents)), *table, *states, *contents])
        self.size = len(self._octets)

    def open(self) -> io.BytesIO:
        return io.BytesIO(self._octets)

    def header_block(self) -> bytes:
        raise NotImplementedError


def _whole(body: Body) -> bytes:
    with body.open() as stream:
        content = stream.read()
    if body.size not in (len(content), UNKNOWN_SIZE):
        raise Incomplete(f"{len(content)} octets of {body.size}")
    return content


def read(path: str, number: int) -> bytes:
    """One body. Raises FileNotFoundError when it is not there, NoPack for a file that is none."""
    with _opened(path, os.O_RDONLY) as fd:
        offset, length, there = _entry(fd, number)
        if not there:
            raise FileNotFoundError(errno.ENOENT, "no such body in the pack")
        content = os.pread(fd, length, offset)
        if not _entry(fd, number)[2]:  # deleted meanwhile, and what was read may be zeros already
            raise FileNotFoundError(errno.ENOENT, "no such body in the pack")
    if len(content) != length:
        raise NoPack(f"{len(content)} octets of {length}")
    return content


def numbers(path: str) -> list[int]:
    """Those of the bodies that are there; none when the file has gone meanwhile."""
    with contextlib.suppress(FileNotFoundError), _opened(path, os.O_RDONLY) as fd:
        return [number for number, state in enumerate(_states(fd)) if state]
    return []


def delete(path: str, number: int) -> None:
    """Forget one body; nothing happens when it is not there."""
    with contextlib.suppress(FileNotFoundError), _opened(path, os.O_RDWR) as fd:
        fcntl.flock(fd, fcntl.LOCK_EX)  # of two that delete the last two, one must see that nothing is left
        before = os.fstat(fd)
        offset, length, there = _entry(fd, number)
        if not there:
            return
        os.pwrite(fd, _GONE, _HEAD.size + _count(fd) * _ENTRY.size + number)
        if not any(_states(fd)):
            os.unlink(path)
            return
        _give_back(fd, offset, length)
        os.utime(fd, ns=(before.st_atime_ns, before.st_mtime_ns))  # the time is that of the bodies


@contextlib.contextmanager
def _opened(path: str, flags: int) -> Any:
    fd = os.open(path, flags | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)


def _count(fd: int) -> int:
    head = os.pread(fd, _HEAD.size, 0)
    if len(head) < _HEAD.size or not head.startswith(_MAGIC):
        raise NoPack("not a pack")
    return int(_HEAD.unpack(head)[1])


def _states(fd: int) -> bytes:
    count = _count(fd)
    states = os.pread(fd, count, _HEAD.size + count * _ENTRY.size)
    if len(states) < count:
        raise NoPack("the pack's table is cut off")
    return states


def _entry(fd: int, number: int) -> tuple[int, int, bool]:
    count = _count(fd)
    if number >= count:
        raise FileNotFoundError(errno.ENOENT, "no such body in the pack")
    entry = os.pread(fd, _ENTRY.size, _HEAD.size + number * _ENTRY.size)
    state = os.pread(fd, 1, _HEAD.size + count * _ENTRY.size + number)
    if len(entry) < _ENTRY.size or not state:
        raise NoPack("the pack's table is cut off")
    offset, length = _ENTRY.unpack(entry)
    return offset, length, state == _THERE


def _give_back(fd: int, offset: int, length: int) -> None:
    """The content is gone for good; its blocks too where the file system can do that."""
    fallocate = getattr(ctypes.CDLL(None, use_errno=True), "fallocate", None)
    if fallocate is not None:
        fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
        if length and fallocate(fd, _PUNCH_HOLE, offset, length) == 0:
            return
    os.pwrite(fd, bytes(length), offset)
