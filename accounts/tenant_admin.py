"""What every page of the Django admin shares: own tenant only, permissions by role, changes audited (SEC-1, SEC-2)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, cast

from django import forms
from django.contrib import admin
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.utils import quote, unquote
from django.core.exceptions import PermissionDenied, SuspiciousOperation, ValidationError
from django.db import models, transaction
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.urls import URLPattern, path, reverse
from django.utils.http import urlencode

from accounts import audit, badges, protected
from accounts.crypto import EncryptedJSONField
from accounts.list_look import ListLook
from accounts.models import AuditEntry, User
from accounts.tenancy import Area, Person, Verb, permits, tenant_path, visible_to

if TYPE_CHECKING:  # unfold has no types; its classes are Django's with a theme
    from django.contrib.admin import ModelAdmin, TabularInline
else:
    from unfold.admin import ModelAdmin, TabularInline


def client_ip(request: HttpRequest) -> str | None:
    """The address the request came from, for the audit."""
    return request.META.get("REMOTE_ADDR") or None


def signed_in(request: HttpRequest) -> User:
    """The person behind a request that has passed the admin's own sign-in check."""
    return cast(User, request.user)


def without_secrets(rows: models.QuerySet[Any]) -> models.QuerySet[Any]:
    """The rows with encrypted fields left in the database until somebody asks for them."""
    return rows.defer(*(field.name for field in rows.model._meta.fields if isinstance(field, EncryptedJSONField)))


class VisibleRelatedFilter(admin.RelatedFieldListFilter):
    """A filter by a related row that offers only rows this person may know of."""

    def field_choices(self, field: Any, request: HttpRequest, model_admin: Any) -> list[Any]:
        rows = without_secrets(visible_to(request.user, field.remote_field.model))
        return [(row.pk, str(row)) for row in rows.order_by(*self.field_admin_ordering(field, request, model_admin))]


