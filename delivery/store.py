"""The message store: raw bytes by key, over Django's storages (STO-1).

Every operation ends within `settings.STORAGE_TIMEOUT` seconds; a store that fails or does not answer by then is
StoreUnavailable, which is temporary. Bodies are encrypted when `settings.STORAGE_KEYS` names a key (STO-4). What a
storage must offer beyond Django's own methods is in `MessageStorage`.
"""

from __future__ import annotations

import os
import re
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any, BinaryIO, Protocol, TypeVar, cast

import structlog
from django.conf import settings
from django.core.exceptions import SuspiciousFileOperation
from django.core.files.storage import storages

from delivery import packs, stored
from delivery.draft import UNKNOWN_SIZE
from delivery.exceptions import BodyNotFound, StoreUnavailable
from delivery.submission import Body

log = structlog.get_logger(__name__)

T = TypeVar("T")
_SEGMENT = r"[A-Za-z0-9_][A-Za-z0-9._=+@-]*"
_KEY = re.compile(rf"{_SEGMENT}(/{_SEGMENT})*")
_END: list[str] = []
CONCURRENT_OPERATIONS = 32


class MessageStorage(Protocol):
    """A Django storage fit for messages. Absent keys raise FileNotFoundError; deleting one does nothing."""

    def keys_for(self, messages: Sequence[tuple[uuid.UUID, int]]) -> list[str]: ...
    def save_many(self, items: Sequence[tuple[str, Body]]) -> list[Exception | None]: ...
    def open_stream(self, key: str) -> BinaryIO: ...
    def read_bytes(self, key: str) -> bytes: ...
    def delete(self, key: str) -> None: ...
    def pages(self, older_than: datetime | None, start: str) -> Iterator[list[str]]: ...
    def tidy(self) -> None: ...


def key_for(message_id: uuid.UUID) -> str:
    """Where the body of a message that is stored by itself lies."""
    return packs.key_for(message_id)


def keys_for(messages: Sequence[tuple[uuid.UUID, int]]) -> list[str]:
    """Where the bodies of messages (id and size in octets) that are given to one `put_many` will lie."""
    return _storage().keys_for(messages)


def put_many(items: Sequence[tuple[str, Body]]) -> list[Exception | None]:
    """Store bodies that are accepted together; None for each that is now durable (ACC-2, ACC-5).

    What could not be stored is StoreUnavailable, or FileExistsError when the key holds other octets already; a key
    that is no key is SuspiciousFileOperation and nothing at all is stored.
    """
    for key, _ in items:
        _check(key)
    if not items:
        return []
    try:
        results = _door.call(_storage().save_many, stored.sealed_items(items))
    except StoreUnavailable as error:
        return [error] * len(items)
    return [None if error is None else _write_error(error) for error in results]


def put(key: str, stream: BinaryIO) -> None:
    """Store what the stream still holds; raises what `put_many` returns."""
    [error] = put_many([(key, _Stream(stream))])
    if error is not None:
        raise error


def open(key: str) -> BinaryIO:
    """A stream at the first octet, which the caller closes. Raises BodyNotFound, StoreUnavailable.

    So may reading it, at the end too: what was read is to be believed when it was read to the end.
    """
    _check(key)
    return _door.call(lambda: stored.opened_stream(_storage().open_stream(key), key))


def read(key: str) -> bytes:
    """Everything under a key. Raises BodyNotFound, StoreUnavailable."""
    _check(key)
    return stored.opened(_door.call(_storage().read_bytes, key), key)


def delete(key: str) -> None:
    """Forget a body; nothing happens when there is none. Raises StoreUnavailable."""
    _check(key)
    _door.call(_storage().delete, key)


def forget(key: str) -> None:
    """As `delete`, for a body that has no row: one that the store will not give up now is found by a consistency check
    (STO-6)."""
    try:
        delete(key)
    except StoreUnavailable as error:
        log.warning("unreferenced body left", key=key, error=str(error))


def iterate(older_than: datetime | None = None, start: str = "") -> Iterator[str]:
    """All keys, fetched as they are asked for, folder by folder in ascending order. Raises StoreUnavailable.

    With `older_than` only those written before that time, with `start` only those that are not smaller.
    """
    pages = _storage().pages(older_than, start)
    while (page := _door.call(_next, pages)) is not _END:
        yield from (key for key in page if key >= start)


def free_space() -> tuple[int, float] | None:
    """Octets free where bodies are kept, and their part of the whole; None where the storage knows no limit."""
    measure = getattr(_storage(), "free_space", None)
    return _door.call(measure) if measure else None


def tidy() -> None:
    """Remove what dead processes left behind; for a maintenance job. Not bounded in time."""
    _storage().tidy()


class _Door:
    """Lets a bounded number of operations run at once, and waits for each only so long.

    A thread that the disk does not give back keeps its place, so a stuck disk costs `CONCURRENT_OPERATIONS` threads
    and no more: whoever comes later finds no place and is told so in time.
    """

    def __init__(self) -> None:
        self._start_anew()
        os.register_at_fork(after_in_child=self._start_anew)

    def _start_anew(self) -> None:
        self._places = threading.BoundedSemaphore(CONCURRENT_OPERATIONS)
        self._threads = ThreadPoolExecutor(CONCURRENT_OPERATIONS, "store")

    def call(self, operation: Callable[..., T], *arguments: Any) -> T:
        timeout = settings.STORAGE_TIMEOUT
        begun = time.monotonic()
        if not self._places.acquire(timeout=timeout):
            raise StoreUnavailable("too many operations wait for the message store")
        try:
            future = self._threads.submit(operation, *arguments)
        except BaseException:
            self._places.release()
            raise
        places = self._places
        future.add_done_callback(lambda _: places.release())
        try:
            return future.result(timeout=max(0.0, timeout - (time.monotonic() - begun)))
        except TimeoutError as error:
            if future.done() and future.exception() is error:
                raise StoreUnavailable("the message store timed out") from error
            raise StoreUnavailable(f"the message store did not answer within {timeout:g} s") from None
        except FileNotFoundError:
            raise BodyNotFound("nothing under this key") from None
        except StoreUnavailable:
            raise
        except Exception as error:
            raise _unavailable(error) from error


class _Stream:
    """An open stream as a Body of unknown size."""

    size = UNKNOWN_SIZE

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def open(self) -> BinaryIO:
        return self._stream

    def header_block(self) -> bytes:
        raise NotImplementedError


_door = _Door()


def _storage() -> MessageStorage:
    return cast(MessageStorage, storages["messages"])


def _check(key: str) -> None:
    if len(key) > 255 or not _KEY.fullmatch(key):
        raise SuspiciousFileOperation("not a key of the message store")


def _next(pages: Iterator[list[str]]) -> list[str]:
    return next(pages, _END)


def _write_error(error: Exception) -> Exception:
    return error if isinstance(error, FileExistsError) else _unavailable(error)


def _unavailable(error: Exception) -> StoreUnavailable:
    """Text without paths: it goes into rows and logs."""
    reason = error.strerror if isinstance(error, OSError) and error.strerror else type(error).__name__
    unavailable = StoreUnavailable(f"the message store failed: {reason}")
    unavailable.__cause__ = error
    return unavailable
