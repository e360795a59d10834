"""Which copies belong to one conversation (ARC-2): those whose Message-ID, In-Reply-To or References (RFC 5322 §3.6.4)
have one in common, in one tenant, in whatever order they come."""

from __future__ import annotations

import re
import uuid
from collections.abc import Sequence

from django.db import transaction

from accounts.ids import uuid7
from accounts.models import Tenant
from delivery import mime
from delivery.models import ArchiveCopy, ArchiveReference

MOST = 50
"""Message-IDs of one copy that are looked at: the first, and the last ones."""
_ID = re.compile(r"<[^<>\s\x00\ud800-\udfff]{1,498}>")


def named(raw: bytes) -> list[str]:
    """The Message-IDs a message has and refers to, each once, in angle brackets. Never raises."""
    block = mime.read_header(mime.header_block(raw))
    found = [
        one
        for name in ("message-id", "references", "in-reply-to")
        for value in mime.values_of(block, name)
        for one in _ID.findall(value)
    ]
    once = list(dict.fromkeys(found))
    return once if len(once) <= MOST else [*once[:2], *once[2 - MOST :]]


def place(copy: ArchiveCopy, ids: Sequence[str]) -> uuid.UUID:
    """Put a copy into its thread, and make one of those it shows to be the same; returns the thread. Doing it again
    changes nothing. To be called for the copies of several tenants in the order of those."""
    with transaction.atomic():
        # One at a time of a tenant; whoever inserts a row of it does not wait for this.
        Tenant.objects.select_for_update(no_key=True).values_list("pk").get(pk=copy.tenant_id)
        known = ArchiveReference.objects.filter(tenant=copy.tenant_id, message_id__in=ids)
        threads = dict(known.values_list("message_id", "thread"))
        thread = min({*threads.values(), *([copy.thread] if copy.thread else [])}, default=copy.pk)
        others = {*threads.values()} - {thread}
        if others:
            ArchiveReference.objects.filter(thread__in=others).update(thread=thread)
            ArchiveCopy.objects.filter(thread__in=others).update(thread=thread)
        ArchiveReference.objects.bulk_create(
            ArchiveReference(id=uuid7(), tenant_id=copy.tenant_id, message_id=one, thread=thread)
            for one in ids
            if one not in threads
        )
        ArchiveCopy.objects.filter(pk=copy.pk).update(thread=thread)
    return thread
