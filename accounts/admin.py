"""The admin of tenants, people, accounts and API keys; the audit has a module of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.utils import quote, unquote
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.models import Group
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse

from accounts import api_keys, audit_admin, credentials, quota_admin, snippets
from accounts.forms import AccountForm, ApiKeyForm, TenantForm, UserCreationForm, UserForm
from accounts.models import Account, ApiKey, AuditEntry, QuotaWarning, Tenant, User
from accounts.tenancy import Area, may_edit_user, roles_given_by
from accounts.tenant_admin import TenantModelAdmin, VisibleRelatedFilter, signed_in

admin.site.site_header = admin.site.site_title = "smtpproxy"
admin.site.index_title = "Administration"
admin.site.site_url = None
admin.site.register(AuditEntry, audit_admin.AuditEntryAdmin)
admin.site.register(QuotaWarning, quota_admin.QuotaWarningAdmin)
admin.site.unregister(Group)  # what people may do follows from their role


YOURSELF = "You cannot delete yourself."
NO_DOMAINS = "This account may send nothing yet: enter the domains it may send from."


class StatusMixin(TenantModelAdmin):
    """Suspend and activate, for tenants and accounts."""

    def _set_status(self, request: HttpRequest, queryset: QuerySet[Any], status: str, verb: str) -> None:
        with transaction.atomic():
            changed = list(queryset.exclude(status=status))
            for row in changed:
                before, row.status = row.status, status
                row.save(update_fields=["status", "updated_at"])
                self.audit(request, verb, row, {"status": [before, status]})
        self.message_user(request, f"{len(changed)} {verb}.")

    @admin.action(description="Suspend", permissions=["suspend"])
    def suspend(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        self._set_status(request, queryset, "suspended", "suspended")

    @admin.action(description="Activate", permissions=["suspend"])
    def activate(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        self._set_status(request, queryset, "active", "activated")

    def has_suspend_permission(self, request: HttpRequest) -> bool:
        return self.has_change_permission(request)


@admin.register(Tenant)
class TenantAdmin(StatusMixin, quota_admin.UsageMixin):
    area = Area.TENANT
    form = TenantForm
    list_display = ("name", "slug", "status", "may_use_shared_providers", "this_month", "created_at")
    list_filter = ("status", "may_use_shared_providers")
    search_fields = ("name", "slug")
    fields = (
        "name",
        "slug",
        "status",
        "may_use_shared_providers",
        "unknown_outcome",
        "lossless",
        "client_networks",
        "body_days",
        "dead_letter_days",
        "row_days",
        "archived",
        "archive_days",
        *quota_admin.FIELDS,
        "usage",
        "created_at",
        "updated_at",
    )
    actions = ("suspend", "activate")

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        fixed = ("usage", "created_at", "updated_at")
        granted = ("slug", "status", "may_use_shared_providers", *quota_admin.FIELDS)
        return fixed if request.user.is_superuser else (*fixed, *granted)

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return request.user.is_superuser and super().has_add_permission(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        # An owner's deletion has a time of grace (SEC-6), which a page that deletes at once cannot give.
        return request.user.is_superuser and super().has_delete_permission(request, obj)

    def has_suspend_permission(self, request: HttpRequest) -> bool:
        return request.user.is_superuser

    def get_buttons(self, request: HttpRequest, obj: Tenant) -> Sequence[str]:
        return ("suspend",) if obj.status == Tenant.Status.ACTIVE else ("activate",)


@admin.register(User)
class UserAdmin(TenantModelAdmin, DjangoUserAdmin):
    area = Area.USERS
    form = UserForm
    add_form = UserCreationForm
    list_display = ("email", "name", "role", "is_active", "last_login")
    list_filter = ("role", "is_active")
    search_fields = ("email", "name")
    ordering = ("email",)
    filter_horizontal = ()
    readonly_fields = ("last_login", "created_at")
    fieldsets = ((None, {"fields": ("email", "name", "tenant", "role", "is_active", "last_login", "created_at")}),)
    add_fieldsets = ((None, {"fields": ("email", "name", "tenant", "role", "password1", "password2")}),)

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        fieldsets = super().get_fieldsets(request, obj)
        if not request.user.is_superuser:
            return fieldsets
        return (*fieldsets, ("Platform", {"fields": ("is_superuser",)}))

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        # Nobody takes their own rights away by a slip, so a tenant always keeps an owner.
        own = ("role", "is_active", "is_superuser") if obj is not None and obj.pk == request.user.pk else ()
        return (*self.readonly_fields, *own)

    def formfield_for_choice_field(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        if db_field.name == "role":
            labels = dict(User.Role.choices)
            blank = [("", "none (platform operator)")] if request.user.is_superuser else []
            kwargs["choices"] = [*blank, *((role, labels[role]) for role in roles_given_by(request.user))]
        return super().formfield_for_choice_field(db_field, request, **kwargs)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return super().has_change_permission(request, obj) and (obj is None or may_edit_user(request.user, obj))

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        if not super().has_delete_permission(request, obj):
            return False
        return obj is None or (obj.pk != request.user.pk and may_edit_user(request.user, obj))

    def delete_view(self, request: HttpRequest, object_id: str, extra_context: Any = None) -> Any:
        if unquote(object_id) != str(request.user.pk):
            return super().delete_view(request, object_id, extra_context)
        self.message_user(request, YOURSELF, messages.ERROR)
        return HttpResponseRedirect(reverse("admin:accounts_user_change", args=[quote(signed_in(request).pk)]))

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> Any:
        if any(user.pk == request.user.pk for user in objs):
            return [], {}, set(), [YOURSELF]
        return super().get_deleted_objects(objs, request)

    def render_change_form(self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        obj = kwargs.get("obj")
        if obj is not None and self.has_change_permission(request, obj):
            context["password_url"] = reverse("admin:auth_user_password_change", args=[obj.pk])
        return super().render_change_form(request, context, *args, **kwargs)

    def user_change_password(self, request: HttpRequest, id: str, form_url: str = "") -> HttpResponse:
        with transaction.atomic():
            before = self.get_object(request, id)
            response = super().user_change_password(request, id, form_url)
            after = User.objects.get(pk=before.pk)
            if after.password != before.password:
                self.audit(request, "password_changed", after)
        return response


class IssuedOnceMixin(TenantModelAdmin):
    """Shows a secret in the answer itself, so that it is kept nowhere on its way: no session, no cookie, no row."""

    def issued(
        self,
        request: HttpRequest,
        row: Any,
        what: str,
        secret: str,
        *,
        example: str = "",
        note: str = "",
        kept: str = "as a hash only",
    ) -> HttpResponse:
        base = f"admin:{self.opts.app_label}_{self.opts.model_name}"
        context = {
            **self.admin_site.each_context(request),
            "title": what,
            "opts": self.opts,
            "row": row,
            "what": what,
            "secret": secret,
            "example": example,
            "note": note,
            "kept": kept,
            "list_url": reverse(f"{base}_changelist"),
            "change_url": reverse(f"{base}_change", args=[quote(row.pk)]),
        }
        return TemplateResponse(request, "admin/accounts/issued.html", context)


TOLD = "Who is told; what cannot be told that way is told to the tenant's admins by e-mail."


@admin.register(Account)
class AccountAdmin(StatusMixin, IssuedOnceMixin, quota_admin.UsageMixin):
    area = Area.ACCOUNTS
    form = AccountForm
    list_display = ("name", "username", "status", "senders", "this_month", "last_used_at")
    list_filter = ("status", "network_authenticated")
    search_fields = ("name", "username")
    actions = ("issue_new_password", "suspend", "activate")
    fieldsets = (
        (None, {"fields": ("tenant", "name", "username", "status")}),
        ("What it may send", {"fields": ("allowed_senders", "may_send_bounces", "transactional")}),
        ("Where from", {"fields": ("client_networks", "network_authenticated")}),
        ("When mail is not delivered", {"description": TOLD, "fields": ("failure_notice",)}),
        ("How much", {"fields": (*quota_admin.FIELDS, "usage")}),
        (None, {"fields": ("last_used_at", "created_at", "updated_at")}),
    )

    @admin.display(description="allowed sender domains")
    def senders(self, account: Account) -> str:
        return ", ".join(account.allowed_senders[:3]) + (" …" if len(account.allowed_senders) > 3 else "")

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        fixed: tuple[str, ...] = ("usage", "last_used_at", "created_at", "updated_at")
        if request.user.is_superuser:
            return fixed
        # Networks that stand for a password are a claim on addresses all tenants share: the operator's to grant.
        claimed = ("client_networks",) if obj is not None and obj.network_authenticated else ()
        # Who goes ahead of others is the operator's to say as well.
        return (*fixed, "network_authenticated", "transactional", *claimed)

    def get_buttons(self, request: HttpRequest, obj: Account) -> Sequence[str]:
        return ("issue_new_password", "suspend" if obj.status == Account.Status.ACTIVE else "activate")

    def save_model(self, request: HttpRequest, obj: Account, form: Any, change: bool) -> None:
        super().save_model(request, obj, form, change)
        if not change:
            request.issued_password = credentials.issue_password(obj)  # type: ignore[attr-defined]

    def response_add(self, request: HttpRequest, obj: Account, post_url_continue: str | None = None) -> HttpResponse:
        password: str = request.issued_password  # type: ignore[attr-defined]
        return self.password_issued(request, obj, "Password", password)

    def password_issued(self, request: HttpRequest, account: Account, what: str, password: str) -> HttpResponse:
        example = snippets.swaks(account, password)
        return self.issued(request, account, what, password, example=example, note="" if example else NO_DOMAINS)

    @admin.action(description="Issue a new password", permissions=["change"])
    def issue_new_password(self, request: HttpRequest, queryset: QuerySet[Account]) -> HttpResponse | None:
        if len(queryset) != 1:
            self.message_user(request, "Choose one account: each password is shown once.", messages.ERROR)
            return None
        account = queryset[0]
        with transaction.atomic():
            password = credentials.issue_password(account)
            self.audit(request, "password_issued", account)
        return self.password_issued(request, account, "New password", password)


@admin.register(ApiKey)
class ApiKeyAdmin(IssuedOnceMixin):
    area = Area.ACCOUNTS
    form = ApiKeyForm
    list_display = ("prefix", "name", "account", "scopes", "expires_at", "revoked_at", "last_used_at")
    list_filter = (("account", VisibleRelatedFilter),)
    list_select_related = ("account",)
    search_fields = ("prefix", "name", "account__username")
    actions = ("revoke",)
    buttons = ("revoke",)
    fields = ("account", "name", "scopes", "expires_at")

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return self.fields if obj is None else ("prefix", *self.fields, "revoked_at", "last_used_at", "created_at")

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        # A key is made, revoked and deleted; what it may do does not change under its holder.
        return False

    def has_module_permission(self, request: HttpRequest) -> bool:
        # There is no HTTP API yet that takes them, so tenants are not led here.
        return request.user.is_superuser and super().has_module_permission(request)

    def has_revoke_permission(self, request: HttpRequest) -> bool:
        return self.has_delete_permission(request)

    def save_model(self, request: HttpRequest, obj: ApiKey, form: Any, change: bool) -> None:
        request.issued_key = api_keys.draw(obj)  # type: ignore[attr-defined]
        super().save_model(request, obj, form, change)

    def response_add(self, request: HttpRequest, obj: ApiKey, post_url_continue: str | None = None) -> HttpResponse:
        return self.issued(request, obj, "API key", request.issued_key)  # type: ignore[attr-defined]

    @admin.action(description="Revoke", permissions=["revoke"])
    def revoke(self, request: HttpRequest, queryset: QuerySet[ApiKey]) -> None:
        with transaction.atomic():
            keys = list(queryset.filter(revoked_at=None))
            for key in keys:
                credentials.revoke_api_key(key)
                self.audit(request, "revoked", key)
        self.message_user(request, f"{len(keys)} revoked.")
