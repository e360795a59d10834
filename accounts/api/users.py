"""The people of a tenant, by those whose role allows it (SEC-1)."""

from __future__ import annotations

from typing import Any, ClassVar

from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django_filters import rest_framework as filters
from rest_framework import exceptions, serializers

from accounts import password_links
from accounts.api.errors import Conflict
from accounts.api.views import RowSerializer, RowViewSet
from accounts.models import User
from accounts.tenancy import Area, may_edit_user, may_grant_bodies, roles_given_by

OWN_RIGHTS = "Nobody changes their own rights."
OWN_SECRET = "Your own password is changed at auth/password."  # noqa: S105
OWNERS_GRANT = "Only an owner lets others read bodies."
NOT_YOURS_TO_GIVE = "You may not give this role."


class UserSerializer(RowSerializer):
    """A person who signs in. Without a password they are invited by mail to choose one.

    A platform operator, who belongs to no tenant and has no role, is made by an operator.
    """

    operators_only: ClassVar = ("is_superuser",)
    password = serializers.CharField(write_only=True, required=False, max_length=1024, trim_whitespace=False)
    role = serializers.ChoiceField(User.Role.choices, allow_blank=True, required=False)

    class Meta:
        model = User
        fields = (
            "id",
            "email",
            "name",
            "tenant",
            "role",
            "is_active",
            "reads_bodies",
            "is_superuser",
            "password",
            "last_login",
            "created_at",
            "updated_at",
        )
        read_only_fields = ("last_login",)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        attrs = super().validate(attrs)
        caller, other = self.context["request"].user, self.instance
        if other is not None and other.pk == caller.pk:
            rights = ("role", "is_active", "is_superuser")
            changed = [name for name in rights if name in attrs and attrs[name] != getattr(other, name)]
            refused = dict.fromkeys(changed, OWN_RIGHTS)
            if "password" in attrs:
                refused["password"] = OWN_SECRET
            if refused:
                raise serializers.ValidationError({name: [text] for name, text in refused.items()})
        before = getattr(other, "reads_bodies", False)
        if attrs.get("reads_bodies", before) != before and not may_grant_bodies(caller):
            raise serializers.ValidationError({"reads_bodies": [OWNERS_GRANT]})
        role = attrs.get("role", "")
        if role and role not in roles_given_by(caller):
            raise exceptions.PermissionDenied(NOT_YOURS_TO_GIVE)
        return attrs

    def save_checked(self, row: User) -> User:
        password = self.validated_data.pop("password", None)
        if password is not None:
            try:
                validate_password(password, row)
            except ValidationError as error:
                raise serializers.ValidationError({"password": error.messages}) from error
            row.set_password(password)
        elif row._state.adding:
            row.set_unusable_password()
        if row._state.adding and "reads_bodies" not in self.validated_data:
            row.role = self.validated_data.get("role", "")
            row.reads_bodies = row.is_first_owner()
        return super().save_checked(row)


class UserFilter(filters.FilterSet):
    tenant = filters.UUIDFilter(field_name="tenant_id")
    email = filters.CharFilter(lookup_expr="iexact")

    class Meta:
        model = User
        fields = ("tenant", "email", "role", "is_active")


class UserViewSet(RowViewSet):
    """People. An admin has no power over owners; nobody changes their own rights."""

    area = Area.USERS
    queryset = User.objects.all()
    serializer_class = UserSerializer
    filterset_class = UserFilter
    search_fields = ("email", "name")
    ordering_fields = ("created_at", "email")

    def get_object(self) -> User:
        other: User = super().get_object()
        if self.action != "retrieve" and not may_edit_user(self.request.user, other):
            raise exceptions.PermissionDenied
        return other

    def perform_create(self, serializer: Any) -> None:
        super().perform_create(serializer)
        if not serializer.instance.has_usable_password():
            password_links.invite(serializer.instance, password_links.origin_of(self.request))

    def perform_destroy(self, instance: User) -> None:
        if instance.pk == getattr(self.request.user, "pk", None):
            raise Conflict("You cannot delete yourself.")
        super().perform_destroy(instance)
