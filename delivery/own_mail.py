"""Acceptance of what we write ourselves: bytes into the store, rows, a ring, as for any other mail (ACC-1, DEL-10).

Quotas, sender checks and back-pressure are for clients, and are not asked. The envelope sender is empty, so that nobody
answers it with a report of his own (RFC 5321 §4.5.5).
"""

from __future__ import annotations

import io
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import structlog
from django.conf import settings
from django.db import transaction
from django.utils import timezone

from accounts.ids import uuid7
from accounts.models import Account
from delivery import events, queue, store
from delivery.intake import FIRST_LOOK
from delivery.models import EventType, Message, MessageStatus, Recipient
from providers.envelope import ascii_address
from providers.exceptions import Unsupported

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Letter:
    """`key` becomes the message's id; `recipients` are envelope addresses, `message_id` has its angle brackets."""

    key: uuid.UUID
    account: Account
    recipients: Sequence[str]
    raw: bytes
    header_from: str
    subject: str
    message_id: str
    smtputf8: bool = False


class _Overtaken(Exception):
    """Somebody else has done it meanwhile."""


def daemon_sender(about: Message) -> str:
    """The address notices about a message are from: in the domain it was sent from itself, which is the one its
    providers take mail from, and sign for."""
    if settings.NOTICE_FROM:
        return str(settings.NOTICE_FROM)
    for address in (about.header_from, about.mail_from):
        domain = reachable(address).rpartition("@")[2]
        if domain and domain.isascii():
            return f"MAILER-DAEMON@{domain}"
    return f"MAILER-DAEMON@{settings.SMTP['HOSTNAME']}"


def known_sender(about: Message) -> str:
    """An address that its providers are known to take mail from: some know senders, and not their domains."""
    own = reachable(about.header_from)
    return str(settings.NOTICE_FROM) or (own if own.isascii() and own.count("@") == 1 else daemon_sender(about))


def reachable(address: str) -> str:
    """The address with its domain in ASCII, where it has such a form."""
    try:
        return ascii_address(address)
    except Unsupported:
        return address


def accept(letter: Letter, settle: Callable[[], bool]) -> bool:
    """Take the letter if `settle`, called in the transaction of its rows, says that it is wanted; returns whether.

    A crash before the commit leaves a body nobody refers to, one after it a message the sweeper finds. Raises
    StoreUnavailable and DatabaseError.
    """
    [store_key] = store.keys_for([(letter.key, len(letter.raw))])
    store.put(store_key, io.BytesIO(letter.raw))
    try:
        with transaction.atomic():
            if not settle():
                raise _Overtaken
            _insert(letter, store_key)
    except _Overtaken:
        store.forget(store_key)
        return False
    try:
        queue.ring([letter.key])
    except queue.RingFailed as error:
        log.warning("ring failed; left to the sweeper", message_id=str(letter.key), error=str(error))
    return True


def _insert(letter: Letter, store_key: str) -> None:
    now = timezone.now()
    message = Message.objects.create(
        id=letter.key,
        tenant_id=letter.account.tenant_id,
        account=letter.account,
        status=MessageStatus.QUEUED,
        source=Message.Source.NOTICE,
        mail_from="",
        header_from=letter.header_from[:320],
        subject=letter.subject[:500],
        message_id_header=letter.message_id[:500],
        size=len(letter.raw),
        recipient_count=len(letter.recipients),
        smtputf8=letter.smtputf8,
        store_key=store_key,
        accepted_at=now,
        next_attempt_at=now + FIRST_LOOK,
    )
    Recipient.objects.bulk_create(
        Recipient(id=uuid7(), message=message, address=address, updated_at=now) for address in letter.recipients
    )
    events.record(
        [events.about(message, EventType.RECEIVED, now, source=message.source, recipients=len(letter.recipients))]
    )
