"""Lists whose rows people put in order: by dragging, by keyboard, by number without JavaScript (RTE-6).

What is moved takes the place of what it is moved before or after, within its tenant; it is saved at once and audited.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any, ClassVar

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect, JsonResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from accounts import audit
from accounts.tenant_admin import TenantModelAdmin
from providers.places import Conflict, moved, numbered, placed

MOST = 500
"""Rows that are moved in one request."""


class OrderMixin(TenantModelAdmin):
    """Adds a column `place`, and the address its buttons and `order.js` post to."""

    order_field: ClassVar[str]
    list_after_template = "admin/providers/order.html"

    class Media:
        css: ClassVar[dict[str, Any]] = {"all": ("accounts/config.css",)}
        js = ("providers/order.js",)

    # --- the list ---------------------------------------------------------------------------------------------------
    def get_changelist_instance(self, request: HttpRequest) -> Any:
        changelist: Any = super().get_changelist_instance(request)
        may = self.has_change_permission(request) and not changelist.query and "o" not in request.GET
        changelist.may_order = may and len(changelist.result_list) > 1
        changelist.order_url = reverse(f"admin:{self.opts.app_label}_{self.opts.model_name}_order")
        for number, row in enumerate(changelist.result_list, 1):
            row.shown_place = number if changelist.may_order else None
        return changelist

    @admin.display(description="order")
    def place(self, row: Any) -> SafeString | str:
        value = getattr(row, self.order_field)
        if value is None:
            return "–"
        if getattr(row, "shown_place", None) is None:
            return str(value)
        return format_html(
            '<span class="order" data-row="{pk}" data-tenant="{tenant}"><span class="handle" aria-hidden="true" '
            'title="Drag to another place">⠿</span><span class="order-number">{value}</span>{up}{down}</span>',
            pk=row.pk,
            tenant=row.tenant_id or "",
            value=value,
            up=self._arrow(row, "up", "↑"),
            down=self._arrow(row, "down", "↓"),
        )

    def _arrow(self, row: Any, where: str, arrow: str) -> SafeString:
        return format_html(
            '<button type="submit" formaction="{}" name="move" value="{}:{}" aria-label="Move {} {}">{}</button>',
            reverse(f"admin:{self.opts.app_label}_{self.opts.model_name}_order"),
            row.pk,
            where,
            str(row),
            where,
            arrow,
        )

    # --- changing it ------------------------------------------------------------------------------------------------
    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.order_view)
        name = f"{self.opts.app_label}_{self.opts.model_name}_order"
        return [path("order/", view, name=name), *super().get_urls()]

    def order_view(self, request: HttpRequest) -> HttpResponse:
        """`move` is `<key>:up` or `<key>:down`; `row` goes to the place `number`; or `order` holds keys as they shall
        stand."""
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        if not self.has_change_permission(request):
            raise PermissionDenied
        told, good = self._reorder(request)
        if "application/json" in request.headers.get("Accept", ""):
            asked = self.get_queryset(request).filter(
                pk__in=_keys(request.POST.getlist("order")[:MOST]) if good else []
            )
            numbers = {str(pk): number for pk, number in asked.values_list("pk", self.order_field)}
            return JsonResponse({"text": told, "numbers": numbers}, status=200 if good else 409)
        self.message_user(request, told, messages.SUCCESS if good else messages.ERROR)
        return HttpResponseRedirect(reverse(f"admin:{self.opts.app_label}_{self.opts.model_name}_changelist"))

    def _reorder(self, request: HttpRequest) -> tuple[str, bool]:
        """What to tell, and whether all is well."""
        try:
            with transaction.atomic():
                changed = self._save_order(request)
        except Conflict as error:
            return str(error), False
        return ("The order is saved." if changed else "The order is as it was."), True

    def _save_order(self, request: HttpRequest) -> int:
        wanted = request.POST.getlist("order")[:MOST]
        by_number = f"{request.POST.get('row', '')}:{request.POST.get('number', '')}"
        key, _, where = request.POST.get("move", by_number).partition(":")
        rows = self.get_queryset(request).filter(**{f"{self.order_field}__isnull": False})
        by_key = {str(row.pk): row for row in rows.filter(pk__in=_keys(wanted or [key]))}
        if set(by_key) != set(wanted or [key]):
            raise Conflict("Somebody has removed one of these rows: load the page anew.")
        tenants = {row.tenant_id for row in by_key.values()}
        if len(tenants) != 1:
            raise Conflict("Rows are put in order within one tenant.")
        # Locked, so that of two people at once the second sees the first one's order.
        mine = self.model._default_manager.filter(tenant_id=tenants.pop(), **{f"{self.order_field}__isnull": False})
        now = [str(pk) for pk in mine.order_by(*self._order()).select_for_update().values_list("pk", flat=True)]
        after = placed(now, wanted) if wanted else moved(now, key, where)
        return self._write(request, mine, now, after)

    def _order(self) -> Sequence[Any]:
        return (self.order_field, "pk")

    def _write(self, request: HttpRequest, mine: Any, now: list[str], after: list[str]) -> int:
        rows = {str(row.pk): row for row in self.get_queryset(request).filter(pk__in=mine.values("pk"))}
        numbers = numbered([getattr(rows[key], self.order_field) for key in now])
        changed = 0
        for key, number in zip(after, numbers, strict=True):
            row, before = rows[key], getattr(rows[key], self.order_field)
            if before == number:
                continue
            setattr(row, self.order_field, number)
            row.save(update_fields=[self.order_field, "updated_at"])
            told = audit.differences(self.model, {self.order_field: before}, {self.order_field: number})
            self.audit(request, "moved", row, told)
            changed += 1
        return changed


def _keys(texts: Sequence[str]) -> list[Any]:
    found = []
    for text in texts:
        try:
            found.append(uuid.UUID(text))
        except ValueError:
            raise Conflict("There is no such row: load the page anew.") from None
    return found
