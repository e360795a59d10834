"""Rows and what lies in the message store, side by side in the order of time (STO-6).

Both are read as streams, a page at a time. The first letters of a key are the time of its message, or of one it was
accepted with (`packs.key_for`), so that a row and its body are never far apart: what is between is all that is kept in
memory. Who seems to have no partner is only suspected here; `consistency` looks again before it says so.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from itertools import groupby
from typing import TypeAlias

from accounts.ids import first_at
from delivery.archive import FOLDER, key_for
from delivery.models import ArchiveCopy, Message

PAGE = 1000
"""Rows in one query."""
MARGIN = 2
"""Folders, of about 65 s each, that the body of a message may lie before or behind its own time without being looked
for by itself."""

Place: TypeAlias = tuple[uuid.UUID, str]
"""A row and the key it names."""
_BODY = re.compile(r"([0-9a-f]{8})/[0-9a-f-]{36}\.(?:eml|pack(?:/[0-9]+)?)")
_COPY = re.compile(rf"{FOLDER}/[0-9]{{6}}/[0-9a-f]{{8}}/([0-9a-f-]{{36}})(?:-[0-9]+)?\.gz")


def window_of(key: str) -> int | None:
    """The folder of a body's key as a number; None for what is no key of a body."""
    match = _BODY.fullmatch(key)
    return int(match[1], 16) if match else None


def copy_of(key: str) -> uuid.UUID | None:
    """The id of the archive copy a key is of; None for what is none."""
    match = _COPY.fullmatch(key)
    try:
        return uuid.UUID(match[1]) if match else None
    except ValueError:
        return None


def body_rows(since: int) -> Iterator[Place]:
    """Messages that should have a body, from this window on, in the order of their keys."""
    after = uuid.UUID(int=max(0, since) << 96)
    wanted = Message.objects.filter(body_deleted_at=None).order_by("pk")
    while page := list(wanted.filter(pk__gt=after).values_list("pk", "store_key")[:PAGE]):
        yield from page
        after = page[-1][0]


def copy_rows(since: uuid.UUID, until: datetime) -> Iterator[Place]:
    """Copies that are kept, from this id up to a time, in the order of their keys."""
    after, last = uuid.UUID(int=max(0, since.int - 1)), first_at(until)
    wanted = ArchiveCopy.objects.filter(status=ArchiveCopy.Status.KEPT, pk__lt=last).order_by("pk")
    while page := list(wanted.filter(pk__gt=after).values_list("pk", "store_key")[:PAGE]):
        yield from page
        after = page[-1][0]


class Bodies:
    """Matches messages and bodies from one window on. `stop` is asked now and then; when it says yes, `Stopped` is
    raised with the window to go on from."""

    def __init__(
        self,
        since: int,
        *,
        without_body: Callable[[Place], None],
        without_row: Callable[[str], None],
        stop: Callable[[], bool],
    ) -> None:
        self._since, self._stop = since, stop
        self._without_body, self._without_row = without_body, without_row
        self._rows = body_rows(since - 2 * MARGIN)
        self._next = next(self._rows, None)
        self._folders: dict[int, set[str]] = {}

    @staticmethod
    def start(since: int) -> str:
        """The first key that is needed."""
        return f"{max(0, since - MARGIN):08x}/"

    def take(self, keys: Iterable[str]) -> None:
        """Keys of bodies, in ascending order of their folders."""
        for window, members in groupby(keys, lambda key: window_of(key) or 0):
            self._judge(window - MARGIN)
            if window - MARGIN > self._since and self._stop():
                raise Stopped(window - MARGIN)
            self._folders.setdefault(window, set()).update(members)

    def end(self) -> None:
        """No further keys: judge all that is left."""
        self._judge(1 << 32)

    def _judge(self, until: int) -> None:
        """Rows of windows below `until`: every folder their bodies may lie in has been read."""
        count, before = 0, self._since
        while self._next is not None and (window := self._next[0].int >> 96) < until:
            count += 1
            # Between two windows only, and never before one is done with, however little time there is.
            if count >= PAGE and window > before and self._stop():
                self._give_out(window)
                raise Stopped(window)
            before = max(before, window)
            key = self._next[1]
            known = self._folders.get(window_of(key) or 0, set())
            if key in known:
                known.discard(key)
            elif window >= self._since:
                self._without_body(self._next)
            self._next = next(self._rows, None)
        self._give_out(until)

    def _give_out(self, until: int) -> None:
        """Folders whose every row has been seen; what is left there is nobody's."""
        for window in [window for window in self._folders if window + MARGIN < until]:
            for key in sorted(self._folders.pop(window)):
                self._without_row(key)


class Stopped(Exception):
    """There was no time left; `window` is where to go on."""

    def __init__(self, window: int) -> None:
        super().__init__(window)
        self.window = window


class Copies:
    """Matches archive copies and their octets, whose keys are in the same order as the copies."""

    def __init__(
        self,
        since: uuid.UUID,
        until: datetime,
        *,
        without_octets: Callable[[Place], None],
        without_copy: Callable[[str], None],
    ) -> None:
        self._without_octets, self._without_copy = without_octets, without_copy
        self._rows = copy_rows(since, until)
        self._next = next(self._rows, None)

    @staticmethod
    def start(since: uuid.UUID) -> str:
        """The first key that is needed: of the copy of that id, wherever its octets lie."""
        return key_for(since).removesuffix(".gz") if since.int else f"{FOLDER}/"

    def take(self, copy_id: uuid.UUID, keys: Iterable[str]) -> None:
        """The keys of one copy; copies come in ascending order."""
        self.pass_over(copy_id)
        mine = self._next[1] if self._next is not None and self._next[0] == copy_id else None
        for key in keys:
            if key == mine:
                self._next = next(self._rows, None)
            else:
                self._without_copy(key)
        if self._next is not None and self._next[0] == copy_id:
            self.pass_over(uuid.UUID(int=copy_id.int + 1))

    def end(self) -> None:
        self.pass_over(uuid.UUID(int=(1 << 128) - 1))

    def pass_over(self, until: uuid.UUID) -> None:
        """No key is to come of any copy before this one."""
        while self._next is not None and self._next[0] < until:
            self._without_octets(self._next)
            self._next = next(self._rows, None)
