"""Making the copies that are wanted (ARC-1).

A copy is of the octets as they left us, made anew from the stored body in the way the sender has made them; of a
provider that keeps the message under an id, as that provider keeps it. The body is not deleted before that
(`delivery.expiry`). A worker that dies leaves at most octets under a key no copy names, for the consistency check.
"""

from __future__ import annotations

import io
import uuid
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, BinaryIO

import structlog
from django.db import DatabaseError, transaction
from django.utils import timezone

from accounts.models import Tenant
from delivery import archive, archive_text, archive_threads, chores, mime, prepare, queues, store
from delivery.exceptions import BodyNotFound, CopyUnreadable, StoreUnavailable
from delivery.models import ArchiveCopy, ArchiveText, DeliveryLog, Message
from providers import connections
from providers.base import Backend, OutboundMessage
from providers.exceptions import Misconfigured, ProviderError
from providers.models import Provider

log = structlog.get_logger(__name__)

PAGE = 64
"""Copies made together."""
MOST_BYTES = 64 * 1024 * 1024
"""Octets of the messages of one page; a larger single message goes alone."""
AT_ONCE = 8
"""Bodies read, or messages fetched, at the same moment."""
LEASE = timedelta(minutes=10)
"""After which another worker takes up what one has begun."""
FETCH_WAITS = (60, 300, 900, 1800, 3600)
"""Seconds before the provider is asked again for a message that it does not show (yet). After that our own octets are
kept."""
RETRY_WAITS = (60, 300, 900, 3600, 4 * 3600, 12 * 3600, 24 * 3600)
"""Seconds before each further try, above all of a store that is away; after that a person must have a look."""


class _NotYet(Exception):
    """To be tried again; the text says why, without any secret."""


class _Lost(Exception):
    """No try will ever succeed."""


@dataclass(slots=True)
class _Work:
    """One copy on its way."""

    copy: ArchiveCopy
    message: Message | None
    attempt: DeliveryLog | None
    backend: Backend | None = None
    mime: bytes = b""
    origin: str = ArchiveCopy.Origin.SENT
    key: str = ""
    stored_size: int = 0
    error: Exception | None = None
    indexed: bool = False
    words: str = ""
    named: Sequence[str] = ()


def due() -> bool:
    return ArchiveCopy.objects.filter(next_attempt_at__lte=timezone.now()).exists()


def run(turn: chores.Turn) -> None:
    """Make what is due, page by page; see `delivery.chores`."""
    while not turn.out_of_time() and (works := _begin()):
        with ThreadPoolExecutor(AT_ONCE, "archive") as pool:
            list(pool.map(_get, works))
        _put([work for work in works if work.error is None])
        _record(works)


def _begin() -> list[_Work]:
    """Take a page of what is due; whoever dies with one of them has used up a try of it."""
    now = timezone.now()
    with transaction.atomic():
        wanted = ArchiveCopy.objects.filter(next_attempt_at__lte=now, status=ArchiveCopy.Status.PENDING)
        copies = list(wanted.select_for_update(skip_locked=True).order_by("next_attempt_at")[:PAGE])
        messages = Message.objects.in_bulk([copy.message_id for copy in copies])
        copies = _fitting(copies, messages)
        for copy in copies:
            copy.tries += 1
        ArchiveCopy.objects.bulk_update(copies, ["tries"])
        ArchiveCopy.objects.filter(pk__in=[copy.pk for copy in copies]).update(next_attempt_at=now + LEASE)
    attempts = DeliveryLog.objects.defer("progress").in_bulk([copy.delivery_log_id for copy in copies])
    providers = Provider.objects.defer("config").in_bulk([copy.provider_id for copy in copies if copy.provider_id])
    indexed = set(
        Tenant.objects.filter(pk__in={copy.tenant_id for copy in copies}, full_text=True).values_list("pk", flat=True)
    )
    return [
        _Work(
            copy,
            messages.get(copy.message_id),
            attempts.get(copy.delivery_log_id),
            _keeping(copy, providers.get(copy.provider_id)) if copy.provider_id else None,
            indexed=copy.tenant_id in indexed,
        )
        for copy in copies
    ]


def _fitting(copies: Sequence[ArchiveCopy], messages: dict[uuid.UUID, Message]) -> list[ArchiveCopy]:
    """As many from the front as may be in memory together; one at least."""
    size = 0
    taken: list[ArchiveCopy] = []
    for copy in copies:
        size += messages[copy.message_id].size if copy.message_id in messages else 0
        if taken and size > MOST_BYTES:
            break
        taken.append(copy)
    return taken


def _keeping(copy: ArchiveCopy, provider: Provider | None) -> Backend | None:
    """The backend, where it can be asked for the message as it keeps it."""
    if provider is None or not copy.provider_message_id or copy.tries > len(FETCH_WAITS):
        return None
    try:
        backend = connections.backend_for(provider)
    except (Misconfigured, DatabaseError):
        return None
    return backend if backend.keeps_sent else None


