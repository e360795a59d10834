"""The admin of the audit: who did what, as far as the reader may know (SEC-5)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, StreamingHttpResponse
from django.urls import URLPattern, path

from accounts import audit, audit_export
from accounts.models import AuditEntry
from accounts.tenancy import Area
from accounts.tenant_admin import TenantModelAdmin

if TYPE_CHECKING:
    from django.contrib.admin import DateFieldListFilter as RangeDateTimeFilter
else:
    from unfold.contrib.filters.admin import RangeDateTimeFilter


class _OfTheNewest(admin.SimpleListFilter):
    """Offers what stands in the newest entries the reader may see: a look at all of them would take long."""

    column: ClassVar[str]
    newest = 2000

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        rows = model_admin.get_queryset(request).order_by("-pk").values_list(self.column, flat=True)[: self.newest]
        found = {str(value) for value in rows if value} | ({self.value() or ""} - {""})
        return [(value, self.name(value)) for value in sorted(found)]

    def name(self, value: str) -> str:
        return value

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(**{self.column: self.value()}) if self.value() else queryset


class ActionFilter(_OfTheNewest):
    title, parameter_name, column = "action", "action", "action"


class TargetFilter(_OfTheNewest):
    title, parameter_name, column = "target type", "target_type", "target_type"

    def name(self, value: str) -> str:
        return value.partition(".")[2] or value


class ActorFilter(_OfTheNewest):
    title, parameter_name, column = "actor", "by", "told_by"


class AuditEntryAdmin(TenantModelAdmin):
    area = Area.AUDIT
    offers = frozenset()
    list_display = ("created_at", "who", "action", "target_type", "target_label", "address")
    list_filter = (ActionFilter, TargetFilter, ActorFilter, ("created_at", RangeDateTimeFilter))
    search_fields = ("told_by", "action", "target_label", "=target_id")
    fields = (
        "created_at",
        "tenant",
        "who",
        "action",
        "target_type",
        "target_label",
        "target_id",
        "address",
        "changes_told",
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """Entries with `told_by` and `told_ip`, see `audit.told_to`."""
        return audit.told_to(request.user, super().get_queryset(request))

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest) -> bool:
        # What is not shown is not told letter by letter either.
        if lookup.partition("__")[0] in {"actor", "actor_label", "client_ip"} and not request.user.is_superuser:
            return False
        return super().lookup_allowed(lookup, value, request)

    @admin.display(description="actor", ordering="told_by")
    def who(self, entry: AuditEntry) -> str:
        return str(entry.told_by)  # type: ignore[attr-defined]

    @admin.display(description="client IP", ordering="told_ip")
    def address(self, entry: AuditEntry) -> str | None:
        return entry.told_ip  # type: ignore[attr-defined]

    @admin.display(description="changes")
    def changes_told(self, entry: AuditEntry) -> str:
        return audit_export.told(entry.changes)

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.export)
        return [path("export/<str:kind>/", view, name="accounts_auditentry_export"), *super().get_urls()]

    def export(self, request: HttpRequest, kind: str) -> StreamingHttpResponse:
        """The entries that the list would show, all of them, as a file."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        if kind not in ("csv", "json"):
            raise Http404
        entries = self.get_changelist_instance(request).get_queryset(request).iterator(chunk_size=2000)
        lines = (audit_export.as_csv if kind == "csv" else audit_export.as_json)(entries)
        media = "text/csv; charset=utf-8" if kind == "csv" else "application/json"
        headers = {"Content-Disposition": f'attachment; filename="audit.{kind}"', "Cache-Control": "no-store"}
        return StreamingHttpResponse(lines, content_type=media, headers=headers)
