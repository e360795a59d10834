"""The admin of notices: who was told of what was not delivered, and how (DEL-10)."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from accounts.tenancy import Area
from delivery.models import Notice
from delivery.read_only_admin import FirstRows, OfMessageAdmin, ReadOnlyInline, as_uuid, in_words

SHOWN = 5
"""Recipients named in a list."""


class ToldMixin:
    """What a notice is about, in words."""

    @admin.display(description="about")
    def about(self, row: Notice) -> str:
        addresses = [str(entry["address"]) for entry in row.recipients[:SHOWN]]
        more = len(row.recipients) - len(addresses)
        return ", ".join([*addresses, *([f"{more:,} more"] if more else [])]) or "mail that is held"


class NoticeInline(ToldMixin, ReadOnlyInline):
    model = Notice
    area = Area.MESSAGES
    fields = ("created_at", "kind", "status", "about", "text", "finished_at")
    readonly_fields = ("about",)
    verbose_name_plural = f"Notices (newest {FirstRows.most})"
    fk_name = "message"
    show_change_link = True


@admin.register(Notice)
class NoticeAdmin(ToldMixin, OfMessageAdmin):
    area = Area.MESSAGES
    ordering = ("-id",)
    list_display = ("created_at", "kind", "status", "about", "text", "message_id")
    list_filter = ("kind", "status")
    search_fields = ("=text",)  # what is searched is ids
    search_help_text = "Id of the notice, of the message it is about, or of the message it was told by."
    fields = (
        "id",
        "message_id",
        "kind",
        "status",
        "recipients_told",
        "text",
        "sent_as",
        "tries",
        "next_attempt_at",
        "created_at",
        "finished_at",
    )

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        key = as_uuid(search_term.strip())
        if key is not None:
            return queryset.filter(Q(pk=key) | Q(message_id=key) | Q(sent_id=key)), False
        return super().get_search_results(request, queryset, search_term)

    @admin.display(description="recipients")
    def recipients_told(self, row: Notice) -> str:
        return "\n".join(f"{entry['address']}: {in_words(entry['text'])}" for entry in row.recipients) or "-"

    @admin.display(description="sent as")
    def sent_as(self, row: Notice) -> SafeString | str:
        if row.sent_id is None:
            return "-"
        return format_html(
            '<a href="{}">{}</a>', reverse("admin:delivery_message_change", args=[row.sent_id]), row.sent_id
        )
