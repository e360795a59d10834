"""The admin of tenants."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.utils import quote, unquote
from django.core.exceptions import PermissionDenied, ValidationError
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse

from accounts import audit, password_links, quota_admin, tenant_deletion
from accounts.admin_page import themed
from accounts.confirmation import counted
from accounts.forms import TenantForm
from accounts.generated import generate
from accounts.models import Tenant, User
from accounts.row_pages import IssuedOnceMixin, StatusMixin
from accounts.tenancy import Area, Verb, permits
from accounts.tenant_admin import client_ip, signed_in

IN = (
    "Networks are for the programs and the people of this tenant alike: who comes from elsewhere is refused. With a "
    "second factor required, whoever has none yet sets one up at the next sign-in."
)


class DeletionForm(forms.Form):
    slug = forms.CharField(max_length=63, required=True, label="Short name of the tenant")


@admin.register(Tenant)
class TenantAdmin(StatusMixin, IssuedOnceMixin, quota_admin.UsageMixin):
    area = Area.TENANT
    form = TenantForm
    list_display = ("name", "slug", "status", "may_use_shared_providers", "this_month", "created_at")
    list_filter = ("status", "may_use_shared_providers")
    search_fields = ("name", "slug")
    empty_text = "A tenant is an organisation with its own people, accounts and providers. Add the first one."
    fieldsets = (
        (None, {"fields": ("name", "slug", "status", "may_use_shared_providers")}),
        ("Who comes in", {"fields": ("client_networks", "second_factor_required"), "description": IN}),
        ("How mail is sent", {"fields": ("unknown_outcome", "lossless")}),
        ("How long things are kept", {"fields": ("body_days", "dead_letter_days", "row_days")}),
        ("Archive", {"fields": ("archived", "archive_days", "full_text")}),
        ("How much", {"fields": (*quota_admin.FIELDS, "usage")}),
        (None, {"fields": ("deletes_at", "created_at", "updated_at")}),
    )
    actions = ("suspend", "activate")

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        fixed = ("usage", "deletes_at", "created_at", "updated_at")
        granted = ("slug", "status", "may_use_shared_providers", *quota_admin.FIELDS)
        return fixed if request.user.is_superuser else (*fixed, *granted)

    class Media:
        css: ClassVar[dict[str, Any]] = {"all": ("accounts/config.css",)}
        js = ("accounts/copy.js",)

    # --- the form ---------------------------------------------------------------------------------------------------
    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        form = super().get_form(request, obj, change=change, **kwargs)
        form.person, form.client_ip = signed_in(request), client_ip(request)
        return form

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        fieldsets = super().get_fieldsets(request, obj)
        return fieldsets if obj is not None else (*fieldsets, ("First owner", {"fields": ("owner_email",)}))

    def save_model(self, request: HttpRequest, obj: Tenant, form: Any, change: bool) -> None:
        super().save_model(request, obj, form, change)
        email = "" if change else form.cleaned_data.get("owner_email", "")
        if email:
            self._make_owner(request, obj, email)
        if change and "second_factor_required" in form.changed_data and obj.second_factor_required:
            without = obj.users.filter(is_active=True, second_factor__confirmed_at=None).count()
            if without:
                text = f"{counted(without, 'person', 'people')} will be asked to set up a second factor."
                self.message_user(request, text, messages.WARNING)

    def _make_owner(self, request: HttpRequest, tenant: Tenant, email: str) -> None:
        """The first owner, invited by mail; where none can be sent, with a password that is shown once."""
        owner = User.objects.create_user(email, None, tenant=tenant, role=User.Role.OWNER)
        audit.record(signed_in(request), "user.created", owner, {"email": [None, email]}, client_ip(request))
        if password_links.invite(owner, password_links.origin_of(request)):
            self.message_user(request, f"An invitation is on its way to {email}.")
            return
        password = generate(20)
        owner.set_password(password)
        owner.save(update_fields=["password", "updated_at"])
        request.issued_owner = (owner, password)  # type: ignore[attr-defined]

    def response_add(self, request: HttpRequest, obj: Tenant, post_url_continue: str | None = None) -> HttpResponse:
        issued = getattr(request, "issued_owner", None)
        if issued is None:
            return super().response_add(request, obj, post_url_continue)
        owner, password = issued
        note = f"Give it to {owner.email}, who signs in with it and sets up {obj}."
        return self.issued(request, obj, f"Password of {owner.email}", password, note=note)

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return request.user.is_superuser and super().has_add_permission(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        # An owner's deletion has a time of grace (SEC-6), which a page that deletes at once cannot give.
        return request.user.is_superuser and super().has_delete_permission(request, obj)

    def has_suspend_permission(self, request: HttpRequest) -> bool:
        return request.user.is_superuser

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.deletion_view)
        return [path("<path:object_id>/deletion/", view, name="accounts_tenant_deletion"), *super().get_urls()]

    def get_links(self, request: HttpRequest, obj: Tenant) -> list[tuple[str, str]]:
        links = super().get_links(request, obj)
        if permits(request.user, Area.TENANT, Verb.DELETE):
            label = "Delete tenant …" if obj.deletes_at is None else "Keep tenant …"
            links.append((reverse("admin:accounts_tenant_deletion", args=[quote(obj.pk)]), label))
        return links

    def deletion_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Ask for the tenant's deletion, or take that back (SEC-6)."""
        tenant: Tenant = self.get_object(request, unquote(object_id))
        if not permits(request.user, Area.TENANT, Verb.DELETE):
            raise PermissionDenied
        form = themed(DeletionForm(request.POST if request.method == "POST" else None))
        change_url = reverse("admin:accounts_tenant_change", args=[quote(tenant.pk)])
        if request.method == "POST" and (tenant.deletes_at is not None or form.is_valid()):
            try:
                self._decide(request, tenant, form)
                return HttpResponseRedirect(change_url)
            except ValidationError as error:
                form.add_error("slug", error.messages[0])
            except tenant_deletion.Unfitting as error:
                self.message_user(request, str(error), messages.ERROR)
                return HttpResponseRedirect(change_url)
        context = {
            **self.admin_site.each_context(request),
            "title": "Keep tenant" if tenant.deletes_at else "Delete tenant",
            "opts": self.opts,
            "tenant": tenant,
            "form": form,
            "change_url": change_url,
        }
        return TemplateResponse(request, "admin/accounts/tenant_deletion.html", context)

    def _decide(self, request: HttpRequest, tenant: Tenant, form: DeletionForm) -> None:
        if tenant.deletes_at is not None:
            tenant_deletion.cancel(tenant, signed_in(request), client_ip(request))
            self.message_user(request, f"{tenant} stays.")
        else:
            tenant_deletion.ask(tenant, form.cleaned_data["slug"], signed_in(request), client_ip(request))
            self.message_user(request, f"{tenant} is suspended, and deleted in 24 hours.", messages.WARNING)

    def _set_status(self, request: HttpRequest, queryset: QuerySet[Any], status: str, verb: str) -> None:
        super()._set_status(request, queryset.filter(deletes_at=None), status, verb)

    def get_buttons(self, request: HttpRequest, obj: Tenant) -> Sequence[str]:
        if obj.deletes_at is not None:
            return ()
        return ("suspend",) if obj.status == Tenant.Status.ACTIVE else ("activate",)
