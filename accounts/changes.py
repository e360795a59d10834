"""`config.changed`: what a process remembers of a row of configuration, it drops when that changes (AMQP-4).

Every change is announced after its commit, whoever makes it, by publish/subscribe on the Redis-compatible server that
holds the shared state whatever the broker; each process that remembers anything listens. An announcement says which row
changed, never what is in it. One may be lost (the server is away, a connection breaks): whatever is remembered has a
time to live as well, and a process drops everything whenever its connection is made anew.

Whoever remembers something takes a `mark()` before reading it, and asks `since()` before using it; that costs no round
trip, and what was read while it changed is not kept. What must be let go at once, connections say, is hooked in by
`on`. The thread that listens is in `hearing`.
"""

from __future__ import annotations

import json
import os
import re
import threading
import time
import uuid
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

import structlog
from django.db import models, transaction
from django.db.models.signals import post_delete, post_save

from accounts import shared_state

log = structlog.get_logger(__name__)

AWAY = 5.0
"""Seconds for which a server that did not answer is told of no change: nobody's request waits for it each time."""
MOST_KNOWN = 50_000


@dataclass(frozen=True, slots=True)
class Change:
    """A row of some kind (the model's name, "routing_rule" say) was made, changed or deleted. Without a tenant it may
    concern all of them. `EVERYTHING` stands for all that may have been missed."""

    kind: str
    tenant_id: uuid.UUID | None = None
    row_id: uuid.UUID | str = ""


EVERYTHING = Change("everything")

_lock = threading.Lock()
_last = 0  # the number of the change heard last
_all = 0  # the number of the last that concerned everything
_numbers: dict[Hashable, int] = {}
_hooks: dict[str, list[Callable[[Change], None]]] = {}
_away_until = 0.0
_missed = False  # whether something could not be announced that others have not heard of since


# --- What was heard ---------------------------------------------------------------------------------------------------
def mark() -> int:
    """Where we are now, to be kept with what is read after this call."""
    return _last


def since(mark: int, *what: Hashable) -> bool:
    """Whether any of `what` has changed since: row ids, kinds, or pairs of kind and tenant id.

    A change without a tenant is one of the pair with None.
    """
    return _all > mark or any(_numbers.get(one, 0) > mark for one in what)


def on(kind: str, forget: Callable[[Change], None]) -> None:
    """Have `forget` called with each change of this kind and with EVERYTHING, from any thread; it should be quick."""
    _hooks.setdefault(kind, []).append(forget)


def hear(change: Change) -> None:
    """Drop what this process remembers of the row."""
    global _last, _all  # noqa: PLW0603
    with _lock:
        number = _last + 1
        if change == EVERYTHING or len(_numbers) > MOST_KNOWN:
            _numbers.clear()
            _all = number
        for one in (change.row_id, change.kind, (change.kind, change.tenant_id)):
            _numbers[one] = number
        _last = number
    kinds = _hooks if change == EVERYTHING else [change.kind]
    for forget in [each for kind in kinds for each in _hooks.get(kind, ())]:
        try:
            forget(change)
        except Exception:
            log.exception("change not heard", kind=change.kind)


# --- Announcing -------------------------------------------------------------------------------------------------------
def announce(kind: str, tenant_id: uuid.UUID | None, row_id: Any, *, using: str | None = None) -> None:
    """Say that a row has changed, once the transaction is committed; for changes that Django sends no signal of."""
    change = Change(kind, tenant_id, row_id if isinstance(row_id, uuid.UUID) else str(row_id))
    transaction.on_commit(lambda: _tell(change), using=using, robust=True)


def watch(model: type[models.Model], tenant_of: Callable[[Any], uuid.UUID | None]) -> None:
    """Announce whenever a row of this model is saved or deleted; `QuerySet.update` and bulk methods need `announce`."""
    kind = kind_of(model)

    def changed(instance: models.Model, using: str, **_: Any) -> None:
        announce(kind, tenant_of(instance), instance.pk, using=using)

    for signal in (post_save, post_delete):
        signal.connect(changed, sender=model, weak=False, dispatch_uid=f"config.changed {kind}")


def kind_of(model: type[models.Model]) -> str:
    """How changes of this model are called: `routing_rule` for RoutingRule."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", model.__name__).lower()


def catch_up() -> None:
    """Have everybody read everything anew if something could not be announced, and now it can; called now and then."""
    global _missed  # noqa: PLW0603
    if _missed:
        _missed = False  # before the announcement: what changes meanwhile and is not told sets it again
        _publish(EVERYTHING)


def _tell(change: Change) -> None:
    hear(change)
    _publish(change)


def _publish(change: Change) -> None:
    global _away_until, _missed  # noqa: PLW0603
    if time.monotonic() < _away_until:
        _missed = True
        return
    tenant = None if change.tenant_id is None else str(change.tenant_id)
    try:
        shared_state.client().publish(
            channel(), json.dumps({"kind": change.kind, "tenant": tenant, "id": str(change.row_id)})
        )
    except shared_state.Unavailable as error:
        _missed, _away_until = True, time.monotonic() + AWAY
        log.info("change not announced; others find out by themselves", kind=change.kind, error=type(error).__name__)


def channel() -> str:
    """Publish/subscribe knows no databases, so that the name has to tell them apart."""
    database = shared_state.client().connection_pool.connection_kwargs.get("db") or 0
    return shared_state.key("config.changed", database)


def read(data: bytes) -> Change | None:
    """The change announced; None for what is none of ours, which is logged (QUE-8)."""
    try:
        told = json.loads(data)
        tenant = told["tenant"]
        return Change(str(told["kind"]), None if tenant is None else uuid.UUID(tenant), _row_id(str(told["id"])))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        log.warning("unknown announcement dropped", octets=len(data))
        return None


def _row_id(text: str) -> uuid.UUID | str:
    try:
        return uuid.UUID(text)
    except ValueError:
        return text


def _after_fork() -> None:
    global _lock  # noqa: PLW0603
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_after_fork)
