"""The admin of people."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.utils import quote, unquote
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.db import transaction
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse

from accounts import password_links
from accounts.forms import UserCreationForm, UserForm
from accounts.models import User
from accounts.tenancy import Area, may_edit_user, may_grant_bodies, roles_given_by
from accounts.tenant_admin import TenantModelAdmin, signed_in
from accounts.user_actions import SignInActions

YOURSELF = "You cannot delete yourself."


@admin.register(User)
class UserAdmin(SignInActions, TenantModelAdmin, DjangoUserAdmin):
    area = Area.USERS
    form = UserForm
    add_form = UserCreationForm
    list_display = ("email", "name", "role", "is_active", "last_login")
    list_filter = ("role", "is_active")
    search_fields = ("email", "name")
    ordering = ("email",)
    filter_horizontal = ()
    readonly_fields = ("last_login", "second_step", "locked_out", "created_at")
    fieldsets = (
        (None, {"fields": ("email", "name", "tenant", "role", "reads_bodies", "is_active")}),
        ("Signing in", {"fields": ("last_login", "second_step", "locked_out", "created_at")}),
    )
    add_fieldsets = ((None, {"fields": ("email", "name", "tenant", "role", "reads_bodies", "password1", "password2")}),)

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        fieldsets = super().get_fieldsets(request, obj)
        if not request.user.is_superuser:
            return fieldsets
        return (*fieldsets, ("Platform", {"fields": ("is_superuser",)}))

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        # Nobody takes their own rights away by a slip, so a tenant always keeps an owner.
        own = ("role", "is_active", "is_superuser") if obj is not None and obj.pk == request.user.pk else ()
        granted = () if may_grant_bodies(request.user) else ("reads_bodies",)
        return (*self.readonly_fields, *own, *granted)

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

    def save_model(self, request: HttpRequest, obj: User, form: Any, change: bool) -> None:
        if not change and obj.is_first_owner():
            obj.reads_bodies = True
        super().save_model(request, obj, form, change)
        if not change and not obj.has_usable_password():
            self._invite(request, obj)

    def _invite(self, request: HttpRequest, person: User) -> None:
        if password_links.invite(person, password_links.origin_of(request)):
            self.message_user(request, f"An invitation is on its way to {person}.")
        else:
            text = f"No invitation was sent to {person}. {password_links.BY_HAND.format(person)}"
            self.message_user(request, text, messages.WARNING)

    def user_change_password(self, request: HttpRequest, id: str, form_url: str = "") -> HttpResponse:
        with transaction.atomic():
            before = self.get_object(request, id)
            response = super().user_change_password(request, id, form_url)
            after = User.objects.get(pk=before.pk)
            if after.password != before.password:
                self.audit(request, "password_changed", after)
        return response
