"""The menu of the admin: its sections and what is in them, each item for those only who may open it (ADM-1, ADM-3)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from django.apps import apps
from django.contrib import admin
from django.http import HttpRequest
from django.urls import reverse

from accounts.tenancy import Area, Verb, permits


@dataclass(frozen=True, slots=True)
class Item:
    """An entry: the list of a model, as "delivery.message"."""

    model: str
    title: str
    icon: str


SECTIONS: tuple[tuple[str, tuple[Item, ...]], ...] = (
    (
        "Mail",
        (
            Item("delivery.message", "Messages", "mail"),
            Item("delivery.deadletter", "Dead letters", "unsubscribe"),
            Item("delivery.archivecopy", "Archive", "inventory_2"),
            Item("delivery.bulkaction", "Bulk actions", "checklist"),
        ),
    ),
    (
        "Delivery",
        (
            Item("providers.provider", "Providers", "dns"),
            Item("providers.routingrule", "Routing rules", "alt_route"),
            Item("providers.healthevent", "Health", "monitor_heart"),
            Item("delivery.queuesetting", "Queues", "stacks"),
        ),
    ),
    (
        "Recipients",
        (
            Item("delivery.suppression", "Suppressions", "block"),
            Item("delivery.recipient", "Recipients", "alternate_email"),
        ),
    ),
    (
        "Notify",
        (
            Item("delivery.webhook", "Webhooks", "webhook"),
            Item("delivery.webhookdelivery", "Webhook deliveries", "outbox"),
            Item("delivery.notice", "Notices", "notifications"),
            Item("accounts.quotawarning", "Quota warnings", "data_usage"),
        ),
    ),
    (
        "Access",
        (
            Item("accounts.tenant", "Tenants", "apartment"),
            Item("accounts.user", "Users", "group"),
            Item("accounts.account", "Accounts", "badge"),
            Item("accounts.apikey", "API keys", "key"),
        ),
    ),
    (
        "Records",
        (
            Item("delivery.deliverylog", "Delivery logs", "receipt_long"),
            Item("delivery.event", "Events", "timeline"),
            Item("delivery.refusedsession", "Refused sessions", "front_hand"),
            Item("accounts.auditentry", "Audit", "policy"),
        ),
    ),
)


def navigation(request: HttpRequest) -> list[dict[str, Any]]:
    """The sections as the theme takes them, for the person who asks; what has no place of its own stands last."""
    sections = [("Overview", list(_overview(request)))]
    placed = set()
    for title, items in SECTIONS:
        placed |= {item.model for item in items}
        sections.append((title, [entry for item in items for entry in _of_model(request, item)]))
    rest = sorted((str(model._meta.verbose_name_plural), model._meta.label_lower) for model in admin.site._registry)
    others = [Item(label, name.capitalize(), "table_rows") for name, label in rest if label not in placed]
    sections.append(("More", [entry for item in others for entry in _of_model(request, item)]))
    return [{"title": title, "items": entries} for title, entries in sections if entries]


def _overview(request: HttpRequest) -> Iterator[dict[str, Any]]:
    yield {"title": "Dashboard", "icon": "space_dashboard", "link": reverse("admin:index")}
    if permits(request.user, Area.LOGS, Verb.READ):
        yield {"title": "Analytics", "icon": "bar_chart", "link": reverse("admin:analytics")}
        yield {"title": "Live tail", "icon": "sensors", "link": reverse("admin:live_tail")}
        yield {"title": "Search", "icon": "search", "link": reverse("admin:search_page")}


def _of_model(request: HttpRequest, item: Item) -> Iterator[dict[str, Any]]:
    try:
        model = apps.get_model(item.model)
    except LookupError:
        return
    page = admin.site._registry.get(model)
    if page is not None and page.has_module_permission(request):
        name = f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist"
        yield {"title": item.title, "icon": item.icon, "link": reverse(name)}
