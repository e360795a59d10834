"""What lies in the message store under a key, encrypted or not (STO-4).

Every body names the key it was encrypted with, and says itself whether it is (`sealed`): so keys can be changed, and
encryption switched on, without rewriting a body. The place where it lies is part of it, so that one body cannot be put
in another's place.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import BinaryIO

import structlog

from delivery import packs, sealed
from delivery.draft import UNKNOWN_SIZE
from delivery.submission import Body

_BUFFER = 64 * 1024
log = structlog.get_logger(__name__)


class SealedBody:
    """A body as it is stored under a key."""

    def __init__(self, key: str, body: Body, keys: Sequence[sealed.Key]) -> None:
        self._key, self._body, self._keys = key, body, keys
        self.size = UNKNOWN_SIZE if body.size == UNKNOWN_SIZE else sealed.sealed_size(body.size)

    def open(self) -> BinaryIO:
        stream, context = self._body.open(), self._key.encode()
        if not 0 <= self._body.size < packs.SMALL:
            return sealed.sealing(stream, self._keys, kind=sealed.BODY, context=context)
        with stream:
            return io.BytesIO(sealed.seal(stream.read(), self._keys, kind=sealed.BODY, context=context))

    def header_block(self) -> bytes:
        return self._body.header_block()


def sealed_items(items: Sequence[tuple[str, Body]]) -> Sequence[tuple[str, Body]]:
    """Bodies with their keys, as they are to be stored."""
    keys = sealed.body_keys()
    return [(key, SealedBody(key, body, keys)) for key, body in items] if keys else items


def opened(content: bytes, key: str) -> bytes:
    """What was stored under this key, from what lies there. Raises SealError, which is a StoreUnavailable."""
    if not sealed.is_sealed(content, sealed.BODY):
        return content
    try:
        return sealed.unseal(content, sealed.body_keys(), kind=sealed.BODY, context=key.encode())
    except sealed.SealError as error:
        _tell(error, key)
        raise


def opened_stream(stream: BinaryIO, key: str) -> BinaryIO:
    """The same for a stream at its first octet that can be rewound; it is closed when this raises."""
    try:
        start = stream.read(sealed.PEEK)
        stream.seek(0)
        if not sealed.is_sealed(start, sealed.BODY):
            return stream
        return sealed.unsealing(stream, sealed.body_keys(), kind=sealed.BODY, context=key.encode())
    except BaseException as error:
        stream.close()
        if isinstance(error, sealed.SealError):
            _tell(error, key)
        raise


def same_files(one: str, other: str, key: str) -> bool:
    """Whether two files, written for the same key, hold the same."""
    with open(one, "rb") as first, open(other, "rb") as second:
        return _same(first, second, key)


def same_packs(one: str, other: str, key: str) -> bool:
    """The same for two packs: whether they hold the same bodies."""
    numbers = packs.numbers(one)
    return numbers == packs.numbers(other) and all(
        _same(io.BytesIO(packs.read(one, number)), io.BytesIO(packs.read(other, number)), f"{key}/{number}")
        for number in numbers
    )


def _same(first: BinaryIO, second: BinaryIO, key: str) -> bool:
    with opened_stream(first, key) as one, opened_stream(second, key) as other:
        while (content := one.read(_BUFFER)) == other.read(_BUFFER):
            if not content:
                return True
    return False


def _tell(error: sealed.SealError, key: str) -> None:
    """A key that is missing is a fault of ours, which somebody must mend: the body waits for it."""
    key_id = error.key_id if isinstance(error, sealed.UnknownKey) else None
    log.error("body cannot be decrypted", key=key, key_id=key_id, error=str(error))
