"""Keys for rows: UUID version 7 (RFC 9562 §5.7), so that a list ordered by key is ordered by time."""

import os
import threading
import time
import uuid
from datetime import UTC, datetime

_RANDOM_AT_ONCE = 4096
"""Octets asked of the system at a time: each question lets go of the interpreter lock, and a busy thread is slow to get
it back."""

_lock = threading.Lock()
_last_ms = 0
_counter = 0
_random = b""
_used = 0


def uuid7() -> uuid.UUID:
    """A new UUIDv7. Keys made by one process ascend strictly, also within one millisecond.

    The 12 bits of rand_a count within the millisecond (RFC 9562 §6.2, method 1) and start at random; when they run
    out the clock is borrowed from. 62 bits are random, so a key cannot be guessed from its neighbour.
    """
    global _last_ms, _counter, _random, _used  # noqa: PLW0603
    with _lock:
        if len(_random) - _used < 10:
            _random, _used = os.urandom(_RANDOM_AT_ONCE), 0
        random = int.from_bytes(_random[_used : _used + 8], "big")
        start = int.from_bytes(_random[_used + 8 : _used + 10], "big")
        _used += 10
        now = time.time_ns() // 1_000_000
        if now > _last_ms:
            _last_ms = now
            _counter = start & 0x7FF
        else:
            _counter += 1
            if _counter > 0xFFF:
                _last_ms += 1
                _counter = 0
        value = (_last_ms & 0xFFFF_FFFF_FFFF) << 80 | 0x7 << 76 | _counter << 64 | 0b10 << 62
    return uuid.UUID(int=value | random >> 2)


def _start_anew() -> None:
    """A forked process must not go on with its parent's random octets, nor wait for a lock of its parent's threads."""
    global _lock, _random, _used
    _lock, _random, _used = threading.Lock(), b"", 0


os.register_at_fork(after_in_child=_start_anew)


def first_at(moment: datetime) -> uuid.UUID:
    """The smallest UUIDv7 of a moment (aware), for asking an index for all rows since then."""
    return uuid.UUID(int=int(moment.timestamp() * 1000) << 80 | 0x7 << 76 | 0b10 << 62)


def time_of(key: uuid.UUID) -> datetime:
    """When a UUIDv7 was made."""
    return datetime.fromtimestamp((key.int >> 80) / 1000, UTC)