def _get(work: _Work) -> None:
    """The MIME of the copy, or what stood in the way. Runs in a thread; asks the database nothing and never raises."""
    try:
        ours = _as_sent(work)
        theirs = _fetched(work, ours)
        work.mime, work.origin = (ours, work.origin) if theirs is None else (theirs, ArchiveCopy.Origin.FETCHED)
        work.named = archive_threads.named(work.mime)
        work.words = archive_text.of(work.mime) if work.indexed else ""
    except Exception as error:  # noqa: BLE001 -- _record tells of it
        work.error = error


def _as_sent(work: _Work) -> bytes:
    message = work.message
    if message is None:
        raise _Lost("The message is no longer there.")
    if message.body_deleted_at is not None:
        raise _Lost("The body of the message is no longer stored.")
    try:
        return prepare.as_sent(store.read(message.store_key))[0]
    except BodyNotFound as error:
        raise _NotYet("The body of the message is not in the message store.") from error


def _fetched(work: _Work, ours: bytes) -> bytes | None:
    """What the provider keeps; None where it is not to be asked any more."""
    if work.backend is None or work.message is None:
        return None
    message = work.message
    outbound = OutboundMessage(
        message_id=str(message.pk),
        idempotency_key=str(work.attempt.idempotency_key) if work.attempt else "",
        mail_from=message.mail_from,
        recipients=tuple(work.copy.recipients),
        envelope_recipients=tuple(work.copy.recipients),
        raw=ours,
        smtputf8=message.smtputf8,
        parse=mime.parse,
    )
    try:
        found = work.backend.fetch_sent(outbound, work.copy.provider_message_id)
    except ProviderError as failure:
        raise _NotYet(f"The provider does not give the message out: {failure.text}") from failure
    if not found:
        raise _NotYet("The provider does not show the message yet.")
    return found


def _put(works: Sequence[_Work]) -> None:
    """Into the store, all in one round. What a broken off attempt has left under a key is taken when it is the same."""
    items = []
    for work in works:
        work.key = archive.key_for(work.copy.pk)
        octets = archive.packed(work.mime, work.key)
        work.stored_size = len(octets)
        items.append((work.key, _Octets(octets)))
    for work, error in zip(works, store.put_many(items), strict=True):
        if isinstance(error, FileExistsError):
            _put_beside(work)
        else:
            work.error = error


def _put_beside(work: _Work) -> None:
    try:
        if archive.unpacked(work.key) == work.mime:
            return
    except StoreUnavailable as error:
        work.error = error
        return
    except CopyUnreadable:
        pass  # cut off by a crash of the machine
    work.key = archive.key_for(work.copy.pk, work.copy.tries)
    octets = archive.packed(work.mime, work.key)
    work.stored_size = len(octets)
    [work.error] = store.put_many([(work.key, _Octets(octets))])


def _record(works: Sequence[_Work]) -> None:
    """What became of each; nothing of those that another worker has taken over meanwhile."""
    now = timezone.now()
    with transaction.atomic():
        # By tenant, so that two workers never wait for each other in a circle.
        for work in sorted(works, key=lambda work: work.copy.tenant_id):
            mine = ArchiveCopy.objects.filter(pk=work.copy.pk, status=ArchiveCopy.Status.PENDING, tries=work.copy.tries)
            if work.error is not None:
                mine.update(**_put_off(work, work.error))
                continue
            kept = mine.update(
                status=ArchiveCopy.Status.KEPT,
                origin=work.origin,
                store_key=work.key,
                size=len(work.mime),
                stored_size=work.stored_size,
                checksum=archive.digest(work.mime),
                next_attempt_at=None,
                error_text="",
                kept_at=now,
            )
            if kept:
                archive_threads.place(work.copy, work.named)
            if kept and work.indexed:
                text = ArchiveText(copy_id=work.copy.pk, tenant_id=work.copy.tenant_id, words=work.words)
                ArchiveText.objects.bulk_create([text], ignore_conflicts=True)
    log.info("archived", copies=sum(work.error is None for work in works), of=len(works))


def _put_off(work: _Work, error: Exception) -> dict[str, Any]:
    """Tell of it, and say when it is tried again, if ever."""
    known = isinstance(error, _NotYet | _Lost | StoreUnavailable)
    text = str(error) if known else f"The copy could not be made ({type(error).__name__})."
    waits = FETCH_WAITS if work.backend is not None else RETRY_WAITS
    told = {"copy_id": str(work.copy.pk), "message_id": str(work.copy.message_id), "tries": work.copy.tries}
    told |= {"tenant_id": str(work.copy.tenant_id), "error": text}
    if isinstance(error, _Lost) or work.copy.tries > len(RETRY_WAITS):
        log.error("not archived", **told, exc_info=None if known else error)
        return {"status": ArchiveCopy.Status.FAILED, "next_attempt_at": None, "error_text": text[:500]}
    log.warning("not archived yet", **told, exc_info=None if known else error)
    wait = timedelta(seconds=waits[min(work.copy.tries, len(waits)) - 1])
    return {"next_attempt_at": timezone.now() + wait, "error_text": text[:500]}


class _Octets:
    """A body in memory."""

    def __init__(self, octets: bytes) -> None:
        self._octets, self.size = octets, len(octets)

    def open(self) -> BinaryIO:
        return io.BytesIO(self._octets)

    def header_block(self) -> bytes:
        raise NotImplementedError


CHORE = chores.Chore(name="archive", queue=queues.MAINTENANCE, due=due, run=run)