class RoleMixin:
    """Permissions by role instead of by Django's permission rows."""

    area: ClassVar[Area]
    offers: ClassVar[frozenset[Verb]] = frozenset({Verb.CREATE, Verb.UPDATE, Verb.DELETE})
    """What these pages can do at all, whatever the role."""

    def _may(self, request: HttpRequest, verb: Verb) -> bool:
        return (verb is Verb.READ or verb in self.offers) and permits(request.user, self.area, verb)

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self._may(request, Verb.READ)

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self._may(request, Verb.CREATE)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self._may(request, Verb.UPDATE)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self._may(request, Verb.DELETE)

    def has_act_permission(self, request: HttpRequest) -> bool:
        return permits(request.user, self.area, Verb.ACT)

    def has_module_permission(self, request: HttpRequest) -> bool:
        return self._may(request, Verb.READ)

    def choices_for(self, user: Person, model: type[models.Model]) -> models.QuerySet[Any]:
        """The rows of `model` this person may choose in a form."""
        return visible_to(user, model)

    def formfield_for_foreignkey(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        kwargs.setdefault("queryset", without_secrets(self.choices_for(request.user, db_field.remote_field.model)))
        return super().formfield_for_foreignkey(db_field, request, **kwargs)  # type: ignore[misc]


class RoleInline(RoleMixin, TabularInline):
    """Rows below another row; they belong to whoever that one belongs to."""

    extra = 0
    show_change_link = False
    readonly_preprocess_fields: ClassVar[dict[str, Any]] = {"status": badges.status}


class TenantModelAdmin(ListLook, RoleMixin, ModelAdmin):
    """The admin of a model that belongs to a tenant.

    Tenant people see and choose rows of their tenant only, another tenant's row is a 404, and what they make is
    their tenant's. Operators see all, with a column and a filter for the tenant. A row never changes its tenant.
    Every change leaves an audit entry.
    """

    buttons: ClassVar[Sequence[str]] = ()
    """Names of actions that a single row's page offers as buttons."""
    dangerous: ClassVar[frozenset[str]] = frozenset({"cancel", "suspend", "revoke", "delete_now"})
    """Those among them that are marked as dangerous."""
    secret_fields: ClassVar[frozenset[str]] = audit.SECRET_FIELDS | {"config"}

    # --- own tenant only ------------------------------------------------------------------------------------
    def get_queryset(self, request: HttpRequest) -> models.QuerySet[Any]:
        return without_secrets(visible_to(request.user, super().get_queryset(request)))

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Any:
        row = super().get_object(request, object_id, from_field)
        if row is None:
            raise Http404
        return row

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        form = super().get_form(request, obj, change=change, **kwargs)
        field = form.base_fields.get("tenant")
        if field is not None and not request.user.is_superuser:
            # Disabled fields take no value from the request; being there, they take part in checks of uniqueness.
            field.widget, field.initial, field.disabled = forms.HiddenInput(), signed_in(request).tenant_id, True
        elif field is not None and obj is not None:
            field.disabled = True
        return form

    def _for_operators(self, request: HttpRequest, names: Sequence[Any], entry: Any) -> list[Any]:
        has_tenant = tenant_path(self.model) == "tenant"
        return [*names, entry] if has_tenant and request.user.is_superuser else list(names)

    def get_list_display(self, request: HttpRequest) -> list[Any]:
        return self._for_operators(request, super().get_list_display(request), "tenant")

    def get_list_select_related(self, request: HttpRequest) -> Any:
        chosen = super().get_list_select_related(request)
        return self._for_operators(request, chosen, "tenant") if isinstance(chosen, list | tuple) else chosen

    def get_list_filter(self, request: HttpRequest) -> list[Any]:
        return self._for_operators(request, super().get_list_filter(request), ("tenant", VisibleRelatedFilter))

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest) -> bool:
        # A filter in the address bar would otherwise tell a hash letter by letter.
        if self.secret_fields & set(lookup.split("__")):
            return False
        return super().lookup_allowed(lookup, value, request)

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        # What no page of ours sends: filters and keys that the database would trip over.
        if any("\x00" in value for _, values in request.GET.lists() for value in values):
            raise SuspiciousOperation("a NUL in a filter")
        for key in request.POST.getlist(ACTION_CHECKBOX_NAME):
            try:
                self.opts.pk.to_python(key)
            except ValidationError as error:
                raise SuspiciousOperation("a key that is none") from error
        return super().changelist_view(request, extra_context)

    # --- audit ----------------------------------------------------------------------------------------------
    def shown_settings(self, obj: Any) -> frozenset[str]:
        """Settings within encrypted fields that are no secrets, as `field.setting`."""
        return frozenset()

    def audit(self, request: HttpRequest, verb: str, obj: Any, changes: dict[str, Any] | None = None) -> AuditEntry:
        """Record that the signed-in person did `verb` (`created`, `suspended`) to `obj`."""
        return audit.record(signed_in(request), f"{self.opts.model_name}.{verb}", obj, changes, client_ip(request))

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        before = audit.values(self.model._default_manager.get(pk=obj.pk)) if change else {}
        super().save_model(request, obj, form, change)
        changes = audit.differences(self.model, before, audit.values(obj), shown=self.shown_settings(obj))
        if changes or not change:
            self.audit(request, "changed" if change else "created", obj, changes)

    def save_formset(self, request: HttpRequest, form: Any, formset: Any, change: bool) -> None:
        def rows() -> list[dict[str, Any]]:
            found = formset.model._default_manager.filter(**{formset.fk.name: form.instance})
            return [audit.told(row) for row in found.order_by("pk")]

        before = rows()
        super().save_formset(request, form, formset, change)
        after = rows()
        if before != after:
            self.audit(request, "changed", form.instance, {formset.prefix: [before, after]})

    def log_addition(self, request: HttpRequest, obj: Any, message: Any) -> None:  # type: ignore[override]
        """Django's own log is not kept: `save_model` has written the audit entry."""

    def log_change(self, request: HttpRequest, obj: Any, message: Any) -> None:  # type: ignore[override]
        """As `log_addition`."""

    def log_deletions(self, request: HttpRequest, queryset: Any) -> None:  # type: ignore[override]
        """As `log_addition`; `delete_model` and `delete_queryset` write the entries."""

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        self._audit_deletion(request, obj)
        super().delete_model(request, obj)

    def delete_queryset(self, request: HttpRequest, queryset: models.QuerySet[Any]) -> None:
        with transaction.atomic():
            for obj in queryset:
                self._audit_deletion(request, obj)
            super().delete_queryset(request, queryset)

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> Any:
        """Django's, but without loading what stands in the way: an account may have millions of messages."""
        standing = protected.standing(self.model, list(objs))
        return ([], {}, set(), standing) if standing else super().get_deleted_objects(objs, request)

    def _audit_deletion(self, request: HttpRequest, obj: Any) -> None:
        gone = audit.differences(self.model, audit.values(obj), {}, shown=self.shown_settings(obj))
        self.audit(request, "deleted", obj, gone)

    def history_view(self, request: HttpRequest, object_id: str, extra_context: Any = None) -> HttpResponse:
        obj = self.get_object(request, unquote(object_id))
        query = urlencode({"target_type": self.opts.label_lower, "target_id": obj.pk})
        return HttpResponseRedirect(f"{reverse('admin:accounts_auditentry_changelist')}?{query}")

    # --- one row's page -------------------------------------------------------------------------------------
    def get_urls(self) -> list[URLPattern]:
        name = f"{self.opts.app_label}_{self.opts.model_name}_do"
        view = self.admin_site.admin_view(self.do_view)
        return [path("<path:object_id>/do/<str:action>/", view, name=name), *super().get_urls()]

    def do_view(self, request: HttpRequest, object_id: str, action: str) -> HttpResponse:
        """A button of a row's page: the action of that name, for this row alone."""
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        obj = self.get_object(request, unquote(object_id))
        if action not in self._buttons(request, obj):
            raise PermissionDenied
        act = self._actions(request)[action][0]
        return act(self, request, self.get_queryset(request).filter(pk=obj.pk)) or HttpResponseRedirect(
            reverse(f"admin:{self.opts.app_label}_{self.opts.model_name}_change", args=[quote(obj.pk)])
        )

    def _actions(self, request: HttpRequest) -> dict[str, tuple[Callable[..., HttpResponse | None], str, str]]:
        return cast(Any, self.get_actions(request))

    def _buttons(self, request: HttpRequest, obj: Any) -> dict[str, str]:
        """Action → label of the buttons this person gets for this row."""
        allowed = self._actions(request)
        return {name: str(allowed[name][2]) for name in self.get_buttons(request, obj) if name in allowed}

    def get_buttons(self, request: HttpRequest, obj: Any) -> Sequence[str]:
        """Which of the actions make sense for this row now."""
        return self.buttons

    def get_links(self, request: HttpRequest, obj: Any) -> list[tuple[str, str]]:
        """Address and label of further pages about a row that this person may open."""
        return []

    def render_change_form(self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        obj = kwargs.get("obj")
        if obj is not None:
            base = f"admin:{self.opts.app_label}_{self.opts.model_name}"
            context["row_buttons"] = [
                (reverse(f"{base}_do", args=[quote(obj.pk), name]), label, name in self.dangerous)
                for name, label in self._buttons(request, obj).items()
            ]
            context["row_links"] = self.get_links(request, obj)
            context["may_read_audit"] = permits(request.user, Area.AUDIT, Verb.READ)
        return super().render_change_form(request, context, *args, **kwargs)
