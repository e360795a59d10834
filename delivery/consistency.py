"""Whether every message has its body and every body its message, and the same of archive copies (STO-6).

What is younger than a grace hour is left alone: it may be on its way. A finding is looked at once more by itself before
it is told, and before anything is repaired:

- a message still to be sent without its body becomes `storage_error`, and somebody is told;
- of one that has ended, or was discarded, the row says from now on that its body is gone;
- a body whose row says that it is gone, and a body or copy without a row, is deleted;
- a copy whose octets are gone has failed, and says so.

Keys that are not ours, and packs that are damaged, are told of and never touched. Before anything is repaired all is
compared: where very much is wrong (`Report.doubtful`), it is most likely not the messages but the database or the store
that is the wrong one, and whatever was repaired would be lost for good.
"""

from __future__ import annotations

import sys
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import chain, groupby, takewhile

import structlog
from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from accounts.ids import first_at
from delivery import claims, clocks, packs, sealed, store
from delivery.archive import FOLDER
from delivery.exceptions import BodyNotFound, StoreUnavailable
from delivery.findings import DAMAGED, ENDED, LEFT, NEEDED, NO_COPY, NO_OCTETS, NO_ROW, STRANGE, Report
from delivery.matching import Bodies, Copies, Place, Stopped, copy_of, window_of
from delivery.models import ENDED_STATUSES, ArchiveCopy, Message, MessageStatus

log = structlog.get_logger(__name__)

GRACE = timedelta(hours=1)
APART = timedelta(days=1)
"""How far apart the ids of messages of one pack can be, at the very most: they came in within minutes."""
BATCH = 500
_BEHIND_ARCHIVE = f"{FOLDER}0"  # in the order of letters "0" follows "/"
LOST = "The body is not in the message store."


@dataclass(frozen=True, slots=True)
class Position:
    """Where a check goes on: a window of bodies, or, when these are done, the id of a copy."""

    window: int = 0
    copy: uuid.UUID | None = None


