"""What the pages of rows share that the system writes and people read."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import Any, ClassVar

from django.contrib import admin, messages
from django.db.models import Q, QuerySet
from django.forms.models import BaseInlineFormSet
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from accounts.pages import NEWEST, newest
from accounts.tenancy import Area, Verb, permits
from accounts.tenant_admin import RoleInline, TenantModelAdmin

NO_FILTER = frozenset({"o", "p", "q", "all", "_facets", "_popup", "_to_field", "e"})
"""What the address of a list may say beside filters."""


class ReadOnlyAdmin(TenantModelAdmin):
    """Rows that the system writes and people read."""

    offers = frozenset()
    by_index: ClassVar[frozenset[str]] = frozenset()
    """Filters, by their names in an address, that an index answers. With any other the newest rows are looked at only,
    and the page says so."""

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        rows = super().get_queryset(request)
        return newest(rows, rows) if self._looks_at_newest(request) else rows

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        if self._looks_at_newest(request):
            self.message_user(request, f"This filter looks at the newest {NEWEST:,} rows only.", messages.INFO)
        return super().changelist_view(request, extra_context)

    def _looks_at_newest(self, request: HttpRequest) -> bool:
        list_ = getattr(request.resolver_match, "url_name", "").endswith("_changelist")
        return bool(list_ and self.by_index and request.GET.keys() - self.by_index - NO_FILTER)


class FirstRows(BaseInlineFormSet):
    """The first rows below a message: a page stays readable with a thousand recipients."""

    most = 100

    def get_queryset(self) -> QuerySet[Any]:
        if not hasattr(self, "_first"):
            self._first = super().get_queryset()[: self.most]
        return self._first


class ReadOnlyInline(RoleInline):
    offers = frozenset()
    formset = FirstRows
    can_delete = False

    order = "-pk"

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).order_by(self.order)


def in_words(value: Any) -> str:
    """A value of a JSON field as one would write it: `anna@acme.example: delivered, bert@acme.example: bounced`."""
    match value:
        case None | "":
            return "-"
        case bool():
            return "yes" if value else "no"
        case dict():
            return ", ".join(f"{_name(key)}: {in_words(inner)}" for key, inner in value.items()) or "-"
        case list():
            return "; ".join(in_words(inner) for inner in value) or "-"
        case str():
            return _moment(value)
        case _:
            return str(value)


def in_lines(value: dict[str, Any]) -> SafeString | str:
    """The same with a line for each entry."""
    lines = ((_name(key), in_words(inner)) for key, inner in value.items())
    return format_html_join("", "<div>{}: {}</div>", lines) or "-"


def _moment(text: str) -> str:
    """A time as all pages show it; what is none stays as it is."""
    try:
        moment = datetime.fromisoformat(text) if text[10:11] == "T" else None
        return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC" if moment and moment.tzinfo else text
    except (ValueError, OverflowError):  # what a provider wrote may look like a time and be none
        return text


def _name(key: str) -> str:
    return key if "@" in key else key.replace("_", " ")


def as_uuid(text: str) -> uuid.UUID | None:
    try:
        return uuid.UUID(text)
    except ValueError:
        return None


class OfMessageAdmin(ReadOnlyAdmin):
    """Rows that belong to a message, linked to it for those who may see it."""

    def get_list_display(self, request: HttpRequest) -> list[Any]:
        may = permits(request.user, Area.MESSAGES, Verb.READ)
        return ["message_link" if name == "message_id" and may else name for name in super().get_list_display(request)]

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        may = permits(request.user, Area.MESSAGES, Verb.READ)
        return ["message_link" if name == "message_id" and may else name for name in self.fields or ()]

    @admin.display(description="message")
    def message_link(self, row: Any) -> str:
        url = reverse("admin:delivery_message_change", args=[row.message_id])
        return format_html('<a href="{}">{}</a>', url, row.message_id)

    @admin.display(description="message")
    def message_id(self, row: Any) -> str:
        return str(row.message_id)

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        key = as_uuid(search_term.strip())
        if key is not None:
            return queryset.filter(Q(pk=key) | Q(message_id=key)), False
        return super().get_search_results(request, queryset, search_term)
