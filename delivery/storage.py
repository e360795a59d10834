"""Message bodies on a local file system: a Django storage that only says yes when the bytes are durable (STO-2)."""

from __future__ import annotations

import contextlib
import io
import os
import stat
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from datetime import datetime
from typing import Any, BinaryIO

from django.core.files.storage import FileSystemStorage
from django.utils.deconstruct import deconstructible

from delivery import packs, stored
from delivery.draft import UNKNOWN_SIZE, Draft
from delivery.submission import Body

INCOMING = ".incoming"
"""Where temporaries lie, on the same file system; no key begins with a dot."""
ABANDONED_AFTER = 3600.0
"""Seconds after which a temporary belongs to a dead process: far above the deadline of any operation."""
EMPTY_AFTER = 24 * 3600.0
"""Seconds after which an empty directory is removed; nobody writes into one that old, its name is a time."""
SYNC_THREADS = 48
"""Syncs that wait at once. A journal commits them together, so that fifty take hardly longer than one."""
FEW = 2
"""Syncs that are not worth a thread."""
LARGE = 64 * 1024


def sync_directory(path: str) -> None:
    """Make the names in a directory durable."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


@deconstructible(path="delivery.storage.DurableFileSystemStorage")
class DurableFileSystemStorage(FileSystemStorage):
    """Files are written once, under a temporary name, and appear under their own name whole.

    They get that name before they are synced, since a sync then takes file and name in one commit of the journal and
    lasts half as long. So a crash of the machine may leave a name with octets missing, but never one whose writing was
    acknowledged; a crash of the process leaves none.

    Small bodies that are stored together share a file (`packs`).

    A process that dies leaves at most files in `.incoming`, which no method lists; those of more than an hour ago are
    removed by the next process at its first write, and by `tidy`. Directories are made 0700, files 0600.
    """

    def __init__(self, location: str, **options: Any) -> None:
        super().__init__(location, **{"file_permissions_mode": 0o600, "directory_permissions_mode": 0o700, **options})
        self._ready = False
        self._entered: set[str] = set()
        self._lock = threading.Lock()
        self._sync_pool: ThreadPoolExecutor | None = None
        os.register_at_fork(after_in_child=self._forget_threads)

    def free_space(self) -> tuple[int, float]:
        """Octets we may still write, and their part of the whole file system."""
        os.makedirs(self.location, mode=0o700, exist_ok=True)
        now = os.statvfs(self.location)
        return now.f_bavail * now.f_frsize, now.f_bavail / (now.f_blocks or 1)

    def keys_for(self, messages: Sequence[tuple[uuid.UUID, int]]) -> list[str]:
        """Keys under which these messages (id and size) are stored together."""
        return packs.keys_for(messages)

    def save_many(self, items: Sequence[tuple[str, Body]]) -> list[Exception | None]:
        """Write bodies under their keys, in one round of fsync for all; None for each that is durable.

        A key that already holds the same octets is left as it is; one that holds others is a FileExistsError.
        """
        try:
            self._make_ready()
        except OSError as error:
            return [error] * len(items)
        alone = {key: Draft(self, key, body) for key, body in items if packs.split(key) is None}
        together: dict[str, list[tuple[int, Body]]] = {}
        for key, body in items:
            if place := packs.split(key):
                together.setdefault(place[0], []).append((place[1], body))
        shared = {file: packs.PackBody(members) for file, members in together.items()}
        packed = {file: Draft(self, file, body) for file, body in shared.items() if not body.empty}
        drafts = [*alone.values(), *packed.values()]
        self._write_and_sync(drafts)
        self._sync_directories(drafts)

        def outcome(key: str) -> Exception | None:
            place = packs.split(key)
            if place is None:
                return alone[key].error
            return shared[place[0]].errors.get(place[1]) or packed[place[0]].error

        return [outcome(key) for key, _ in items]

    def _save(self, name: str, content: Any) -> str:
        [error] = self.save_many([(name, _Content(content))])
        if error is not None:
            raise error
        return name

    def read_bytes(self, key: str) -> bytes:
        """Everything under a key; FileNotFoundError when there is nothing."""
        with self.open_stream(key) as stream:
            return stream.read()

    def open_stream(self, key: str) -> BinaryIO:
        if place := packs.split(key):
            return io.BytesIO(packs.read(self.path(place[0]), place[1]))
        return open(self.path(key), "rb")

    def delete(self, name: str) -> None:
        if place := packs.split(name):
            packs.delete(self.path(place[0]), place[1])
        else:
            super().delete(name)

    def pages(self, older_than: datetime | None = None, start: str = "") -> Iterator[list[str]]:
        """Keys, a directory at a time in ascending order; `older_than` leaves out what was written since, and
        directories that hold only keys below `start` are not looked at."""
        limit = older_than.timestamp() if older_than else None
        waiting = [""]
        while waiting:
            directory = waiting.pop()
            keys, below = self._scan(directory, limit)
            waiting += [name for name in below if f"{name}/" >= start[: len(name) + 1]]
            yield keys

    def tidy(self) -> None:
        """Remove temporaries of dead processes and directories that have long been empty; for maintenance."""
        self._remove_leftovers()
        limit = time.time() - EMPTY_AFTER
        for entry in self._entries(""):
            if entry.is_dir(follow_symlinks=False) and entry.stat().st_mtime < limit:
                with contextlib.suppress(OSError):
                    os.rmdir(entry.path)

    def durable_directory(self, path: str) -> None:
        """Make a directory and its parents, if missing, and make their names durable.

        Each process does so once for each directory it enters, because another may have made it and not come to
        syncing the name yet.
        """
        missing = [path]
        while not os.path.isdir(parent := os.path.dirname(missing[-1])):
            missing.append(parent)
        for directory in reversed(missing):
            with contextlib.suppress(FileExistsError):
                os.mkdir(directory, self.directory_permissions_mode or 0o700)
            sync_directory(os.path.dirname(directory))
        with self._lock:
            if len(self._entered) > 1000:
                self._entered.clear()
            self._entered.add(path)

    def same(self, one: str, other: str, key: str) -> bool:
        """Whether two files of different octets hold the same under this key: what is encrypted never looks alike."""
        return stored.same_packs(one, other, key) if key.endswith(packs.SUFFIX) else stored.same_files(one, other, key)

    def enter(self, path: str) -> None:
        if path not in self._entered:
            self.durable_directory(path)

    @property
    def incoming(self) -> str:
        return os.path.join(self.location, INCOMING)

    def _make_ready(self) -> None:
        if not self._ready:
            self.durable_directory(self.incoming)
            self._remove_leftovers()
            self._ready = True

    def _remove_leftovers(self) -> None:
        limit = time.time() - ABANDONED_AFTER
        for entry in self._entries(INCOMING):
            with contextlib.suppress(FileNotFoundError):
                if entry.stat(follow_symlinks=False).st_mtime < limit:
                    os.unlink(entry.path)

    def _entries(self, directory: str) -> list[os.DirEntry[str]]:
        try:
            with os.scandir(os.path.join(self.location, directory)) as entries:
                return list(entries)
        except FileNotFoundError:
            return []

    def _scan(self, directory: str, limit: float | None) -> tuple[list[str], list[str]]:
        keys, below = [], []
        for entry in self._entries(directory):
            name = f"{directory}/{entry.name}" if directory else entry.name
            if entry.name.startswith("."):
                continue
            if entry.is_dir(follow_symlinks=False):
                below.append(name)
            elif limit is None or _older(entry, limit):
                keys += self._keys_of(name)
        return sorted(keys), sorted(below, reverse=True)

    def _keys_of(self, name: str) -> list[str]:
        if not name.endswith(packs.SUFFIX):
            return [name]
        try:
            # One in which nothing is left is what a deletion leaves that dies before its end.
            return [f"{name}/{number}" for number in packs.numbers(self.path(name))] or [name]
        except packs.NoPack:
            return [name]  # cut off by a crash of the machine: listed, so that somebody can look at it or delete it

    def _write_and_sync(self, drafts: list[Draft]) -> None:
        """Large bodies are synced while the next is written, small ones together when all are: a sync that begins
        early takes only what is there, and the others would wait for a second commit."""
        written, syncs = [], []
        for draft in drafts:
            draft.write()
            draft.publish()
            if draft.error is None and draft.body.size >= LARGE and len(drafts) > 1:
                syncs.append(self._threads().submit(draft.sync))
            elif draft.error is None:
                written.append(draft)
        if len(written) <= FEW:
            for draft in written:
                draft.sync()
        else:
            syncs += [self._threads().submit(draft.sync) for draft in written]
        wait(syncs)

    def _threads(self) -> ThreadPoolExecutor:
        if self._sync_pool is None:
            with self._lock:
                self._sync_pool = self._sync_pool or ThreadPoolExecutor(SYNC_THREADS, "store-sync")
        return self._sync_pool

    def _sync_directories(self, drafts: list[Draft]) -> None:
        for directory in {draft.directory for draft in drafts if draft.error is None}:
            try:
                sync_directory(directory)
            except OSError as error:
                for draft in drafts:
                    if draft.directory == directory and draft.error is None:
                        draft.fail(error)

    def _forget_threads(self) -> None:
        self._sync_pool = None
        self._lock = threading.Lock()


def _older(entry: os.DirEntry[str], limit: float) -> bool:
    with contextlib.suppress(FileNotFoundError):
        info = entry.stat(follow_symlinks=False)
        return stat.S_ISREG(info.st_mode) and info.st_mtime < limit
    return False


class _Content:
    """A Django File as a Body whose size nobody announces."""

    size = UNKNOWN_SIZE

    def __init__(self, content: Any) -> None:
        self._content = content

    def open(self) -> Any:
        self._content.seek(0)
        return contextlib.nullcontext(self._content)

    def header_block(self) -> bytes:
        raise NotImplementedError
