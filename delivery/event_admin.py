"""The admin of events."""

from __future__ import annotations

from django.contrib import admin
from django.utils.text import Truncator

from accounts.tenancy import Area
from delivery.models import Event
from delivery.read_only_admin import FirstRows, OfMessageAdmin, ReadOnlyInline, in_lines, in_words

LONGEST = 150
"""Characters of the data in a list; a message may have a thousand recipients."""


class DataMixin:
    """What is known of an event beside its type, in words."""

    @admin.display(description="data")
    def data_told(self, event: Event) -> str:
        return in_lines(event.data)


class EventInline(DataMixin, ReadOnlyInline):
    model = Event
    area = Area.LOGS
    fields = ("occurred_at", "type", "data_told")
    readonly_fields = ("data_told",)
    verbose_name_plural = f"Events (newest {FirstRows.most})"


@admin.register(Event)
class EventAdmin(DataMixin, OfMessageAdmin):
    area = Area.LOGS
    ordering = ("-id",)
    list_display = ("occurred_at", "type", "data_short", "message_id")
    search_fields = ("=provider_event_id",)
    search_help_text = "Id of the message or event, or the provider's event id."
    fields = ("id", "message_id", "type", "occurred_at", "provider_event_id", "data_told")

    list_filter = ("type",)

    @admin.display(description="data")
    def data_short(self, event: Event) -> str:
        return Truncator(in_words(event.data)).chars(LONGEST)
