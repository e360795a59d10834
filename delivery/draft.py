"""One body on its way to its name in a directory; see `storage.DurableFileSystemStorage` for the order of things."""

from __future__ import annotations

import contextlib
import filecmp
import os
import uuid
from typing import Protocol

from delivery.exceptions import StoreUnavailable
from delivery.submission import Body

UNKNOWN_SIZE = -1
"""`Body.size` of a stream that does not say how long it is."""
CHUNK = 1024 * 1024


class Incomplete(OSError):
    """The stream ended before the size it announced."""


class Place(Protocol):
    """What a draft needs of the storage it is written to."""

    @property
    def location(self) -> str | os.PathLike[str]: ...
    @property
    def incoming(self) -> str: ...
    @property
    def file_permissions_mode(self) -> int | None: ...
    def enter(self, path: str) -> None: ...
    def durable_directory(self, path: str) -> None: ...
    def same(self, one: str, other: str, key: str) -> bool: ...


class Draft:
    """One body on its way under its name. `error` is the first thing that went wrong; later steps then do nothing."""

    __slots__ = ("_fd", "_key", "_name", "_place", "_temporary", "body", "directory", "error", "path")

    def __init__(self, place: Place, key: str, body: Body) -> None:
        self._place = place
        self._key = key
        self.body = body
        self.error: Exception | None = None
        self._fd = -1
        self.path = os.path.join(place.location, key)
        self.directory = os.path.dirname(self.path)
        self._temporary = self._name = os.path.join(place.incoming, uuid.uuid4().hex)

    def write(self) -> None:
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            self._fd = os.open(self._temporary, flags, self._place.file_permissions_mode or 0o600)
            written = 0
            with self.body.open() as stream:
                while chunk := stream.read(CHUNK):
                    view = memoryview(chunk)
                    while view:
                        view = view[os.write(self._fd, view) :]
                    written += len(chunk)
            if self.body.size not in (written, UNKNOWN_SIZE):
                raise Incomplete(f"{written} octets of {self.body.size}")
        except Exception as error:  # noqa: BLE001 - each body has its own outcome
            self.fail(error)

    def publish(self) -> None:
        if self.error is not None:
            return
        try:
            self._place.enter(self.directory)
            if os.path.exists(self.path):
                self._compare()
                return
            try:
                os.rename(self._temporary, self.path)
            except FileNotFoundError:  # the directory was removed behind our back
                self._place.durable_directory(self.directory)
                os.rename(self._temporary, self.path)
            self._name = self.path
        except (OSError, StoreUnavailable) as error:
            self.fail(error)

    def sync(self) -> None:
        try:
            os.fsync(self._fd)
        except OSError as error:
            self.fail(error)
        else:
            self._close()

    def _compare(self) -> None:
        """The name is taken. If by the same octets, they are what is synced: nobody else may have come to that yet."""
        alike = filecmp.cmp(self._name, self.path, shallow=False)
        if not alike and not self._place.same(self._name, self.path, self._key):
            raise FileExistsError("the key already holds other octets")
        self._close()
        self._fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        os.unlink(self._name)
        self._name = ""

    def fail(self, error: Exception) -> None:
        """Take back what this draft has made."""
        self.error = error
        self._close()
        if self._name:
            with contextlib.suppress(OSError):
                os.unlink(self._name)

    def _close(self) -> None:
        descriptor, self._fd = self._fd, -1
        if descriptor >= 0:
            with contextlib.suppress(OSError):  # what there is to be told, fsync has told
                os.close(descriptor)
