"""One e-mail for all that a tenant's admins are to be told of, and not too many of them (DEL-10).

The first goes when the minute is over in which something failed, the next NOTICE_DIGEST_INTERVAL later, and none while
the one before it has not left: where nothing can be sent they would only pile up.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import datetime, timedelta

import structlog
from django.conf import settings
from django.db import DatabaseError
from django.db.models import F, QuerySet
from django.urls import reverse
from django.utils import timezone

from accounts.ids import uuid7
from accounts.models import Tenant, User
from delivery import chores, mime, notices, own_mail
from delivery.digest import MOST_MESSAGES, Digest, Undelivered
from delivery.exceptions import StoreUnavailable
from delivery.models import DUE_STATUSES, Message, MessageStatus, Notice
from delivery.own_mail import Letter
from providers.base import Mailbox
from providers.models import Provider

log = structlog.get_logger(__name__)

PAGE = 20
LEASE = timedelta(minutes=2)
MOST_TRIES = 10
MOST_PEOPLE = 50
MOST_HELD = 10_000
"""No more are counted."""


def send_due(turn: chores.Turn) -> int:
    """A digest for each tenant that is to have one now; returns how many tenants were looked at."""
    due = Notice.objects.filter(kind=Notice.Kind.EMAIL, next_attempt_at__lte=timezone.now()).order_by()
    tenants = list(due.values_list("tenant_id", flat=True).distinct()[:PAGE])
    for tenant_id in tenants:
        if turn.out_of_time():
            break
        _for_tenant(tenant_id)
    return len(tenants)


def _for_tenant(tenant_id: uuid.UUID) -> None:
    now = timezone.now()
    pending = Notice.objects.filter(tenant_id=tenant_id, kind=Notice.Kind.EMAIL, status=Notice.Status.PENDING)
    due = pending.filter(next_attempt_at__lte=now)
    later = _not_before(tenant_id, now)
    if later is not None:
        due.update(next_attempt_at=later)
        return
    # The moment names what was taken: nobody else has these rows until it has passed.
    until = now + LEASE
    count = due.update(next_attempt_at=until, tries=F("tries") + 1)
    taken = pending.filter(next_attempt_at=until)
    try:
        if count:
            _tell(tenant_id, taken, count)
    except (DatabaseError, StoreUnavailable) as error:
        log.error("digest put off", tenant_id=str(tenant_id), error=f"{type(error).__name__}: {error}")
    except Exception:
        log.exception("digest not written", tenant_id=str(tenant_id))
        _give_up(tenant_id, taken.filter(tries__gte=MOST_TRIES), "It could not be written; see the log.")


def _not_before(tenant_id: uuid.UUID, now: datetime) -> datetime | None:
    """When the tenant may have its next digest; None for now."""
    # By when it was told: an old one, whose report has failed late, may be told after those that came later.
    told = Notice.objects.filter(
        tenant_id=tenant_id, kind=Notice.Kind.EMAIL, sent__isnull=False, finished_at__isnull=False
    )
    last = told.order_by("-finished_at").values_list("finished_at", "sent_id").first()
    if last is None or last[0] is None:
        return None
    interval = timedelta(seconds=settings.NOTICE_DIGEST_INTERVAL)
    if last[0] + interval > now:
        return last[0] + interval
    under_way = Message.objects.filter(pk=last[1], status__in=(*DUE_STATUSES, MessageStatus.HELD)).exists()
    return now + interval if under_way else None


def _tell(tenant_id: uuid.UUID, taken: QuerySet[Notice], count: int) -> None:
    people = _people(tenant_id)
    if not people:
        _give_up(tenant_id, taken, "There is nobody to tell: the tenant has no active admin or owner.")
        return
    tenant = Tenant.objects.get(pk=tenant_id)
    newest = taken.select_related("message__account").order_by("-pk")[0].message
    digest, served = _digest(tenant, taken)
    if not digest.count and not digest.held:
        _end(taken, "Whatever it was about is over.", served)
        return
    key = uuid7()
    sender = own_mail.known_sender(newest)
    message_id = f"{key}@{sender.rpartition('@')[2]}"
    letter = Letter(
        key=key,
        account=newest.account,
        recipients=people,
        raw=mime.compose(
            from_=Mailbox("Mail Delivery System", sender),
            to=[Mailbox("", address) for address in people],
            subject=digest.subject,
            message_id=message_id,
            date=timezone.now(),
            text=digest.text(),
            headers={"Auto-Submitted": "auto-generated"},
        ),
        header_from=sender,
        subject=digest.subject,
        message_id=f"<{message_id}>",
        smtputf8=not all(address.isascii() for address in (sender, *people)),
    )
    told = f"Told {len(people)} {'person' if len(people) == 1 else 'people'}."
    if own_mail.accept(letter, lambda: _end(taken, told, served, key) == count):
        log.info("digest sent", tenant_id=str(tenant_id), notices=count, people=len(people), sent=str(key))


def _people(tenant_id: uuid.UUID) -> list[str]:
    """The tenant's admins and owners; of a tenant that has none, the operators of the platform."""
    active = User.objects.filter(is_active=True).order_by("pk").values_list("email", flat=True)
    own = list(active.filter(tenant_id=tenant_id, role__in=(User.Role.OWNER, User.Role.ADMIN))[:MOST_PEOPLE])
    people = own or list(active.filter(is_superuser=True)[:MOST_PEOPLE])
    # Without this one address would have the whole digest go where SMTPUTF8 is spoken, or nowhere.
    return list(dict.fromkeys(map(own_mail.reachable, people)))


