"""The health of providers in the admin: what it is now, what it was, and ending a pause (PRV-10)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.contrib import admin, messages
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.html import format_html_join

from accounts.tenancy import Area
from accounts.tenant_admin import TenantModelAdmin, VisibleRelatedFilter
from providers import health
from providers.models import HealthEvent, Provider

NEWEST = 10
"""Events on a provider's page."""


class HealthMixin(TenantModelAdmin):
    """The columns, fields and the button of a provider's health."""

    @staticmethod
    def health_word(provider: Provider) -> str:
        """`healthy`, `unhealthy`, or `probing`."""
        if provider.unhealthy_until is None:
            return "healthy"
        return "unhealthy" if provider.unhealthy_until > timezone.now() else "probing"

    @admin.display(description="health", ordering="unhealthy_until")
    def health_told(self, provider: Provider) -> str:
        until = provider.unhealthy_until
        if until is None:
            return "healthy"
        if until > timezone.now():
            return f"unhealthy until {_moment(until)}: {provider.unhealthy_reason}"
        return f"probing (the next message shows whether it is back): {provider.unhealthy_reason}"

    @admin.display(description="last changes")
    def health_changes(self, provider: Provider) -> str:
        newest = provider.health_events.all()[:NEWEST]
        lines = [(_moment(event.occurred_at), event.state, event.reason) for event in newest]
        return format_html_join("", "{} {} {}<br>", lines) if lines else "none"

    def get_buttons(self, request: HttpRequest, obj: Any) -> Sequence[str]:
        paused = obj.unhealthy_until is not None and obj.unhealthy_until > timezone.now()
        return [*super().get_buttons(request, obj), *(["probe_now"] if paused else [])]

    @admin.action(description="Probe now", permissions=["change"])
    def probe_now(self, request: HttpRequest, queryset: QuerySet[Provider]) -> None:
        for provider in queryset:
            with transaction.atomic():
                ended = health.probe_now(provider)
                if ended:
                    self.audit(request, "probed", provider, {"unhealthy_reason": [provider.unhealthy_reason, None]})
            if ended:
                self.message_user(request, f"The next message shows whether {provider} is back.")
            else:
                self.message_user(request, f"There is no pause of {provider} to end.", messages.WARNING)


@admin.register(HealthEvent)
class HealthEventAdmin(TenantModelAdmin):
    """When providers became unhealthy, and healthy again; only to be read."""

    area = Area.LOGS
    offers = frozenset()
    ordering = ("-id",)
    list_display = ("occurred_at", "provider", "state", "reason", "until")
    list_display_links = ("occurred_at",)
    list_select_related = ("provider",)
    list_filter = ("state", ("provider", VisibleRelatedFilter))
    fields = ("provider_name", "state", "reason", "until", "occurred_at")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).defer("provider__config")

    @admin.display(description="provider")
    def provider_name(self, event: HealthEvent) -> str:
        # Not a link: not everybody who may read this may see the provider.
        return event.provider.name


def _moment(when: Any) -> str:
    return date_format(timezone.localtime(when), "Y-m-d H:i:s T")
