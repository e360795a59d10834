"""Copies of what was sent: which are wanted, and how one is read (ARC-1). `delivery.archiving` makes them.

A copy is the MIME of one successful attempt, compressed by gzip and sealed (`delivery.sealed`) for the key it lies
under, whether bodies are encrypted or not.
"""

from __future__ import annotations

import gzip
import hashlib
import uuid
import zlib
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

from django.utils import timezone

from accounts.ids import time_of, uuid7
from delivery import sealed, store
from delivery.exceptions import BodyNotFound, CopyUnreadable
from delivery.models import ArchiveCopy, ArchiveRecipient, DeliveryLog, Message

FOLDER = "archive"
_SENT = frozenset({DeliveryLog.Status.DELIVERED, DeliveryLog.Status.PARTIAL})


def key_for(copy_id: uuid.UUID, number: int = 0) -> str:
    """Where a copy lies: by month and by about 65 s of time, so that keys in their order are copies in theirs.
    `number` is for a second place, where the first holds what a broken off attempt has left."""
    end = f"-{number}" if number else ""
    return f"{FOLDER}/{time_of(copy_id):%Y%m}/{copy_id.hex[:8]}/{copy_id}{end}.gz"


def want(attempts: Sequence[DeliveryLog], messages: Mapping[uuid.UUID, Message]) -> None:
    """Write down that a copy is to be made of each attempt that was successful, where its tenant archives.

    To be called in the transaction that records the attempts; `messages` have their tenants. A repeat of what is
    written down already, by the provider's own id, is passed over.
    """
    now = timezone.now()
    copies = {
        attempt.pk: _copy(messages[attempt.message_id], attempt, now)
        for attempt in attempts
        if attempt.status in _SENT and attempt.message_id in messages and messages[attempt.message_id].tenant.archived
    }
    if not copies:
        return
    written = _write(list(copies.values()))
    for log_id in copies.keys() - written:
        if not _is_repeat(copies[log_id]):
            # Two messages, or two calls, under one id of the provider: this one is known by its attempt alone.
            copies[log_id].provider_message_id = ""
            written |= _write([copies[log_id]])


def _copy(message: Message, attempt: DeliveryLog, now: datetime) -> ArchiveCopy:
    results = attempt.results
    taken = [address for address in attempt.recipients if results.get(address, {}).get("status") == "delivered"]
    return ArchiveCopy(
        id=uuid7(),
        tenant_id=message.tenant_id,
        account_id=message.account_id,
        message_id=message.pk,
        delivery_log_id=attempt.pk,
        provider_id=attempt.provider_id,
        provider_name=attempt.provider_name,
        provider_message_id=attempt.provider_message_id,
        mail_from=message.mail_from,
        header_from=message.header_from,
        recipients=taken,
        subject=message.subject,
        message_id_header=message.message_id_header,
        next_attempt_at=now,
        created_at=now,
    )


def _write(copies: Sequence[ArchiveCopy]) -> set[uuid.UUID]:
    """Returns the attempts of those that are written, now or before."""
    ArchiveCopy.objects.bulk_create(copies, ignore_conflicts=True)
    logs = [copy.delivery_log_id for copy in copies]
    found = dict(ArchiveCopy.objects.filter(delivery_log_id__in=logs).values_list("pk", "delivery_log_id"))
    ArchiveRecipient.objects.bulk_create(
        ArchiveRecipient(copy_id=copy.pk, address=address)
        for copy in copies
        if copy.pk in found
        for address in copy.recipients
    )
    return set(found.values())


def _is_repeat(copy: ArchiveCopy) -> bool:
    """Whether the copy that has this provider's id already is of the same message and recipients."""
    same = ArchiveCopy.objects.filter(
        provider=copy.provider_id, provider_message_id=copy.provider_message_id, message_id=copy.message_id
    )
    return any(set(copy.recipients) <= set(known) for known in same.values_list("recipients", flat=True))


def packed(mime: bytes, key: str) -> bytes:
    """The octets of a copy as they lie under `key`."""
    return sealed.seal(gzip.compress(mime, mtime=0), sealed.copy_keys(), kind=sealed.COPY, context=key.encode())


def read(copy: ArchiveCopy) -> bytes:
    """The MIME of a copy. Raises CopyUnreadable when there is none, or it is not what was put there, and
    StoreUnavailable, also where the key is not given that it was sealed with."""
    if copy.status != ArchiveCopy.Status.KEPT:
        raise CopyUnreadable("The copy has not been made yet." if copy.next_attempt_at else "There is no copy.")
    mime = unpacked(copy.store_key)
    if len(mime) != copy.size or digest(mime) != copy.checksum:
        raise CopyUnreadable("The copy is not what was archived: its checksum does not match.")
    return mime


def unpacked(key: str) -> bytes:
    """The MIME that lies under a key; raises CopyUnreadable, StoreUnavailable."""
    try:
        return gzip.decompress(
            sealed.unseal(store.read(key), sealed.copy_keys(), kind=sealed.COPY, context=key.encode())
        )
    except BodyNotFound as error:
        raise CopyUnreadable("The copy is not in the message store.") from error
    except (sealed.Broken, OSError, EOFError, zlib.error) as error:
        raise CopyUnreadable(f"The copy is damaged: {error}.") from error


def digest(mime: bytes) -> str:
    """SHA-256, hexadecimal."""
    return hashlib.sha256(mime).hexdigest()


def retry(ids: Collection[uuid.UUID]) -> int:
    """Try again what could not be archived; returns how many."""
    failed = ArchiveCopy.objects.filter(status=ArchiveCopy.Status.FAILED, pk__in=ids)
    return failed.update(status=ArchiveCopy.Status.PENDING, tries=0, next_attempt_at=timezone.now(), error_text="")
