"""The admin of tenants."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.contrib import admin
from django.http import HttpRequest

from accounts import quota_admin
from accounts.forms import TenantForm
from accounts.models import Tenant
from accounts.row_pages import StatusMixin
from accounts.tenancy import Area


@admin.register(Tenant)
class TenantAdmin(StatusMixin, quota_admin.UsageMixin):
    area = Area.TENANT
    form = TenantForm
    list_display = ("name", "slug", "status", "may_use_shared_providers", "this_month", "created_at")
    list_filter = ("status", "may_use_shared_providers")
    search_fields = ("name", "slug")
    fields = (
        "name",
        "slug",
        "status",
        "may_use_shared_providers",
        "unknown_outcome",
        "lossless",
        "client_networks",
        "second_factor_required",
        "body_days",
        "dead_letter_days",
        "row_days",
        "archived",
        "archive_days",
        *quota_admin.FIELDS,
        "usage",
        "created_at",
        "updated_at",
    )
    actions = ("suspend", "activate")

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        fixed = ("usage", "created_at", "updated_at")
        granted = ("slug", "status", "may_use_shared_providers", *quota_admin.FIELDS)
        return fixed if request.user.is_superuser else (*fixed, *granted)

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return request.user.is_superuser and super().has_add_permission(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        # An owner's deletion has a time of grace (SEC-6), which a page that deletes at once cannot give.
        return request.user.is_superuser and super().has_delete_permission(request, obj)

    def has_suspend_permission(self, request: HttpRequest) -> bool:
        return request.user.is_superuser

    def get_buttons(self, request: HttpRequest, obj: Tenant) -> Sequence[str]:
        return ("suspend",) if obj.status == Tenant.Status.ACTIVE else ("activate",)
