"""Actions on every message a filter finds: counted first, done page by page by a chore, watched, paused and stopped by
people, and told in the audit (DEL-9, RET-5).

A page is one transaction: the messages, their events, and how far the action has come. So a worker that dies between
two pages loses nothing, and none is done twice; a second worker finds the row locked and passes on.
"""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any, TypeAlias

import structlog
from django.core.exceptions import PermissionDenied
from django.db import DatabaseError, InterfaceError, OperationalError, transaction
from django.db.models import QuerySet
from django.utils import timezone

from accounts import audit
from accounts.models import User
from accounts.tenancy import Area, Verb, permits
from delivery import actions, chores, control, filters, queues, walk
from delivery.filters import MessageFilter, seen_by
from delivery.models import BulkAction, Message
from delivery.walk import Count
from providers.models import Provider

log = structlog.get_logger(__name__)

PAGE = 200
"""Messages changed in one transaction; whoever sends one of them waits for it."""
WINDOWS = 10
"""Windows one transaction looks through before it says how far it has come."""
STEP = 10.0
"""Seconds between two pages of an action with a pace, where a page has room for that."""
LATE = timedelta(seconds=10)
"""A paced action that was kept waiting catches up for this long at most."""
AFTER_AN_ERROR = timedelta(minutes=1)

Action = BulkAction.Action
Status = BulkAction.Status
_PLAIN: dict[str, type[actions.Action]] = {
    Action.HOLD: actions.Hold,
    Action.RELEASE: actions.Release,
    Action.RETRY: actions.Retry,
    Action.CANCEL: actions.Cancel,
    Action.REPROCESS: actions.Reprocess,
}


Beginner: TypeAlias = User | str
"""A person, or the name of a command."""


class _Stopped(Exception):
    """The action may not go on; the text says why."""


def count(wanted: MessageFilter, who: filters.Who) -> Count:
    """How many messages this person would act on now."""
    return walk.count(seen_by(who, Message), wanted)


def begin(
    action: str,
    wanted: MessageFilter,
    *,
    actor: Beginner,
    provider: Provider | None = None,
    pace: int | None = None,
    counted: Count | None = None,
    ip: str | None = None,
) -> BulkAction:
    """Have workers do `action` to every message that matches now, `pace` of them a minute or as fast as they can.

    Messages accepted later are left alone; what an action does not fit is counted as refused. `provider` is for
    re-routing, None there: back to the rules. A tenant's person only ever reaches messages of that tenant. Raises
    PermissionDenied for somebody who may not act on messages, ValueError for a pace or an action that is none.
    """
    person = actor if isinstance(actor, User) else None
    if person is not None and not permits(person, Area.MESSAGES, Verb.ACT):
        raise PermissionDenied
    if pace is not None and not 1 <= pace < 2**31:
        raise ValueError("a pace is a whole number of messages a minute")
    counted = counted or count(wanted, actor)
    tenant = wanted.tenant if person is None or person.is_superuser else person.tenant_id
    rows = seen_by(actor, Message)
    now = timezone.now()
    row = BulkAction(
        tenant_id=tenant,
        actor=person,
        actor_label=person.email if person else str(actor),
        by_command=person is None,
        action=Action(action),
        filters=wanted.as_json(),
        parameters={"counted": str(counted)},
        pace=pace,
        counted=counted.number,
        until=walk.newest(rows if tenant is None else rows.filter(tenant=tenant)),
        next_page_at=now,
    )
    told: dict[str, Any] = {"filter": filters.in_words(wanted), "found": str(counted), "pace": pace}
    if row.action == Action.REROUTE:
        row.parameters["provider"] = str(provider.pk) if provider else None
        told |= actions.Reroute(provider).told()
    with transaction.atomic():
        row.save(force_insert=True)
        audit.record(actor, "bulkaction.begun", row, told, ip)
    # Not the filter: subjects and addresses are for the audit.
    log.info("bulk action begun", bulk_action=str(row.pk), action=row.action, found=str(counted), pace=pace)
    return row


def of_its_tenant(row: BulkAction) -> bool:
    """Whether somebody of the tenant it is about has begun it: others of the tenant may know who, and turn it."""
    return row.actor is not None and row.tenant_id is not None and row.actor.tenant_id == row.tenant_id


def may_turn(who: User, row: BulkAction) -> bool:
    """Operators turn any; a tenant's people those that one of them has begun."""
    return permits(who, Area.MESSAGES, Verb.ACT) and (who.is_superuser or of_its_tenant(row))


def pause(row: BulkAction, *, actor: Beginner, ip: str | None = None) -> bool:
    """Let it rest after the page it is at; whether it was running."""
    return _turn(row, [Status.RUNNING], "paused", actor, ip, status=Status.PAUSED, next_page_at=None)


def resume(row: BulkAction, *, actor: Beginner, ip: str | None = None) -> bool:
    """Go on where it was paused; whether it was."""
    return _turn(row, [Status.PAUSED], "resumed", actor, ip, status=Status.RUNNING, next_page_at=timezone.now())


def stop(row: BulkAction, *, actor: Beginner, ip: str | None = None) -> bool:
    """End it after the page it is at; what is done stays done. Whether it had not ended."""
    values = {"status": Status.STOPPED, "next_page_at": None, "finished_at": timezone.now()}
    note = f"Stopped by {control.name(actor)}."
    return _turn(row, [Status.RUNNING, Status.PAUSED], "stopped", actor, ip, note=note, **values)


