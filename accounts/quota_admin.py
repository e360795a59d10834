"""Quotas in the admin: what is used of them, and the warnings (LIM-1)."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.utils.html import format_html_join

from accounts import quotas
from accounts.models import QuotaWarning
from accounts.quotas import Owner, Period, Usage
from accounts.tenancy import Area
from accounts.tenant_admin import TenantModelAdmin, VisibleRelatedFilter

FIELDS = ("messages_per_minute", "messages_per_hour", "messages_per_month")


class UsageMixin(TenantModelAdmin):
    """For rows that have quotas: a read-only field `usage` and a column `this_month`."""

    @admin.display(description="used")
    def usage(self, owner: Owner) -> str:
        lines = [(told(usage),) for usage in reversed(quotas.usages(owner))]
        return format_html_join("\n", "<div>{}</div>", lines) or "No quota is set."

    @admin.display(description="this month")
    def this_month(self, owner: Owner) -> str | None:
        month = next((usage for usage in quotas.usages(owner) if usage.quota.period is Period.MONTH), None)
        return None if month is None or month.percent is None else f"{month.percent} %"

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        super().save_model(request, obj, form, change)
        if change and "messages_per_month" in form.changed_data:
            quotas.forget(obj)


def told(usage: Usage) -> str:
    """`80 of 100 this month (80 %)`; a window is the last minute or hour, not the one of the clock."""
    when = "this month" if usage.quota.period is Period.MONTH else f"in the last {usage.quota.period}"
    if usage.used is None:
        return f"{usage.quota.most:,} {when}: what is used cannot be looked up now"
    return f"{usage.used:,} of {usage.quota.most:,} {when} ({usage.percent} %)"


class QuotaWarningAdmin(TenantModelAdmin):
    area = Area.ACCOUNTS
    offers = frozenset()
    list_display = ("created_at", "account", "percent", "used", "most", "month_told")
    list_filter = (("account", VisibleRelatedFilter), "percent")
    list_select_related = ("account",)
    fields = ("created_at", "tenant", "account", "percent", "used", "most", "month_told")

    @admin.display(description="month", ordering="month")
    def month_told(self, warning: QuotaWarning) -> str:
        return f"{warning.month:%Y-%m}"
