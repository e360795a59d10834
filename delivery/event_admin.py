"""The admin of events."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.text import Truncator

from accounts.tenancy import Area
from delivery import search
from delivery.models import Event
from delivery.read_only_admin import OfMessageAdmin, as_uuid, in_lines, in_words

LONGEST = 150
"""Characters of the data in a list; a message may have a thousand recipients."""


class DataMixin:
    """What is known of an event beside its type, in words."""

    @admin.display(description="data")
    def data_told(self, event: Event) -> str:
        return in_lines(event.data)


@admin.register(Event)
class EventAdmin(DataMixin, OfMessageAdmin):
    area = Area.LOGS
    ordering = ("-id",)
    list_display = ("occurred_at", "type", "data_short", "message_id")
    search_fields = ("provider_event_id",)  # what is searched is in get_search_results
    search_help_text = "Id of the message or event, or the provider's event id."
    fields = ("id", "message_id", "type", "occurred_at", "provider_event_id", "data_told")

    list_filter = ("type",)
    by_index = frozenset({"type__exact", "tenant__id__exact"})

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        term = search_term.strip()
        if not term or as_uuid(term) is not None:
            return super().get_search_results(request, queryset, search_term)
        return queryset.filter(pk__in=search.events_told_as(request.user, term)), False

    @admin.display(description="data")
    def data_short(self, event: Event) -> str:
        return Truncator(in_words(event.data)).chars(LONGEST)
