"""Which provider carries which recipients (RTE-1…4)."""

from __future__ import annotations

import random
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby

from django.db.models import Prefetch, Q, QuerySet

from accounts import changes
from accounts.models import Tenant
from delivery.models import Recipient
from providers import conditions
from providers.models import Provider, RoutingRule, RoutingTarget

CACHE_SECONDS = 1.0
"""How long a tenant's rules are remembered where no change is heard of (AMQP-4)."""

MOST_TABLES = 1000
NOT_USABLE = "The provider it was re-routed to is not enabled, or may not be used by this tenant any more."


@dataclass(frozen=True, slots=True)
class Group:
    """Recipients that share a route. `providers` are candidates in order, the primary first.

    With no providers, `action` says why: the rule's own (hold, reject, discard; `by_rule`), or hold when nothing is
    configured.
    """

    action: RoutingRule.Action
    recipients: list[Recipient]
    providers: tuple[Provider, ...] = ()
    reason: str = ""
    by_rule: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """What routing knows of one tenant: its rules, and the providers used when none matches, in order."""

    rules: tuple[RoutingRule, ...]
    defaults: tuple[Provider, ...]
    loaded_at: float = field(default_factory=time.monotonic)
    mark: int = 0


_tables: dict[uuid.UUID, Table] = {}


def table_for(tenant: Tenant) -> Table:
    """The tenant's rules and default providers, at most CACHE_SECONDS old and not changed since."""
    known, mark = _tables.get(tenant.pk), changes.mark()
    if known and time.monotonic() - known.loaded_at < CACHE_SECONDS and not _changed(tenant, known.mark):
        return known
    if len(_tables) > MOST_TABLES:
        _tables.clear()
    _tables[tenant.pk] = table = replace(load(tenant), mark=mark)
    return table


def _changed(tenant: Tenant, mark: int) -> bool:
    kinds = ("routing_rule", "routing_target", "provider")
    return changes.since(mark, tenant.pk, *((kind, owner) for kind in kinds for owner in (tenant.pk, None)))


def forget() -> None:
    """Load every table anew on next use."""
    _tables.clear()


def load(tenant: Tenant) -> Table:
    """The tenant's rules and default providers as they are now."""
    # `config` is left out: one row that cannot be decrypted must not stop the others.
    providers = Provider.objects.defer("config")
    owners = Q(tenant=tenant)
    reachable = Q(provider__tenant=tenant)
    if tenant.may_use_shared_providers:
        owners |= Q(tenant=None)
        reachable |= Q(provider__tenant=None)
    targets = RoutingTarget.objects.filter(reachable).prefetch_related(Prefetch("provider", queryset=providers))
    rules = (
        RoutingRule.objects.filter(tenant=tenant, enabled=True)
        .order_by("priority", "id")
        .prefetch_related(Prefetch("targets", queryset=targets.order_by("position", "id")))
    )
    usable = providers.filter(owners, enabled=True, default_rank__isnull=False).order_by("default_rank", "name")
    # The tenant's own first, then the platform's shared ones (RTE-4).
    return Table(rules=tuple(rules), defaults=tuple(sorted(usable, key=lambda provider: provider.tenant_id is None)))


def usable_by(tenant: Tenant) -> QuerySet[Provider]:
    """The enabled providers that may carry this tenant's mail: its own, and shared ones where it may use them."""
    owners = Q(tenant=tenant)
    if tenant.may_use_shared_providers:
        owners |= Q(tenant=None)
    return Provider.objects.defer("config").filter(owners, enabled=True)


def chosen(tenant: Tenant, provider_id: uuid.UUID, recipients: Sequence[Recipient]) -> Group:
    """The route of a message for which a person chose the provider: that one and no other, whatever the rules say;
    held while it cannot be used."""
    provider = usable_by(tenant).filter(pk=provider_id).first()
    if provider is None:
        return Group(RoutingRule.Action.HOLD, list(recipients), reason=NOT_USABLE)
    return Group(RoutingRule.Action.SEND, list(recipients), (provider,))


def without_refusals(table: Table) -> Table:
    """The table for notices of ours, which no rule may keep from those who are to be told (DEL-10)."""
    return replace(table, rules=tuple(rule for rule in table.rules if rule.action == RoutingRule.Action.SEND))


def plan(
    table: Table,
    recipients: Sequence[Recipient],
    facts_for: Callable[[Recipient], conditions.Facts],
    *,
    released: bool,
) -> list[Group]:
    """Group recipients by the first rule that matches each (RTE-3), or the defaults where none does (RTE-4).

    `released` messages pass rules that would hold them: a person has decided already.
    """
    chosen: dict[uuid.UUID | None, tuple[RoutingRule | None, list[Recipient]]] = {}
    for recipient in recipients:
        rule = first_match(table.rules, facts_for(recipient), released=released)
        chosen.setdefault(rule.pk if rule else None, (rule, []))[1].append(recipient)
    return [_group(table, rule, members) for rule, members in chosen.values()]


def first_match(rules: Sequence[RoutingRule], facts: conditions.Facts, *, released: bool) -> RoutingRule | None:
    """The rule that decides, None where none matches."""
    for rule in rules:
        if released and rule.action == RoutingRule.Action.HOLD:
            continue
        if conditions.holds(rule.conditions, facts):
            return rule
    return None


def _group(table: Table, rule: RoutingRule | None, recipients: list[Recipient]) -> Group:
    send = RoutingRule.Action.SEND
    if rule is None:
        providers = table.defaults
        reason = "No rule matches and there is no default provider."
    elif rule.action != send:
        return Group(RoutingRule.Action(rule.action), recipients, reason=f"Rule {rule.name!r}.", by_rule=True)
    else:
        providers = tuple(ordered(list(rule.targets.all())))
        reason = f"Rule {rule.name!r} names no provider that is enabled."
    if not providers:
        return Group(RoutingRule.Action.HOLD, recipients, reason=reason)
    return Group(send, recipients, providers)


def ordered(targets: Sequence[RoutingTarget]) -> list[Provider]:
    """Enabled providers in order of position; those of one position in an order drawn by weight (RTE-2)."""
    result: list[Provider] = []
    for _, same in groupby(targets, key=lambda target: target.position):
        usable = [target for target in same if target.provider.enabled]
        # Weighted sampling without replacement (Efraimidis, Spirakis 2006): the largest random^(1/weight) comes first.
        usable.sort(key=lambda target: random.random() ** (1 / target.weight), reverse=True)
        result.extend(target.provider for target in usable)
    return result
