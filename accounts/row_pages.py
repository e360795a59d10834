"""What pages of several kinds of rows share: suspend and activate, and secrets that are shown once."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.contrib.admin.utils import quote
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import reverse

from accounts.confirmation import asks, counted
from accounts.tenant_admin import TenantModelAdmin


class StatusMixin(TenantModelAdmin):
    """Suspend and activate, for tenants and accounts."""

    def _set_status(self, request: HttpRequest, queryset: QuerySet[Any], status: str, verb: str) -> None:
        with transaction.atomic():
            changed = list(queryset.exclude(status=status))
            for row in changed:
                before, row.status = row.status, status
                row.save(update_fields=["status", "updated_at"])
                self.audit(request, verb, row, {"status": [before, status]})
        self.message_user(request, f"{len(changed)} {verb}.")

    @admin.action(description="Suspend", permissions=["suspend"])
    @asks(
        lambda rows: (
            f"{counted(rows.count(), rows.model._meta.verbose_name)} can no longer send or sign in, within "
            "seconds. What was accepted before is still delivered. You can activate it again."
        ),
        "Suspend",
    )
    def suspend(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        self._set_status(request, queryset, "suspended", "suspended")

    @admin.action(description="Activate", permissions=["suspend"])
    def activate(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        self._set_status(request, queryset, "active", "activated")

    def has_suspend_permission(self, request: HttpRequest) -> bool:
        return self.has_change_permission(request)


class IssuedOnceMixin(TenantModelAdmin):
    """Shows a secret in the answer itself, so that it is kept nowhere on its way: no session, no cookie, no row."""

    def issued(
        self,
        request: HttpRequest,
        row: Any,
        what: str,
        secret: str,
        *,
        example: str = "",
        note: str = "",
        kept: str = "as a hash only",
    ) -> HttpResponse:
        base = f"admin:{self.opts.app_label}_{self.opts.model_name}"
        context = {
            **self.admin_site.each_context(request),
            "title": what,
            "opts": self.opts,
            "row": row,
            "what": what,
            "secret": secret,
            "example": example,
            "note": note,
            "kept": kept,
            "list_url": reverse(f"{base}_changelist"),
            "change_url": reverse(f"{base}_change", args=[quote(row.pk)]),
            "media": self.media,
        }
        return TemplateResponse(request, "admin/accounts/issued.html", context)