class Check:
    """One check, or a part of one: `run` goes on from `position` and returns where the next has to, None at the end.
    With `repair` it mends what it finds, but `most` findings at most.

    Raises StoreUnavailable; what was found until then is in the report.
    """

    def __init__(
        self, *, repair: bool, most: int = sys.maxsize, position: Position | None = None, now: datetime | None = None
    ) -> None:
        self.report = Report()
        self._most, self._position = most if repair else 0, position or Position()
        self._old = (now or clocks.earlier()) - GRACE
        self._rows: list[Place] = []
        self._keys: list[str] = []
        self._copies: list[Place] = []
        self._octets: list[str] = []

    def run(self, stop: Callable[[], bool] = lambda: False) -> Position | None:
        try:
            if self._position.copy is None:
                self._bodies(stop)
            return self._archive(self._position.copy or uuid.UUID(int=0), stop)
        except Stopped as stopped:
            return Position(window=stopped.window)
        finally:
            self._look_again()

    def _bodies(self, stop: Callable[[], bool]) -> None:
        bodies = Bodies(self._position.window, without_body=self._suspect_row, without_row=self._suspect_key, stop=stop)
        bodies.take(self._all_but_copies(Bodies.start(self._position.window)))
        bodies.end()

    @property
    def _repair(self) -> bool:
        return self.report.repaired.total() < self._most

    def _all_but_copies(self, start: str) -> Iterator[str]:
        """All keys outside of the archive's folder, which may hold very many and is read afterwards."""
        before = takewhile(lambda key: not key.startswith(f"{FOLDER}/"), store.iterate(self._old, start))
        behind = store.iterate(self._old, max(start, _BEHIND_ARCHIVE))
        for key in chain(before, behind):
            self.report.keys += 1
            if window_of(key) is None:
                self.report.note(STRANGE, key, repaired=False)
            else:
                yield key

    def _archive(self, since: uuid.UUID, stop: Callable[[], bool]) -> Position | None:
        copies = Copies(since, self._old, without_octets=self._suspect_copy, without_copy=self._suspect_octets)
        folder = store.iterate(self._old, Copies.start(since))
        keys = takewhile(lambda key: key.startswith(f"{FOLDER}/"), folder)
        for copy_id, mine in groupby(keys, copy_of):
            if copy_id is None:
                for key in mine:
                    self.report.keys += 1
                    self.report.note(STRANGE, key, repaired=False)
                continue
            if stop():
                copies.pass_over(copy_id)
                return Position(copy=copy_id)
            together = list(mine)
            self.report.keys += len(together)
            copies.take(copy_id, together)
        copies.end()
        return None

    # Suspects are collected, and looked at again some at a time.

    def _suspect_row(self, place: Place) -> None:
        if place[0] < first_at(self._old):
            self._rows.append(place)
            self._look_again(BATCH)

    def _suspect_key(self, key: str) -> None:
        self._keys.append(key)
        self._look_again(BATCH)

    def _suspect_copy(self, place: Place) -> None:
        self._copies.append(place)
        self._look_again(BATCH)

    def _suspect_octets(self, key: str) -> None:
        self._octets.append(key)
        self._look_again(BATCH)

    def _look_again(self, most: int = 1) -> None:
        if len(self._rows) >= most:
            rows, self._rows = self._rows, []
            self._look_at_rows([place for place in rows if _is_gone(place[1])])
        if len(self._keys) >= most:
            keys, self._keys = self._keys, []
            self._look_at_keys(keys)
        if len(self._copies) >= most:
            copies, self._copies = self._copies, []
            self._look_at_copies([place for place in copies if _is_gone(place[1])])
        if len(self._octets) >= most:
            octets, self._octets = self._octets, []
            self._look_at_octets(octets)

    def _look_at_rows(self, places: list[Place]) -> None:
        keys = dict(places)
        # Of a dead letter that is one for this reason it is known.
        still = Message.objects.filter(pk__in=keys, body_deleted_at=None).exclude(status=MessageStatus.STORAGE_ERROR)
        for message in still.order_by("pk"):
            if message.store_key != keys[message.pk]:
                continue
            ended = message.status in ENDED_STATUSES
            mended = self._repair and (_say_it_is_gone(message) if ended else _give_up(message))
            if not ended:
                log.error("message without its body", message_id=str(message.pk), key=message.store_key, mended=mended)
            self.report.note(ENDED if ended else NEEDED, str(message.pk), mended)

    def _look_at_keys(self, keys: list[str]) -> None:
        named = _named(keys)
        for key in keys:
            whole = key.endswith(packs.SUFFIX)  # a pack whose table cannot be read, or in which nothing is left
            gone = [when for name, when in named.items() if name == key or (whole and name.startswith(f"{key}/"))]
            if None in gone:
                if whole:
                    self.report.note(DAMAGED, key, repaired=False)
                continue
            if any(when and when >= self._old for when in gone) or _is_gone(key):
                continue  # it is being deleted at this moment
            mended = self._repair
            if mended:
                store.delete(key)
            self.report.note(LEFT if gone else NO_ROW, key, mended)

    def _look_at_copies(self, places: list[Place]) -> None:
        for copy_id, key in places:
            mine = ArchiveCopy.objects.filter(pk=copy_id, store_key=key, status=ArchiveCopy.Status.KEPT)
            if not mine.exists():
                continue
            log.error("archive copy without its octets", copy_id=str(copy_id), key=key)
            gone = {"status": ArchiveCopy.Status.FAILED, "error_text": "The copy is not in the message store."}
            self.report.note(NO_OCTETS, str(copy_id), self._repair and bool(mine.update(**gone)))

    def _look_at_octets(self, keys: list[str]) -> None:
        ids = {copy_of(key) for key in keys}
        # Of one that is being made they may be what is about to be recorded.
        used = Q(status=ArchiveCopy.Status.PENDING) | ~Q(store_key="")
        known = ArchiveCopy.objects.filter(used, pk__in=[id_ for id_ in ids if id_])
        wanted = {copy.pk: None if copy.status == ArchiveCopy.Status.PENDING else copy.store_key for copy in known}
        for key in keys:
            if wanted.get(copy_of(key) or uuid.UUID(int=0), "") in (None, key):
                continue
            if _is_gone(key):
                continue
            mended = self._repair
            if mended:
                store.delete(key)
            self.report.note(NO_COPY, key, mended)


def _is_gone(key: str) -> bool:
    try:
        store.open(key).close()
    except BodyNotFound:
        return True
    except sealed.SealError:
        pass  # it is there, whoever can read it
    except StoreUnavailable as error:
        if not isinstance(error.__cause__, packs.NoPack):
            raise
    return False


def _named(keys: list[str]) -> dict[str, datetime | None]:
    """Those of `keys` that a message names as its body, and names within a pack that is among them as a whole, each
    with the time at which its row has said that it is gone; None where the body is wanted."""
    windows = [window for key in keys if (window := window_of(key)) is not None]
    first, last = (_moment(edge) for edge in (min(windows), max(windows) + 1))
    near = Message.objects.filter(pk__gte=first_at(first - APART), pk__lt=first_at(last + APART))
    named = Q(store_key__in=keys)
    for whole in (key for key in keys if key.endswith(packs.SUFFIX)):
        named |= Q(store_key__startswith=f"{whole}/")
    return dict(near.filter(named).values_list("store_key", "body_deleted_at"))


def _moment(window: int) -> datetime:
    return datetime.fromtimestamp((window << 16) / 1000, timezone.now().tzinfo)


def _say_it_is_gone(message: Message) -> bool:
    still = Message.objects.filter(pk=message.pk, status__in=ENDED_STATUSES, body_deleted_at=None)
    return bool(still.update(body_deleted_at=timezone.now()))


def _give_up(message: Message) -> bool:
    """Make a dead letter of it; one that a worker has in its hands meets the same end there."""
    with transaction.atomic():  # what is held must not be found in nobody's hands, and be sent
        return claims.seize(message) and claims.park(message, "storage_error", LOST, MessageStatus.STORAGE_ERROR)
