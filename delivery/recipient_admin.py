"""The admin of recipients: what became of each address."""

from __future__ import annotations

from django.contrib import admin

from accounts.tenancy import Area
from delivery.models import Recipient
from delivery.read_only_admin import FirstRows, OfMessageAdmin, ReadOnlyInline


class ReplyMixin:
    """What the provider said of a recipient, whether it was a yes or a no."""

    @admin.display(description="reply code")
    def reply_code(self, row: Recipient) -> str:
        return row.error_code

    @admin.display(description="reply")
    def reply(self, row: Recipient) -> str:
        return row.error_text


class RecipientInline(ReplyMixin, ReadOnlyInline):
    model = Recipient
    area = Area.MESSAGES
    order = "pk"
    fields = ("address", "status", "provider_message_id", "reply_code", "reply", "delivered_at", "updated_at")
    readonly_fields = ("reply_code", "reply")
    verbose_name_plural = f"Recipients (first {FirstRows.most})"


@admin.register(Recipient)
class RecipientAdmin(ReplyMixin, OfMessageAdmin):
    area = Area.MESSAGES
    ordering = ("-id",)
    list_display = ("address", "status", "message_id", "provider_message_id", "reply_code", "updated_at")
    list_filter = ("status",)
    search_fields = ("=address", "=provider_message_id")
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
