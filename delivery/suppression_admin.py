"""The admin of suppressions: look, add, remove; every change is audited (EVT-2, ADM-2)."""

from __future__ import annotations

from typing import Any, ClassVar

from django import forms
from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.db.models import QuerySet
from django.db.models.functions import Lower
from django.http import (
    HttpRequest,
    HttpResponse,
    HttpResponseNotAllowed,
    HttpResponseRedirect,
    StreamingHttpResponse,
)
from django.http.response import HttpResponseBase
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse

from accounts import audit
from accounts.admin_page import themed
from accounts.confirmation import counted
from accounts.models import Tenant
from accounts.tenancy import Area, Verb, visible_to
from accounts.tenant_admin import VisibleRelatedFilter, client_ip, signed_in
from delivery import suppression_lists as lists
from delivery.models import Suppression
from delivery.read_only_admin import OfMessageAdmin
from providers.envelope import same

MOST_BAD = 100
"""Lines that cannot be taken and are shown one by one."""


class ImportForm(forms.Form):
    """A file, or what a file held when it was counted."""

    tenant_ = forms.ModelChoiceField(Tenant.objects.none(), label="Tenant")
    file = forms.FileField(required=False, label="CSV file")
    content = forms.CharField(required=False, widget=forms.HiddenInput, strip=False)

    def __init__(self, *args: Any, tenants: QuerySet[Tenant], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        field: Any = self.fields["tenant_"]
        field.queryset, self._tenants = tenants, tenants
        if len(tenants[:2]) == 1:
            field.widget, field.required = forms.HiddenInput(), False
        self.fields["file"].widget.attrs["accept"] = ".csv,text/csv,text/plain"
        themed(self)

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or {}
        file = cleaned.get("file")
        if file is None and not cleaned.get("content") and "file" not in self.errors:
            self.add_error("file", "Choose a file.")
        elif file is not None and file.size > lists.MOST_OCTETS:
            self.add_error("file", f"The file is larger than {lists.MOST_OCTETS:,} octets: import it in parts.")
        return cleaned

    def tenant(self) -> Tenant:
        chosen: Tenant | None = self.cleaned_data["tenant_"]
        return chosen or self._tenants.get()

    def octets(self) -> bytes:
        file = self.cleaned_data["file"]
        return bytes(file.read()) if file is not None else str(self.cleaned_data["content"]).encode()


class SuppressionForm(forms.ModelForm):
    """A person's own entry; the reasons that providers give are theirs."""

    class Meta:
        model = Suppression
        fields = ("tenant", "address", "text")
        labels = {"text": "Note"}
        help_texts = {"text": "Why; shown with every recipient that is skipped."}


@admin.register(Suppression)
class SuppressionAdmin(OfMessageAdmin):
    """Rows are added and removed, never changed: to change one, remove it and enter it again."""

    area = Area.SUPPRESSIONS
    offers = frozenset({Verb.CREATE, Verb.DELETE})
    form = SuppressionForm
    list_display = ("address", "reason", "text", "provider", "message_id", "created_at")
    list_filter = ("reason", ("provider", VisibleRelatedFilter))
    list_select_related = ("provider",)
    ordering = ("-id",)
    fields = ("tenant", "address", "reason", "text", "provider", "message_id", "created_at")
    empty_text = (
        "Addresses that must not be mailed again come here by themselves after hard bounces and complaints, and after "
        "three soft bounces in seven days. You can add some, or import a list."
    )
    empty_links = (("admin:delivery_suppression_import", "Import a list"),)
    search_fields = ("=address",)  # what is searched is in get_search_results
    search_help_text = "An address, or its domain beginning with @."

    class Media:
        css: ClassVar[dict[str, Any]] = {"all": ("accounts/config.css",)}

    # --- lists ----------------------------------------------------------------------------------------------------
    def get_urls(self) -> list[URLPattern]:
        views = {"import": self.import_view, "export": self.export_view}
        return [
            path(f"{name}/", self.admin_site.admin_view(view), name=f"delivery_suppression_{name}")
            for name, view in views.items()
        ] + super().get_urls()

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        may = {"may_import": self.has_add_permission(request)}
        return super().changelist_view(request, {**(extra_context or {}), **may})

    def export_view(self, request: HttpRequest) -> HttpResponseBase:
        """The whole list as CSV, which can be imported again."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        rows = self.get_queryset(request).order_by("pk").iterator(chunk_size=2000)
        answer = StreamingHttpResponse(lists.as_csv(rows), content_type="text/csv; charset=utf-8")
        answer["Content-Disposition"] = 'attachment; filename="suppressions.csv"'
        return answer

    def import_view(self, request: HttpRequest) -> HttpResponse:
        """A file is counted first, and taken when that is confirmed."""
        if request.method not in {"GET", "HEAD", "POST"}:
            return HttpResponseNotAllowed(["GET", "POST"])
        if not self.has_add_permission(request):
            raise PermissionDenied
        sent = request.method == "POST"
        tenants = visible_to(request.user, Tenant).order_by("name")
        form = ImportForm(request.POST if sent else None, request.FILES if sent else None, tenants=tenants)
        preview: dict[str, Any] = {}
        if sent and form.is_valid():
            tenant, octets = form.tenant(), form.octets()
            try:
                listed = lists.read(octets)
            except lists.Unreadable as error:
                form.add_error("file", str(error))
            else:
                if request.POST.get("confirmed") == "yes":
                    return self._imported(request, tenant, listed)
                there = lists.known(tenant, listed.entries)
                preview = {
                    "listed": listed,
                    "tenant": tenant,
                    "new": len(listed.entries) - len(there),
                    "known": len(there),
                    "bad": listed.bad[:MOST_BAD],
                    "more_bad": len(listed.bad) - MOST_BAD,
                    "content": octets.decode("utf-8-sig"),
                }
        context = {
            **self.admin_site.each_context(request),
            "title": "Import suppressions",
            "lead": "A CSV file: an address a line, and after it, if wanted, reason and note.",
            "opts": self.opts,
            "form": form,
            "reasons": ", ".join(Suppression.Reason.values),
            "media": self.media,
            **preview,
        }
        return TemplateResponse(request, "admin/delivery/suppression/import.html", context)

    def _imported(self, request: HttpRequest, tenant: Tenant, listed: lists.Listed) -> HttpResponse:
        with transaction.atomic():
            added = lists.add(tenant, listed.entries)
            told = {"added": added, "bad_lines": len(listed.bad)}
            audit.record(signed_in(request), "suppression.imported", tenant, told, client_ip(request))
        self.message_user(request, f"{counted(added, 'address', 'addresses')} added.")
        return HttpResponseRedirect(reverse("admin:delivery_suppression_changelist"))

    # --- rows -----------------------------------------------------------------------------------------------------
    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).defer("provider__config")

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return ("tenant", "address", "text") if obj is None else super().get_fields(request, obj)

    @admin.display(description="message")
    def message_link(self, row: Any) -> str:
        return super().message_link(row) if row.message_id else "-"

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        term = search_term.strip()
        if term.startswith("@"):
            return queryset.filter(address__iendswith=same("x" + term)[1:]), False
        if "@" in term:
            return queryset.alias(folded=Lower("address")).filter(folded=same(term)), False
        return queryset.filter(address__icontains=term) if term else queryset, False
