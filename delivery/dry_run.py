"""What a changed routing rule would have done to the messages that came last (RTE-5)."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from accounts.models import Tenant
from delivery import candidates, mime, routing, store
from delivery.exceptions import BodyNotFound, StoreUnavailable
from delivery.models import Message
from providers import conditions
from providers.models import RoutingRule, RoutingTarget

LAST = 200
MOST = 1000
"""Messages looked at when nobody says how many, and at most."""
SECONDS = 10.0
"""How long a dry run may take."""
_PAGE = 100
_HEADER_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Changed:
    """One message some of whose recipients would take another route."""

    message: Message
    recipients: tuple[str, ...]
    before: str
    after: str


@dataclass(slots=True)
class DryRun:
    """`looked_at` messages of `wanted` were compared; fewer when the time was over (`stopped`). `routes` counts
    messages by (before, after); one with recipients of several routes counts once for each. `without_headers` could
    not be read from the store, so that no condition on a header held for them."""

    wanted: int
    looked_at: int = 0
    stopped: bool = False
    without_headers: int = 0
    changed: list[Changed] = field(default_factory=list)
    routes: Counter[tuple[str, str]] = field(default_factory=Counter)

    @property
    def messages_changed(self) -> int:
        return len({change.message.pk for change in self.changed})


@dataclass(frozen=True, slots=True)
class _Rules:
    """Rules in order, and where each leads, in words."""

    rules: tuple[RoutingRule, ...]
    routes: dict[object, str]

    def route(self, facts: conditions.Facts, *, released: bool) -> str:
        rule = routing.first_match(self.rules, facts, released=released)
        return self.routes[rule.pk if rule else None]


class _Headers(Sequence[tuple[str, str]]):
    """The headers of a stored message, read when a condition first looks at them. `missing` when they are not there."""

    def __init__(self, key: str) -> None:
        self._key = key
        self._items: list[tuple[str, str]] | None = None
        self.missing = False

    def _read(self) -> list[tuple[str, str]]:
        if self._items is None:
            try:
                with store.open(self._key) as stream:
                    block = stream.read(_HEADER_BYTES)
                self._items = mime.header_items(mime.strip_headers(mime.header_block(block) + b"\r\n\r\n"))
            except (BodyNotFound, StoreUnavailable, OSError):
                self._items, self.missing = [], True
        return self._items

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return iter(self._read())

    def __len__(self) -> int:
        return len(self._read())

    def __getitem__(self, index):  # type: ignore[no-untyped-def]
        return self._read()[index]


def dry_run(
    tenant: Tenant, rule: RoutingRule, targets: Sequence[RoutingTarget], *, last: int = LAST, seconds: float = SECONDS
) -> DryRun:
    """Compare the routes of the tenant's last messages with and without the change; nothing is saved or sent.

    `rule` and `targets` are as they would be saved; a rule of that key takes the place of the stored one. Messages
    are routed as of the time they were accepted. Raises DatabaseError.
    """
    table = routing.load(tenant)
    before = _Rules(table.rules, _routes(table, {}))
    others = [one for one in table.rules if one.pk != rule.pk]
    rules = sorted([*others, rule] if rule.enabled else others, key=lambda one: (one.priority, one.pk))
    after = _Rules(tuple(rules), _routes(table, {rule: targets}))
    last = max(1, min(last, MOST))
    result = DryRun(min(last, Message.objects.filter(tenant=tenant)[:last].count()))
    deadline = time.monotonic() + seconds
    for message in _newest(tenant, last):
        if time.monotonic() > deadline:
            result.stopped = True
            break
        _compare(message, before, after, result)
        result.looked_at += 1
    return result


def _newest(tenant: Tenant, last: int) -> Iterator[Message]:
    """Page by page, so that a dry run that ends early has not read what it does not need."""
    rows = Message.objects.filter(tenant=tenant).select_related("account").prefetch_related("recipients")
    rows = rows.order_by("-pk")
    seen, left = None, last
    while left > 0:
        page = list((rows if seen is None else rows.filter(pk__lt=seen))[: min(left, _PAGE)])
        yield from page
        if not page:
            return
        seen, left = page[-1].pk, left - len(page)


def _routes(table: routing.Table, changed: dict[RoutingRule, Sequence[RoutingTarget]]) -> dict[object, str]:
    found: dict[object, str] = {None: _send(candidates.options(table, None), "no default provider")}
    for rule in [*table.rules, *changed]:  # the changed one comes last and takes the place of the stored one
        if rule.action != RoutingRule.Action.SEND:
            found[rule.pk] = str(rule.action)
            continue
        targets = changed.get(rule)
        options = candidates.options(table, rule) if targets is None else candidates.of_targets(targets)
        found[rule.pk] = _send(options, "no provider that is enabled")
    return found


def _send(options: Sequence[candidates.Option], nobody: str) -> str:
    return candidates.in_words(options) or f"hold ({nobody})"


def _compare(message: Message, before: _Rules, after: _Rules, result: DryRun) -> None:
    headers = _Headers(message.store_key)
    moved: dict[tuple[str, str], list[str]] = {}
    for recipient in message.recipients.all():
        facts = conditions.Facts(
            account=message.account.username,
            sender=message.mail_from,
            recipient=recipient.address,
            headers=headers,
            subject=message.subject,
            size=message.size,
            has_attachments=message.has_attachments,
            message_id=str(message.pk),
            now=message.accepted_at,
        )
        routes = tuple(rules.route(facts, released=message.released) for rules in (before, after))
        if routes[0] != routes[1]:
            moved.setdefault((routes[0], routes[1]), []).append(recipient.address)
    for (old, new), addresses in moved.items():
        result.changed.append(Changed(message, tuple(addresses), old, new))
        result.routes[old, new] += 1
    result.without_headers += headers.missing
