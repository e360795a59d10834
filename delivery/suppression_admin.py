"""The admin of suppressions: look, add, remove; every change is audited (EVT-2, ADM-2)."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin
from django.db.models import QuerySet
from django.db.models.functions import Lower
from django.http import HttpRequest

from accounts.tenancy import Area, Verb
from accounts.tenant_admin import VisibleRelatedFilter
from delivery.models import Suppression
from delivery.read_only_admin import OfMessageAdmin
from providers.envelope import same


class SuppressionForm(forms.ModelForm):
    """A person's own entry; the reasons that providers give are theirs."""

    class Meta:
        model = Suppression
        fields = ("tenant", "address", "text")
        labels = {"text": "Note"}
        help_texts = {"text": "Why; shown with every recipient that is skipped."}


@admin.register(Suppression)
class SuppressionAdmin(OfMessageAdmin):
    """Rows are added and removed, never changed: to change one, remove it and enter it again."""

    area = Area.SUPPRESSIONS
    offers = frozenset({Verb.CREATE, Verb.DELETE})
    form = SuppressionForm
    list_display = ("address", "reason", "text", "provider", "message_id", "created_at")
    list_filter = ("reason", ("provider", VisibleRelatedFilter))
    list_select_related = ("provider",)
    ordering = ("-id",)
    fields = ("tenant", "address", "reason", "text", "provider", "message_id", "created_at")
    search_fields = ("=address",)  # what is searched is in get_search_results
    search_help_text = "An address, or its domain beginning with @."

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).defer("provider__config")

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return ("tenant", "address", "text") if obj is None else super().get_fields(request, obj)

    @admin.display(description="message")
    def message_link(self, row: Any) -> str:
        return super().message_link(row) if row.message_id else "-"

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        term = search_term.strip()
        if term.startswith("@"):
            return queryset.filter(address__iendswith=same("x" + term)[1:]), False
        if "@" in term:
            return queryset.alias(folded=Lower("address")).filter(folded=same(term)), False
        return queryset.filter(address__icontains=term) if term else queryset, False
