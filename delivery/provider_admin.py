"""What became of the mail of each provider, in the admin of providers, which it completes (ADM-2)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone
from django.utils.http import urlencode

from accounts.models import User
from accounts.tenancy import Area, Verb, permits
from accounts.tenant_admin import signed_in
from delivery import totals
from delivery.totals import Figures, Group
from providers.models import Provider
from providers.provider_admin import ProviderAdmin

DAY = timedelta(hours=24)


class ProviderFiguresAdmin(ProviderAdmin):
    """Adds how many calls there were in the last 24 hours, and how many of them failed: from the totals."""

    list_display: Any = ("name", "type_told", "health_badge", "enabled", "sent_last_day", "error_rate", "place")

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        changelist: Any = super().get_changelist_instance(request)
        figures = self._figures(request) if changelist.result_list else {}
        for row in changelist.result_list:
            row.last_day = figures.get(row.pk)
        return changelist

    def _figures(self, request: HttpRequest) -> Mapping[Any, Figures]:
        now, person = timezone.now(), signed_in(request)
        found = totals.read(_tenant(person), now - DAY, now, Group.PROVIDER)
        return {one.key: one for one in found}

    @admin.display(description="sent, 24 h")
    def sent_last_day(self, provider: Any) -> str:
        return f"{provider.last_day.sent:,}" if provider.last_day else "0"

    @admin.display(description="errors, 24 h")
    def error_rate(self, provider: Any) -> str:
        rate = provider.last_day.delivery_rate if provider.last_day else None
        return "–" if rate is None else f"{100 - rate * 100:.1f} %"

    def render_change_form(self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        provider = kwargs.get("obj")
        if provider is not None and permits(request.user, Area.LOGS, Verb.READ):
            context["last_day"] = self._figures(request).get(provider.pk) or Figures()
            logs = reverse("admin:delivery_deliverylog_changelist")
            context["logs_url"] = f"{logs}?{urlencode({'provider__id__exact': provider.pk})}"
        return super().render_change_form(request, context, *args, **kwargs)


def _tenant(person: User) -> Any:
    """Whose figures; None for an operator: everybody's."""
    return None if person.is_superuser else person.tenant


admin.site.unregister(Provider)
admin.site.register(Provider, ProviderFiguresAdmin)
