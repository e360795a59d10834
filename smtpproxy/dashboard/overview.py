"""The first page of the admin."""

from __future__ import annotations

import uuid
from typing import Any

from django.http import HttpRequest

from accounts.models import Tenant, User
from accounts.tenancy import Area, Verb, permits
from accounts.tenant_admin import signed_in
from delivery.models import Message
from delivery.totals import Figures, Group
from smtpproxy.dashboard import charts, first_steps, numbers, spans, state
from smtpproxy.dashboard.links import to_list

TOP = 8


def context(request: HttpRequest) -> dict[str, Any]:
    """What the dashboard shows this person; whoever may read no logs is shown nothing."""
    user = signed_in(request)
    if not permits(user, Area.LOGS, Verb.READ):
        return {}
    span = spans.read(request.GET)
    lines = spans.figures(user, span, span.by)
    whole = spans.summed(lines)
    return {
        "span": span,
        "ranges": [(name, label) for name, (label, _) in spans.RANGES.items()],
        "numbers": numbers.of(request, whole, span),
        "waiting": state.waiting(request, user),
        "chart": charts.volume(charts.every(lines, span), span),
        "providers": state.health(user),
        "quotas": state.quota_use(user),
        "tenants": _top_tenants(request, user, span),
        "steps": first_steps.steps(user),
    }


def _top_tenants(request: HttpRequest, user: User, span: spans.Span) -> list[tuple[str, str, Figures, str]]:
    """For operators: name, address, figures and delivery rate of those with the most mail."""
    if not user.is_superuser:
        return []
    lines = sorted(spans.figures(user, span, Group.TENANT), key=lambda one: -(one.accepted + one.sent))[:TOP]
    names: dict[uuid.UUID, str] = dict(Tenant.objects.in_bulk([one.key for one in lines]).items())  # type: ignore[arg-type]
    return [
        (
            str(names.get(one.key, "deleted")),
            to_list(request, Message, {"tenant__id__exact": one.key, **span.keys}),
            one,
            numbers.percent(one.delivery_rate),
        )
        for one in lines
    ]