def _turn(row: BulkAction, of: list[Status], verb: str, actor: Beginner, ip: str | None, **values: Any) -> bool:
    with transaction.atomic():
        # Waits for the page that is being done, and holds against what that page has written.
        if not BulkAction.objects.filter(pk=row.pk, status__in=of).update(updated_at=timezone.now(), **values):
            return False
        row.refresh_from_db()
        audit.record(actor, f"bulkaction.{verb}", row, _results(row), ip)
    return True


def due() -> bool:
    """Whether a page of any action is to be done."""
    return BulkAction.objects.filter(next_page_at__lte=timezone.now()).exists()


def run(turn: chores.Turn) -> None:
    """Do pages, each of whichever action has waited longest, until nothing is due or the time is over."""
    while not turn.out_of_time() and step():
        pass


def step(only: BulkAction | None = None) -> bool:
    """Do one page of an action that is due; whether there was one that no other worker has."""
    row: BulkAction | None = None
    try:
        with transaction.atomic():
            now = timezone.now()
            rows = BulkAction.objects.select_for_update(skip_locked=True).filter(next_page_at__lte=now)
            row = (rows if only is None else rows.filter(pk=only.pk)).order_by("next_page_at").first()
            if row is not None:
                _page(row, now)
    except (OperationalError, InterfaceError):
        # The database is away, or this took it too long: again with the next ring, and after the others.
        if row is not None:
            with suppress(DatabaseError, InterfaceError):
                BulkAction.objects.filter(pk=row.pk, status=Status.RUNNING).update(next_page_at=timezone.now())
        raise
    except Exception:
        if row is None:
            raise
        log.exception("page of a bulk action failed; again later", bulk_action=str(row.pk))
        BulkAction.objects.filter(pk=row.pk, status=Status.RUNNING).update(next_page_at=now + AFTER_AN_ERROR)
    return row is not None


def _page(row: BulkAction, now: datetime) -> None:
    try:
        action, rows = _action(row), _rows(row)
    except _Stopped as reason:
        _end(row, now, Status.STOPPED, str(reason))
        return
    due_at, changed = row.next_page_at or now, 0
    most = _most(row.pace)
    for looked_at, (found, last) in enumerate(_windows(row, rows), 1):
        # A message gets its id when it begins to come in: what was accepted since then is left alone.
        meant = found.filter(accepted_at__lte=row.created_at)
        ids = list(meant.order_by("pk").values_list("pk", flat=True)[:most])
        row.cursor = ids[-1] if len(ids) == most else last
        if ids:
            outcome = control.do(action, ids, actor=_who(row), audited=False, ring=False)
            changed = outcome.changed
            row.changed, row.refused = row.changed + changed, row.refused + len(outcome.refused)
            row.reasons = dict(Counter(row.reasons) + Counter(outcome.refused.values()))
        if ids or looked_at == WINDOWS:
            break
    else:
        _end(row, now, Status.DONE)
        return
    row.next_page_at = now
    if row.pace:
        row.next_page_at = max(due_at, now - LATE) + timedelta(seconds=changed * 60 / row.pace)
    row.save()


def _windows(row: BulkAction, rows: QuerySet[Message]) -> Iterator[tuple[QuerySet[Message], uuid.UUID]]:
    """What is left of it; nothing where there was no message at all when it was begun."""
    return iter(()) if row.until is None else walk.windows(rows, filters.restore(row.filters), row.cursor, row.until)


def _most(pace: int | None) -> int:
    return PAGE if pace is None else max(1, min(PAGE, int(pace * STEP / 60)))


def _who(row: BulkAction) -> Beginner:
    return row.actor or row.actor_label


def _rows(row: BulkAction) -> QuerySet[Message]:
    """The messages it may touch, as of now: its beginner may have lost their role since."""
    who = _who(row)
    if not row.by_command:
        if not isinstance(who, User) or not permits(who, Area.MESSAGES, Verb.ACT):
            raise _Stopped("Who began it may not act on messages any more.")
        if not who.is_superuser and who.tenant_id != row.tenant_id:
            raise _Stopped("Who began it is of another tenant now.")
    rows = seen_by(who, Message)
    return rows if row.tenant_id is None else rows.filter(tenant=row.tenant_id)


def _action(row: BulkAction) -> actions.Action:
    if row.action != Action.REROUTE:
        return _PLAIN[row.action]()
    key = row.parameters["provider"]
    provider = None if key is None else Provider.objects.defer("config").filter(pk=key, enabled=True).first()
    if key is not None and provider is None:
        raise _Stopped("The provider is not enabled any more.")
    return actions.Reroute(provider)


def _end(row: BulkAction, now: datetime, status: BulkAction.Status, note: str = "") -> None:
    row.status, row.note, row.next_page_at, row.finished_at = status, note, None, now
    row.save()
    audit.record(_who(row), f"bulkaction.{status}", row, _results(row))
    log.info("bulk action ended", bulk_action=str(row.pk), action=row.action, status=str(status), **_results(row))


def _results(row: BulkAction) -> dict[str, Any]:
    told = {"changed": row.changed, "refused": row.refused, "reasons": row.reasons, "note": row.note}
    return {name: value for name, value in told.items() if value not in ("", {})}


CHORE = chores.Chore(name="bulk", queue=queues.MAINTENANCE, due=due, run=run)
