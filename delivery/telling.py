"""The chore that works off notices: reports to senders, digests for admins, what webhooks tell (DEL-10).

However much fails, nobody gets more mail of it than they can read: one report tells of all of a message that is due,
the next on the same message comes NOTICE_DIGEST_INTERVAL later, and beyond NOTICE_MOST_REPORTS in an hour to one
sender the digest tells of the others.

Each step is taken by a later `next_attempt_at` and ended in the transaction of the mail that tells it, so that a crash
anywhere between repeats it, and nothing is told twice. Who was served meanwhile is taken out again.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any, TypeAlias

import structlog
from django.conf import settings
from django.db import DatabaseError, transaction
from django.db.models import F, Max
from django.utils import timezone

from accounts.ids import first_at, uuid7
from delivery import chores, dsn, mime, notices, own_mail, queues, store, tenant_digest
from delivery.exceptions import BodyNotFound, StoreUnavailable
from delivery.models import (
    ENDED_STATUSES,
    Event,
    EventType,
    Message,
    MessageStatus,
    Notice,
    OutboxEntry,
    Recipient,
    WebhookDelivery,
)
from delivery.own_mail import Letter

log = structlog.get_logger(__name__)

PAGE = 20
LEASE = timedelta(minutes=2)
LONGEST_PAUSE = timedelta(hours=1)
REPORTS_WITHIN = timedelta(hours=1)
"""The time in which NOTICE_MOST_REPORTS are counted."""
MOST_TRIES = 10
"""Tries after which a notice that cannot be written by our own fault goes the next way."""
CLOCKS = timedelta(minutes=1)
HEADER_READ = 64 * 1024
_TELLING = (
    EventType.FAILED,
    EventType.PARTIAL,
    EventType.REJECTED,
    EventType.DEAD_LETTER,
    EventType.SUPPRESSED,
    EventType.BOUNCED,
)

Entries: TypeAlias = list[dict[str, Any]]


def due() -> bool:
    return Notice.objects.filter(next_attempt_at__lte=timezone.now()).exists()


def run(turn: chores.Turn) -> None:
    """Work off what is due, a page at a time."""
    while not turn.out_of_time():
        page = _take()
        for same in _by_message(page):
            _do(same)
        digests = tenant_digest.send_due(turn)
        if not page and not digests:
            return


CHORE = chores.Chore(name="notices", queue=queues.EVENTS, due=due, run=run)


def _take() -> list[Notice]:
    """Notices that nobody else works on for the time of a lease, and all that are due of the same messages."""
    now = timezone.now()
    with transaction.atomic():
        free = Notice.objects.select_for_update(skip_locked=True).filter(
            next_attempt_at__lte=now, kind__in=(Notice.Kind.DSN, Notice.Kind.WEBHOOK)
        )
        page = list(free.order_by("next_attempt_at")[:PAGE])
        if page:
            same = free.filter(message__in={notice.message_id for notice in page})
            page += same.exclude(pk__in=[notice.pk for notice in page])
        Notice.objects.filter(pk__in=[notice.pk for notice in page]).update(
            next_attempt_at=now + LEASE, tries=F("tries") + 1
        )
    for notice in page:
        notice.next_attempt_at, notice.tries = now + LEASE, notice.tries + 1
    return page


def _by_message(page: Iterable[Notice]) -> list[list[Notice]]:
    """Those of one message and one kind together."""
    found: dict[tuple[uuid.UUID, str], list[Notice]] = {}
    for notice in page:
        found.setdefault((notice.message_id, notice.kind), []).append(notice)
    return list(found.values())


def _do(same: list[Notice]) -> None:
    message_id = same[0].message_id
    try:
        message = Message.objects.select_related("account", "tenant").get(pk=message_id)
        current = notices.failed_now([message]).get(message.pk, {})
        left: list[tuple[Notice, Entries]] = []
        for notice in same:
            entries = [current[entry["address"]] for entry in notice.recipients if entry["address"] in current]
            if entries:
                left.append((notice, entries))
            else:
                _end(notice, "Whoever it was about was served meanwhile, or is tried again.", recipients=[])
        if same[0].kind == Notice.Kind.WEBHOOK:
            for notice, entries in left:
                _leave_to_webhooks(notice, message, entries)
        elif left:
            _report(left, message)
    except (DatabaseError, StoreUnavailable, OSError) as error:
        log.error("notices put off", message_id=str(message_id), error=f"{type(error).__name__}: {error}")
        for notice in same:
            _put_off(notice)
    except Exception:
        log.exception("notices not written", message_id=str(message_id))
        for notice in same:
            if notice.tries >= MOST_TRIES:
                _by_digest(notice, "It could not be written; see the log.")
            else:
                _put_off(notice)


def _mine(notice: Notice) -> Any:
    """The notice as long as nobody else has taken or ended it."""
    return Notice.objects.filter(
        pk=notice.pk, status=Notice.Status.PENDING, next_attempt_at=notice.next_attempt_at, kind=notice.kind
    )


def _end(notice: Notice, text: str, **values: Any) -> bool:
    """Nothing more is to be done for it; whether it was still ours to say so."""
    return bool(
        _mine(notice).update(
            status=Notice.Status.DONE, text=text[:500], next_attempt_at=None, finished_at=timezone.now(), **values
        )
    )


def _put_off(notice: Notice) -> None:
    pause = min(timedelta(minutes=1) * 2 ** min(notice.tries, 10), LONGEST_PAUSE)
    _mine(notice).update(next_attempt_at=timezone.now() + pause)


def _by_digest(notice: Notice, why: str) -> None:
    _mine(notice).update(
        kind=Notice.Kind.EMAIL, text=why[:500], tries=0, next_attempt_at=notices.next_minute(timezone.now())
    )


def _leave_to_webhooks(notice: Notice, message: Message, entries: Entries) -> None:
    """Done when a webhook has taken an event that tells of it; when none wants such events, or none has taken it in the
    end, the admins are told."""
    if message.status not in ENDED_STATUSES:
        # Which event tells of it is known when the others have been served.
        _put_off(notice)
        return
    told = Event.objects.filter(
        message=message, pk__gte=first_at(notice.created_at - CLOCKS), type__in=_TELLING
    ).values_list("pk", flat=True)
    events = list(told)
    deliveries = WebhookDelivery.objects.filter(event__in=events)
    taken = deliveries.filter(status=WebhookDelivery.Status.DELIVERED).values_list("webhook__name", flat=True).first()
    under_way = OutboxEntry.objects.filter(event__in=events, channel=OutboxEntry.Channel.WEBHOOKS)
    if taken is not None:
        _end(notice, f"Told by the webhook {taken}.", recipients=entries)
    elif under_way.exists() or deliveries.filter(webhook__enabled=True, next_attempt_at__isnull=False).exists():
        _put_off(notice)  # what waits for a webhook that is disabled may wait for ever
    elif deliveries.exists():
        _by_digest(notice, "No webhook took the event.")
    else:
        _by_digest(notice, "No webhook that is enabled wants such events.")


def _report(left: list[tuple[Notice, Entries]], message: Message) -> None:
    """One delivery status notification to the sender of the message, of all that these notices are about."""
    to = own_mail.reachable(message.mail_from)
    later = _not_before(message)
    if later is not None:
        for notice, _ in left:
            _mine(notice).update(next_attempt_at=later, tries=0)
    elif _has_had_enough(message, to):
        for notice, _ in left:
            _by_digest(notice, f"Its sender has had {settings.NOTICE_MOST_REPORTS:,} notices within an hour.")
    else:
        _send_report(left, message, to)


def _not_before(message: Message) -> datetime | None:
    """When the sender may have the next report on this message; None for now."""
    told = Notice.objects.filter(message=message, kind=Notice.Kind.DSN, sent__isnull=False)
    last = told.aggregate(last=Max("finished_at"))["last"]
    later = last and last + timedelta(seconds=settings.NOTICE_DIGEST_INTERVAL)
    return later if later and later > timezone.now() else None


def _has_had_enough(message: Message, to: str) -> bool:
    """Whether this sender has had as many notices of late as anybody reads."""
    lately = Recipient.objects.filter(
        address=to,
        pk__gte=first_at(timezone.now() - REPORTS_WITHIN),
        message__source=Message.Source.NOTICE,
        message__tenant=message.tenant_id,
    )
    return lately.order_by()[: settings.NOTICE_MOST_REPORTS].count() == settings.NOTICE_MOST_REPORTS


def _send_report(left: list[tuple[Notice, Entries]], message: Message, to: str) -> None:
    key = uuid7()
    report = dsn.Report(
        key=str(key),
        from_=own_mail.daemon_sender(message),
        to=to,
        date=timezone.now(),
        reporting_mta=settings.SMTP["HOSTNAME"],
        original_key=str(message.pk),
        subject=message.subject,
        message_id=message.message_id_header,
        arrived_at=message.accepted_at,
        failed=[
            dsn.Failed(entry["address"], entry["code"], entry["text"], entry.get("provider", ""))
            for _, entries in left
            for entry in entries
        ],
        header=_header(message, max(notice.tries for notice, _ in left)),
    )
    letter = Letter(
        key=key,
        account=message.account,
        recipients=[report.to],
        raw=dsn.compose(report),
        header_from=report.from_,
        subject=report.title,
        message_id=report.own_message_id,
        smtputf8=report.utf8,
    )

    def settle() -> bool:
        told = f"Reported to {report.to}."
        return all(_end(notice, told, sent=key, recipients=entries) for notice, entries in left)

    if own_mail.accept(letter, settle):
        log.info("notice sent", message_id=str(message.pk), notices=len(left), sent=str(key))


def _header(message: Message, tries: int) -> bytes:
    """The header of the message as it went out, as far as it can be read; a notice does without in the end."""
    if message.status == MessageStatus.STORAGE_ERROR or message.body_deleted_at is not None:
        return b""
    try:
        with store.open(message.store_key) as stream:
            start = stream.read(HEADER_READ)
    except BodyNotFound:
        return b""
    except (StoreUnavailable, OSError):
        if tries < MOST_TRIES // 2:
            raise
        return b""
    return dsn.bounded(mime.header_block(mime.strip_headers(start)))
