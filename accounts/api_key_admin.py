"""The admin of API keys."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse

from accounts import api_keys, credentials
from accounts.confirmation import asks, counted
from accounts.forms import ApiKeyForm
from accounts.models import ApiKey
from accounts.row_pages import IssuedOnceMixin
from accounts.tenancy import Area
from accounts.tenant_admin import VisibleRelatedFilter


@admin.register(ApiKey)
class ApiKeyAdmin(IssuedOnceMixin):
    area = Area.ACCOUNTS
    form = ApiKeyForm
    list_display = ("prefix", "name", "account", "scopes", "expires_at", "revoked_at", "last_used_at")
    list_filter = (("account", VisibleRelatedFilter),)
    list_select_related = ("account",)
    search_fields = ("prefix", "name", "account__username")
    actions = ("revoke",)
    buttons = ("revoke",)
    fields = ("account", "name", "scopes", "expires_at")

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return self.fields if obj is None else ("prefix", *self.fields, "revoked_at", "last_used_at", "created_at")

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        # A key is made, revoked and deleted; what it may do does not change under its holder.
        return False

    def has_revoke_permission(self, request: HttpRequest) -> bool:
        return self.has_delete_permission(request)

    def save_model(self, request: HttpRequest, obj: ApiKey, form: Any, change: bool) -> None:
        request.issued_key = api_keys.draw(obj)  # type: ignore[attr-defined]
        super().save_model(request, obj, form, change)

    def response_add(self, request: HttpRequest, obj: ApiKey, post_url_continue: str | None = None) -> HttpResponse:
        return self.issued(request, obj, "API key", request.issued_key)  # type: ignore[attr-defined]

    @admin.action(description="Revoke", permissions=["revoke"])
    @asks(
        lambda rows: f"{counted(rows.count(), 'key')} will be refused from now on, for good.",
        "Revoke",
    )
    def revoke(self, request: HttpRequest, queryset: QuerySet[ApiKey]) -> None:
        with transaction.atomic():
            keys = list(queryset.filter(revoked_at=None))
            for key in keys:
                credentials.revoke_api_key(key)
                self.audit(request, "revoked", key)
        self.message_user(request, f"{len(keys)} revoked.")
