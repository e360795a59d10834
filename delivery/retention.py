"""Bodies, messages and copies whose days are over (STO-5).

Each tenant has days of its own. A body goes first, and its row says so before it does: a crash between leaves octets
that the consistency check takes away, never a row that promises a body nobody has. A message goes when its hour is
added up (`delivery.hours`); one that has not ended stays for ever, however long it is held. What is to be archived or
to be told of waits until that is done. Days are counted by the clock that is behind (`delivery.clocks`).

Everything is deleted in small transactions, each of which can be the last: nothing is half deleted by a crash. Two at
once each take what the other has not.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from datetime import timedelta
from importlib import import_module
from time import monotonic, sleep
from typing import Any, cast

import structlog
from django.conf import settings
from django.db import transaction
from django.db.models import QuerySet

from accounts import shared_state
from accounts.ids import first_at
from accounts.models import QuotaWarning, Tenant
from delivery import chores, clocks, deletion, expiry, queues, store
from delivery.exceptions import StoreUnavailable
from delivery.models import (
    BulkAction,
    Message,
    Notice,
    Receipt,
    RefusedSession,
    WebhookDelivery,
)
from providers.models import HealthEvent

log = structlog.get_logger(__name__)

NAME = "retention"
EVERY = 3600.0
"""Seconds between two rounds through all tenants."""
BATCH = 500
"""Messages in one transaction."""
VISIT = 10
"""Batches of one tenant before it is the next one's turn."""
AT_ONCE = 16
"""Bodies deleted at the same moment: a store across the network takes its time for each."""
_PLACE = "retention-place"
_PLACE_KEPT = 24 * 3600


@dataclass(slots=True)
class Tally:
    """How many were deleted, or would be."""

    bodies: int = 0
    messages: int = 0
    copies: int = 0
    others: int = 0

    def add(self, other: Tally) -> None:
        for one in fields(Tally):
            setattr(self, one.name, getattr(self, one.name) + getattr(other, one.name))


class Pace:
    """Holds what is deleted down to RETENTION_RATE a second, so that mail is not slowed down by it."""

    def __init__(self) -> None:
        self._begun, self._count = monotonic(), 0

    def wait(self, count: int) -> None:
        """After a batch of so many: until as much time has passed as they may take."""
        self._count += count
        if settings.RETENTION_RATE:
            sleep(max(0.0, self._begun + self._count / settings.RETENTION_RATE - monotonic()))


def run(turn: chores.Turn) -> None:
    """Go on with the round through all tenants; see `delivery.chores`.

    A tenant with much to delete is left after some batches, and visited again when everybody was.
    """
    tally, pace, place = Tally(), Pace(), _Place.load()
    try:
        for tenant in _tenants(place.after):
            place.more |= not visit(tenant, turn, tally, pace)
            place.after = tenant.pk
            if turn.out_of_time():
                break
        else:
            count, left = _others(turn)
            tally.others += count
            place = _Place(ended=True, more=place.more or left)
    except StoreUnavailable as error:
        log.error("retention stopped by the message store", error=str(error))
        place = _Place(ended=True)
    place.keep()
    if any(getattr(tally, one.name) for one in fields(Tally)):
        log.info("retention", **{one.name: getattr(tally, one.name) for one in fields(Tally)})


def visit(tenant: Tenant, turn: chores.Turn, tally: Tally, pace: Pace) -> bool:
    """Delete what is over of this tenant's, some batches of each kind at most; whether nothing is left.

    Raises StoreUnavailable.
    """
    left = False
    kinds = (
        (delete_bodies, "bodies"),
        (delete_messages, "messages"),
        (delete_copies, "copies"),
        (delete_texts, "others"),
    )
    for delete, name in kinds:
        for _ in range(VISIT):
            count = delete(tenant)
            setattr(tally, name, getattr(tally, name) + count)
            if count < BATCH:
                break
            pace.wait(count)
            if turn.out_of_time():
                return False
        else:
            left = True
    return not left


def survey(tenant: Tenant) -> Tally:
    """How much of this tenant's is over."""
    now = clocks.earlier()
    return Tally(
        expiry.bodies(tenant, now).count(), expiry.messages(tenant, now).count(), expiry.copies(tenant, now).count()
    )


