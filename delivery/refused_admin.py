"""The admin of refused sessions: why mail was not taken, for those whose mail it was (SMTP-18)."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from accounts.tenancy import Area
from accounts.tenant_admin import VisibleRelatedFilter
from delivery.models import RefusedSession
from delivery.read_only_admin import ReadOnlyAdmin
from delivery.refused_search import search
from delivery.refused_words import advice, in_words


class ReasonFilter(admin.SimpleListFilter):
    """Offers the reasons of the newest rows."""

    title = "reason"
    parameter_name = "reason"
    newest = 2000

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        rows = model_admin.get_queryset(request).order_by("-pk").values_list("reason", flat=True)[: self.newest]
        return [(reason, in_words(reason)) for reason in sorted(set(rows))]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(reason=self.value()) if self.value() else queryset


@admin.register(RefusedSession)
class RefusedSessionAdmin(ReadOnlyAdmin):
    area = Area.LOGS
    empty_text = "Nothing was refused in the last 30 days: clients sign in and send as they should."
    by_index = frozenset({"reason", "account__id__exact", "tenant__id__exact"})
    ordering = ("-id",)
    list_display = ("last_at", "why", "count", "client_ip", "username", "mail_from", "recipient", "account")
    list_filter = (ReasonFilter, "source", ("account", VisibleRelatedFilter))
    list_select_related = ("account",)
    search_fields = ("=username",)  # what is searched is in get_search_results
    search_help_text = "A client address, a username, an address of sender or recipient, a session, or a reason's code."
    fieldsets = (
        (None, {"fields": ("why", "reason", "reply", "advice_told", "count", "created_at", "last_at")}),
        ("Client", {"fields": ("client_ip", "helo", "tls", "source", "session_id")}),
        ("Who", {"fields": ("username", "account", "tenant")}),
        ("Envelope", {"fields": ("mail_from", "recipient", "recipient_count", "size")}),
    )
    readonly_fields = ("why", "advice_told")

    @admin.display(description="reason", ordering="reason")
    def why(self, row: RefusedSession) -> str:
        return in_words(row.reason)

    @admin.display(description="what helps")
    def advice_told(self, row: RefusedSession) -> str:
        return advice(row.reason) or "-"

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        term = search_term.strip()
        return (search(queryset, term) if term else queryset), False