def _digest(tenant: Tenant, taken: QuerySet[Notice]) -> tuple[Digest, list[uuid.UUID]]:
    """What to say, and the notices whose recipients were all served meanwhile."""
    about_failures = taken.exclude(recipients=[])
    rows = list(about_failures.select_related("message__account").order_by("pk")[:MOST_MESSAGES])
    now_failed = notices.failed_now([row.message for row in rows])
    named, served = [], []
    for row in rows:
        current = now_failed.get(row.message_id, {})
        failed = [
            (entry["address"], current[entry["address"]]["text"])
            for entry in row.recipients
            if entry["address"] in current
        ]
        if failed:
            named.append(_undelivered(row.message, failed))
        else:
            served.append(row.pk)
    alarm = taken.filter(recipients=[]).order_by("-pk").first()
    held = Message.objects.filter(tenant=tenant, status=MessageStatus.HELD).order_by()
    unhealthy = Provider.objects.filter(tenant=tenant, enabled=True, unhealthy_until__isnull=False).order_by("name")
    return Digest(
        tenant=tenant.name,
        count=about_failures.exclude(pk__in=served).order_by().values("message_id").distinct().count(),
        named=named,
        held=held[:MOST_HELD].count() if alarm is not None else 0,
        why_held=alarm.text if alarm is not None else "",
        unhealthy=list(unhealthy.values_list("name", "unhealthy_reason")[:10]),
        links=_links(),
    ), served


def _undelivered(message: Message, failed: Sequence[tuple[str, str]]) -> Undelivered:
    base = settings.WEB_PUBLIC_URL
    return Undelivered(
        key=str(message.pk),
        subject=message.subject,
        sender=message.mail_from,
        account=message.account.username,
        accepted_at=message.accepted_at,
        failed=failed,
        link=base and base + reverse("admin:delivery_message_change", args=[message.pk]),
    )


def _links() -> dict[str, str]:
    base = settings.WEB_PUBLIC_URL
    if not base:
        return {}
    held = reverse("admin:delivery_message_changelist") + "?status__exact=held"
    return {"held": base + held, "notices": base + reverse("admin:delivery_notice_changelist")}


def _end(taken: QuerySet[Notice], text: str, served: Sequence[uuid.UUID], sent: uuid.UUID | None = None) -> int:
    """Nothing more is to be done for these; returns how many they were."""
    # Whoever was served and fails again later is told of then.
    taken.filter(pk__in=served).update(recipients=[])
    return taken.update(
        status=Notice.Status.DONE, text=text[:500], sent=sent, next_attempt_at=None, finished_at=timezone.now()
    )


def _give_up(tenant_id: uuid.UUID, taken: QuerySet[Notice], why: str) -> None:
    if taken.update(status=Notice.Status.FAILED, text=why[:500], next_attempt_at=None, finished_at=timezone.now()):
        log.error("nobody was told of undelivered mail", tenant_id=str(tenant_id), reason=why)