@dataclass(slots=True)
class _Place:
    """Where a round is: after which tenant, and whether one before that has more to delete. Kept in the shared store;
    when that forgets it, the round begins anew."""

    after: uuid.UUID | None = None
    more: bool = False
    ended: bool = False

    @classmethod
    def load(cls) -> _Place:
        try:
            kept = cast("bytes | None", shared_state.client().get(shared_state.key(_PLACE)))
        except shared_state.Unavailable:
            return cls()
        after, _, more = (kept or b"").decode().partition(" ")
        return cls(uuid.UUID(after), bool(more)) if after else cls()

    def keep(self) -> None:
        try:
            if self.after is not None and not self.ended:
                value = f"{self.after} {'more' if self.more else ''}"
                shared_state.client().set(shared_state.key(_PLACE), value, ex=_PLACE_KEPT)
            else:
                shared_state.client().delete(shared_state.key(_PLACE))
        except shared_state.Unavailable as error:
            log.warning("retention begins anew next time", error=str(error))
        if self.more or not self.ended:
            chores.again(NAME)


def _tenants(after: uuid.UUID | None) -> Iterator[Tenant]:
    found = Tenant.objects.order_by("pk")
    return (found if after is None else found.filter(pk__gt=after)).iterator(chunk_size=500)


# Bodies


def delete_bodies(tenant: Tenant) -> int:
    """Delete a batch of bodies; returns how many. Raises StoreUnavailable."""
    now = clocks.earlier()
    with transaction.atomic():
        found = dict(deletion.locked(expiry.bodies(tenant, now), BATCH).values_list("pk", "store_key"))
        Message.objects.filter(pk__in=found).update(body_deleted_at=now)
    delete_from_store(list(found.values()))
    return len(found)


def delete_from_store(keys: Sequence[str]) -> None:
    """What cannot be deleted is left to the consistency check."""
    if not keys:
        return
    with ThreadPoolExecutor(min(AT_ONCE, len(keys)), "retention") as pool:
        failures = [error for error in pool.map(_attempt, keys) if error is not None]
    if failures:
        log.error("bodies left in the message store", count=len(failures), error=str(failures[0]))
        raise failures[0]


def _attempt(key: str) -> StoreUnavailable | None:
    try:
        store.delete(key)
    except StoreUnavailable as error:
        return error
    return None


# Messages


def delete_messages(tenant: Tenant) -> int:
    """Delete a batch of messages with all that belongs to them; returns how many."""
    return len(deletion.messages(expiry.messages(tenant, clocks.earlier()), BATCH))


# Copies


def delete_copies(tenant: Tenant) -> int:
    """Delete a batch of archive copies; returns how many. Raises StoreUnavailable."""
    keys = deletion.copies(expiry.copies(tenant, clocks.earlier()), BATCH)
    delete_from_store([key for key in keys if key])
    return len(keys)


def delete_texts(tenant: Tenant) -> int:
    """Delete a batch of what copies are found by, where the tenant does not want that any more; returns how many."""
    return 0 if tenant.full_text else deletion.texts(tenant.pk, BATCH)


# Everything else

_Page = Callable[[QuerySet[Any], int], int]
OTHERS: tuple[tuple[QuerySet[Any], int, _Page], ...] = (
    (HealthEvent.objects.all(), 90, deletion.page),
    (QuotaWarning.objects.all(), 400, deletion.page),
    (Receipt.objects.all(), 30, deletion.page),
    (RefusedSession.objects.all(), 30, deletion.page),
    (Notice.objects.exclude(status=Notice.Status.PENDING), 30, deletion.page),
    (WebhookDelivery.objects.exclude(status=WebhookDelivery.Status.PENDING), 30, deletion.deliveries),
    (BulkAction.objects.exclude(finished_at=None), 400, deletion.page),
)
"""Rows, the days they are kept, and how a page of them is deleted."""


def _others(turn: chores.Turn) -> tuple[int, bool]:
    """Delete these; returns how many, and whether there was no time for more."""
    now, deleted = clocks.earlier(), 0
    for found, days, delete in OTHERS:
        old = found.filter(pk__lt=first_at(now - timedelta(days=days)))
        while count := delete(old.all(), BATCH):
            deleted += count
            if turn.out_of_time():
                return deleted, True
    import_module(settings.SESSION_ENGINE).SessionStore.clear_expired()
    return deleted, False


CHORE = chores.Chore(name=NAME, queue=queues.MAINTENANCE, due=chores.every(EVERY, NAME), run=run)
