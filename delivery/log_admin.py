"""The admin of delivery logs: one attempt each."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from accounts.pages import NEWEST, newest
from accounts.tenancy import Area, visible_to
from accounts.tenant_admin import VisibleRelatedFilter
from delivery import search
from delivery.models import DeliveryLog
from delivery.read_only_admin import OfMessageAdmin, as_uuid, in_lines
from providers.fidelity import Fidelity, Verdict
from providers.provider_admin import TypeFilter


class VerdictMixin:
    """What the provider was known to do to the message before it was sent (PRV-4)."""

    @admin.display(description="fidelity", ordering="fidelity")
    def verdict(self, row: DeliveryLog) -> str:
        return str(Verdict(Fidelity(row.fidelity), tuple(row.lost))) if row.fidelity else ""


@admin.register(DeliveryLog)
class DeliveryLogAdmin(VerdictMixin, OfMessageAdmin):
    area = Area.LOGS
    list_display = (
        "created_at",
        "status",
        "provider_name",
        "response_code",
        "error_code",
        "verdict",
        "attempt_number",
        "account",
        "message_id",
        "provider_type",
        "duration_ms",
    )
    list_select_related = ("account",)
    search_fields = ("error_code",)  # what is searched is in get_search_results
    search_help_text = (
        f"Id of the message or attempt, provider message id, or error code: of the newest {NEWEST:,} attempts."
    )
    by_index = frozenset({"status__exact", "account__id__exact", "tenant__id__exact"})
    fields = (
        "id",
        "message_id",
        "attempt_number",
        "status",
        "provider_name",
        "provider_type",
        "provider_message_id",
        "response_code",
        "error_code",
        "error_text",
        "recipients_told",
        "results_told",
        "verdict",
        "removed_told",
        "duration_ms",
        "created_at",
        "finished_at",
    )

    class ProviderTypeFilter(TypeFilter):
        title = "provider type"
        parameter_name = "provider_type"

        def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
            return queryset.filter(provider_type=self.value()) if self.value() else queryset

    list_filter = (
        "status",
        ("fidelity", admin.ChoicesFieldListFilter),
        ProviderTypeFilter,
        ("account", VisibleRelatedFilter),
        ("provider", VisibleRelatedFilter),
    )

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        term = search_term.strip()
        if not term or as_uuid(term) is not None:
            return super().get_search_results(request, queryset, search_term)
        if found := search.by_provider_id(request.user, term):
            return queryset.filter(message_id__in=found, provider_message_id=term), False
        return newest(queryset, visible_to(request.user, DeliveryLog)).filter(error_code=term), False

    @admin.display(description="recipients")
    def recipients_told(self, row: DeliveryLog) -> str:
        return "\n".join(row.recipients)

    @admin.display(description="results")
    def results_told(self, row: DeliveryLog) -> str:
        return in_lines(row.results)

    @admin.display(description="headers left out")
    def removed_told(self, row: DeliveryLog) -> str:
        return ", ".join(row.removed)
