"""Keys for rows: UUID version 7 (RFC 9562 §5.7), so that a list ordered by key is ordered by time."""

import os
import threading
import time
import uuid
from datetime import datetime

_lock = threading.Lock()
_last_ms = 0
_counter = 0


def uuid7() -> uuid.UUID:
    """A new UUIDv7. Keys made by one process ascend strictly, also within one millisecond.

    The 12 bits of rand_a count within the millisecond (RFC 9562 §6.2, method 1) and start at random; when they run
    out the clock is borrowed from. 62 bits are random, so a key cannot be guessed from its neighbour.
    """
    global _last_ms, _counter  # noqa: PLW0603
    with _lock:
        now = time.time_ns() // 1_000_000
        if now > _last_ms:
            _last_ms = now
            _counter = int.from_bytes(os.urandom(2), "big") & 0x7FF
        else:
            _counter += 1
            if _counter > 0xFFF:
                _last_ms += 1
                _counter = 0
        value = (_last_ms & 0xFFFF_FFFF_FFFF) << 80 | 0x7 << 76 | _counter << 64 | 0b10 << 62
    return uuid.UUID(int=value | int.from_bytes(os.urandom(8), "big") >> 2)


def first_at(moment: datetime) -> uuid.UUID:
    """The smallest UUIDv7 of a moment (aware), for asking an index for all rows since then."""
    return uuid.UUID(int=int(moment.timestamp() * 1000) << 80 | 0x7 << 76 | 0b10 << 62)
