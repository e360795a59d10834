"""The admin of events."""

from __future__ import annotations

import json

from django.contrib import admin

from accounts.tenancy import Area
from delivery.models import Event
from delivery.read_only_admin import FirstRows, OccurringFilter, OfMessageAdmin, ReadOnlyInline


class EventInline(ReadOnlyInline):
    model = Event
    area = Area.LOGS
    fields = ("occurred_at", "type", "data")
    verbose_name_plural = f"Events (newest {FirstRows.most})"


@admin.register(Event)
class EventAdmin(OfMessageAdmin):
    area = Area.LOGS
    ordering = ("-id",)
    list_display = ("occurred_at", "type", "message_id", "data_told")
    search_fields = ("=provider_event_id",)
    search_help_text = "Id of the message or event, or the provider's event id."
    fields = ("id", "message_id", "type", "occurred_at", "provider_event_id", "data_told")

    list_filter = (("type", OccurringFilter),)

    @admin.display(description="data")
    def data_told(self, event: Event) -> str:
        return json.dumps(event.data, ensure_ascii=False) if event.data else ""
