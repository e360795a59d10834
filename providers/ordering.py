"""The order in which the rules of a tenant are tried (RTE-6)."""

from __future__ import annotations

import uuid
from collections.abc import Sequence

from django.db import transaction

from accounts.models import Tenant
from providers.models import RoutingRule

STEP = 10
"""Between two priorities, so that one can be put between them by hand."""


class OtherRules(ValueError):
    """The rules named are not those there are; nothing was changed."""


def reorder(tenant: Tenant, keys: Sequence[uuid.UUID]) -> list[tuple[RoutingRule, int]]:
    """Give the tenant's rules priorities in the order of `keys`, which name every one of them once. Returns those that
    have another one now, with the one before. Raises OtherRules."""
    with transaction.atomic():
        rules = {rule.pk: rule for rule in RoutingRule.objects.select_for_update().filter(tenant=tenant).order_by("pk")}
        if len(set(keys)) != len(keys) or set(keys) != rules.keys():
            raise OtherRules("These are not the rules there are now; look at them again.")
        changed = []
        for place, key in enumerate(keys, 1):
            rule, before = rules[key], rules[key].priority
            if before != place * STEP:
                rule.priority = place * STEP
                rule.save(update_fields=["priority", "updated_at"])
                changed.append((rule, before))
    return changed
