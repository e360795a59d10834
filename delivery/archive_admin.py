"""The admin of archive copies. Reading one is a permission of its own and leaves an audit entry (ADM-4, ARC-1)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from django.contrib import admin, messages
from django.db import transaction
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from accounts.tenancy import Area, Verb, permits
from accounts.tenant_admin import VisibleRelatedFilter
from delivery import archive, archive_search
from delivery.exceptions import CopyUnreadable, StoreUnavailable
from delivery.models import ArchiveCopy, Message
from delivery.read_only_admin import ReadOnlyAdmin, as_uuid

IN_THREAD = 50
"""Copies of its thread on a copy's page, the first ones."""


@admin.register(ArchiveCopy)
class ArchiveCopyAdmin(ReadOnlyAdmin):
    area = Area.MESSAGES
    list_display = ("created_at", "status", "mail_from", "recipients_told", "subject", "provider_name", "size")
    list_filter = ("status", "origin", ("account", VisibleRelatedFilter))
    list_select_related = ("account",)
    search_fields = ("subject",)  # what is searched is in get_search_results
    search_help_text = (
        "Id of the copy or message, Message-ID in angle brackets, an address of sender or recipient (from: or to: "
        "before it: of that one), the provider's id after id:, words of the message after text:, or of the subject."
    )
    actions = ("download", "again")
    fieldsets = (
        (None, {"fields": ("id", "tenant", "account", "status", "error_text", "subject")}),
        ("Envelope", {"fields": ("mail_from", "header_from", "recipients_told", "message_id_header")}),
        ("Thread", {"fields": ("thread_told",)}),
        ("Sent", {"fields": ("message_id", "provider_name", "provider_message_id", "created_at")}),
        ("Copy", {"fields": ("origin", "size", "stored_size", "compression", "checksum", "store_key", "kept_at")}),
        ("What comes next", {"fields": ("tries", "next_attempt_at")}),
    )
    readonly_fields = ("recipients_told", "message_id", "thread_told")

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

    @admin.display(description="messages")
    def thread_told(self, row: ArchiveCopy) -> SafeString | str:
        """The copies of the conversation, which are all of the row's own tenant."""
        if row.thread is None:
            return "-"
        copies = ArchiveCopy.objects.filter(thread=row.thread, tenant=row.tenant_id).order_by("pk")[:IN_THREAD]
        lines = (
            (
                reverse("admin:delivery_archivecopy_change", args=[copy.pk]),
                copy.created_at.strftime("%Y-%m-%d %H:%M"),
                copy.mail_from or "<>",
                copy.subject or "(no subject)",
                "this one" if copy.pk == row.pk else "",
            )
            for copy in copies
        )
        return format_html_join("", '<div><a href="{}">{} {}: {}</a> {}</div>', lines)

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        """Each kind of term looks where an index can find it."""
        term = search_term.strip()
        return (self._found(request, queryset, term) if term else queryset), False

    def _found(self, request: HttpRequest, rows: QuerySet[Any], term: str) -> QuerySet[Any]:
        key = as_uuid(term)
        if key is not None:
            return rows.filter(Q(pk=key) | Q(message_id=key))
        kind, _, rest = term.partition(":")
        search = self._by_kind(request).get(kind.lower())
        if search is not None and rest.strip():
            return search(rows, rest.strip())
        if term.startswith("<"):
            return archive_search.by_message_id(rows, term)
        if "@" in term and " " not in term:
            return archive_search.by_address(rows, term)
        return archive_search.by_subject(rows, term)

    def _by_kind(self, request: HttpRequest) -> dict[str, Callable[[QuerySet[Any], str], QuerySet[Any]]]:
        """What may stand before a colon; words of bodies are for those who may read them."""
        may = self.has_body_permission(request)
        return {
            "id": lambda rows, told: archive_search.by_provider_id(rows, request.user, told),
            "from": archive_search.by_sender,
            "to": archive_search.by_recipient,
            "text": lambda rows, words: archive_search.by_text(rows, words) if may else rows.none(),
        }

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
