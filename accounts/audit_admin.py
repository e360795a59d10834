"""The admin of the audit: who did what, as far as the reader may know (SEC-5)."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db.models import Case, F, GenericIPAddressField, Q, QuerySet, Value, When
from django.http import Http404, HttpRequest, StreamingHttpResponse
from django.urls import URLPattern, path

from accounts import audit_export
from accounts.models import AuditEntry
from accounts.tenancy import Area
from accounts.tenant_admin import TenantModelAdmin


class AuditEntryAdmin(TenantModelAdmin):
    area = Area.AUDIT
    offers = frozenset()
    list_display = ("created_at", "who", "action", "target_type", "target_label", "address")
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
        """Entries with `told_by` and `told_ip`: tenants are not told which operator acted, nor from where."""
        nobody = Q(by_operator=True) if not request.user.is_superuser else Q(pk=None)
        return (
            super()
            .get_queryset(request)
            .annotate(
                told_by=Case(When(nobody, then=Value("the platform operator")), default=F("actor_label")),
                told_ip=Case(
                    When(nobody, then=Value(None)),
                    default=F("client_ip"),
                    output_field=GenericIPAddressField(null=True),
                ),
            )
        )

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
