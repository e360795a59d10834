"""The admin of recipients: what became of each address."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from accounts.tenancy import Area
from delivery import search
from delivery.models import Recipient
from delivery.read_only_admin import OfMessageAdmin, as_uuid


class ReplyMixin:
    """What the provider said of a recipient, whether it was a yes or a no."""

    @admin.display(description="reply code")
    def reply_code(self, row: Recipient) -> str:
        return row.error_code

    @admin.display(description="reply")
    def reply(self, row: Recipient) -> str:
        return row.error_text


@admin.register(Recipient)
class RecipientAdmin(ReplyMixin, OfMessageAdmin):
    area = Area.MESSAGES
    ordering = ("-message_id", "id")  # the order of messages, which an index has by tenant
    list_display = ("address", "status", "message_id", "provider_message_id", "reply_code", "updated_at")
    list_filter = ("status",)
    search_fields = ("address",)  # what is searched is in get_search_results
    search_help_text = "An address, the provider's id of a message, or ours."
    by_index = frozenset({"tenant__id__exact"})

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        term = search_term.strip()
        if not term or as_uuid(term) is not None:
            return super().get_search_results(request, queryset, search_term)
        if "@" in term:
            return queryset.filter(address__in={term, term.lower()}), False
        found = search.by_provider_id(request.user, term)
        return queryset.filter(message_id__in=found, provider_message_id=term), False

    fields = (
        "message_id",
        "address",
        "status",
        "provider_message_id",
        "reply_code",
        "reply",
        "delivered_at",
        "updated_at",
    )
