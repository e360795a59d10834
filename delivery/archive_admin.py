"""The admin of archive copies. Reading one is a permission of its own and leaves an audit entry (ADM-4, ARC-1)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.contrib import admin, messages
from django.db import transaction
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from accounts.tenancy import Area, Verb, permits, visible_to
from accounts.tenant_admin import VisibleRelatedFilter
from delivery import archive
from delivery.exceptions import CopyUnreadable, StoreUnavailable
from delivery.models import ArchiveCopy, ArchiveRecipient, Message
from delivery.read_only_admin import ReadOnlyAdmin, as_uuid
from providers.models import Provider

NEWEST = 10_000
"""Copies, from the newest on, whose subjects are searched for words."""


@admin.register(ArchiveCopy)
class ArchiveCopyAdmin(ReadOnlyAdmin):
    area = Area.MESSAGES
    list_display = ("created_at", "status", "mail_from", "recipients_told", "subject", "provider_name", "size")
    list_filter = ("status", "origin", ("account", VisibleRelatedFilter))
    list_select_related = ("account",)
    search_fields = ("subject",)  # what is searched is in get_search_results
    search_help_text = (
        "Id of the copy or message, Message-ID in angle brackets, an address of sender or recipient, the provider's id "
        f"after id:, or words of the subject of the newest {NEWEST:,}."
    )
    actions = ("download", "again")
    fieldsets = (
        (None, {"fields": ("id", "tenant", "account", "status", "error_text", "subject")}),
        ("Envelope", {"fields": ("mail_from", "header_from", "recipients_told", "message_id_header")}),
        ("Sent", {"fields": ("message_id", "provider_name", "provider_message_id", "created_at")}),
        ("Copy", {"fields": ("origin", "size", "stored_size", "compression", "checksum", "store_key", "kept_at")}),
        ("What comes next", {"fields": ("tries", "next_attempt_at")}),
    )
    readonly_fields = ("recipients_told", "message_id")

    @admin.display(description="recipients")
    def recipients_told(self, row: ArchiveCopy) -> str:
        more = len(row.recipients) - 20
        return ", ".join(row.recipients[:20]) + (f" and {more} more" if more > 0 else "")

    @admin.display(description="message")
    def message_id(self, row: ArchiveCopy) -> SafeString | str:
        if not Message.objects.filter(pk=row.message_id).exists():
            return f"{row.message_id} (deleted)"
        url = reverse("admin:delivery_message_change", args=[row.message_id])
        return format_html('<a href="{}">{}</a>', url, row.message_id)

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        """Each kind of term looks where an index can find it."""
        term = search_term.strip()
        key = as_uuid(term)
        if key is not None:
            return queryset.filter(Q(pk=key) | Q(message_id=key)), False
        if term.startswith("<"):
            return queryset.filter(message_id_header=term), False
        if term.startswith("id:"):
            providers = visible_to(request.user, Provider) | Provider.objects.filter(tenant=None)
            told = ArchiveCopy.objects.filter(
                provider_id__in=providers.values("pk"), provider_message_id=term[3:].strip()
            )
            return queryset.filter(pk__in=told.exclude(provider_message_id="").values("pk")), False
        if "@" in term:
            sent_to = ArchiveRecipient.objects.filter(address__in={term, term.lower()}).values("copy_id")
            return queryset.filter(Q(pk__in=sent_to) | Q(mail_from__in={term, term.lower()})), False
        if not term:
            return queryset, False
        newest = visible_to(request.user, ArchiveCopy).order_by("-pk").values("pk")[:NEWEST]
        return super().get_search_results(request, queryset.filter(pk__in=newest), term)

    def get_buttons(self, request: HttpRequest, obj: ArchiveCopy) -> Sequence[str]:
        fits = {ArchiveCopy.Status.KEPT: ("download",), ArchiveCopy.Status.FAILED: ("again",)}
        return fits.get(ArchiveCopy.Status(obj.status), ())

    def has_body_permission(self, request: HttpRequest) -> bool:
        return permits(request.user, Area.BODIES, Verb.READ)

    @admin.action(description="Download .eml", permissions=["body"])
    def download(self, request: HttpRequest, queryset: QuerySet[ArchiveCopy]) -> HttpResponse | None:
        rows = list(queryset[:2])
        if len(rows) != 1:
            self.message_user(request, "Choose one copy to download.", messages.ERROR)
            return None
        [copy] = rows
        try:
            mime = archive.read(copy)
        except (CopyUnreadable, StoreUnavailable) as error:
            self.audit(request, "not_read", copy, {"error": str(error)})
            self.message_user(request, str(error), messages.ERROR)
            return None
        self.audit(request, "read", copy)
        answer = HttpResponse(mime, content_type="message/rfc822")
        answer["Content-Disposition"] = f'attachment; filename="{copy.pk}.eml"'
        return answer

    @admin.action(description="Try again", permissions=["act"])
    def again(self, request: HttpRequest, queryset: QuerySet[ArchiveCopy]) -> None:
        rows = list(queryset.filter(status=ArchiveCopy.Status.FAILED)[:1000])
        with transaction.atomic():
            changed = archive.retry([row.pk for row in rows])
            for row in rows:
                self.audit(request, "retried", row)
        self.message_user(request, f"{changed} are tried again.")
