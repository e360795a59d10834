"""The views that endpoints are built from: own tenant only, permissions by role and scope, changes audited."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from typing import Any, ClassVar

from django.db import models, transaction
from django.http import Http404
from rest_framework import mixins, serializers, viewsets
from rest_framework.request import Request
from rest_framework.views import APIView

from accounts import audit, protected
from accounts.api.errors import Conflict
from accounts.api.given import unknown_fields
from accounts.models import Tenant, User
from accounts.tenancy import Area, Person, Verb, tenant_path, visible_to


def client_ip(request: Request) -> str | None:
    """The address the request came from."""
    return request.META.get("REMOTE_ADDR") or None


def actor(request: Request) -> User | str:
    """Who is named in the audit: the person, or the API key by its visible prefix."""
    return request.user if isinstance(request.user, User) else str(request.user)


GRANTED = "Only a platform operator may change this."


class VisibleRelatedField(serializers.PrimaryKeyRelatedField[Any]):
    """Another row by its key; one the caller may not know of is one that is not there."""

    def get_queryset(self) -> models.QuerySet[Any]:
        rows = super().get_queryset()
        request = self.context.get("request")
        if rows is None or request is None:
            raise TypeError("a related row is chosen by somebody")
        return visible_to(request.user, rows)


class RowSerializer(serializers.ModelSerializer[Any]):
    """A row as JSON. What is given is checked by the model as well, so that no door knows rules of its own.

    A row that belongs to a tenant says which in `tenant`: for a person of a tenant it is always their own.
    """

    serializer_related_field = VisibleRelatedField
    operators_only: ClassVar[tuple[str, ...]] = ()
    """Fields that others may read, and give as they are."""

    def get_validators(self) -> list[Any]:
        return []  # of rows that belong together: the model's own say it

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        unknown_fields(self, self.fields)
        self.refuse_grants(attrs, self.operators_only)
        return attrs

    def refuse_grants(self, attrs: dict[str, Any], granted: Iterable[str]) -> None:
        """Raise ValidationError when somebody else than an operator changes one of these fields."""
        row = self.instance or self.Meta.model()  # type: ignore[misc]
        if not self.context["request"].user.is_superuser:
            changed = [name for name in granted if name in attrs and attrs[name] != getattr(row, name)]
            if changed:
                raise serializers.ValidationError({name: [GRANTED] for name in changed})

    def save_checked(self, row: Any) -> Any:
        """`row` with what was given, checked whole and saved; a subclass with settings beside fields extends it."""
        for name, value in self.validated_data.items():
            setattr(row, name, value)
        row.full_clean()
        row.save()
        return row


class NoStore(APIView):
    """Answers are for who asked, and not to be kept on the way."""

    @property
    def default_response_headers(self) -> dict[str, str]:
        return {**super().default_response_headers, "Cache-Control": "no-store"}


class TenantViewSet(NoStore, viewsets.GenericViewSet[Any]):
    """Rows of one area. Another tenant's row is 404, as one that never was; `lookup` is by UUID."""

    area: ClassVar[Area]
    verbs: ClassVar[dict[str, Verb]] = {}
    """The verb of each action beyond CRUD."""
    areas: ClassVar[dict[str, Area]] = {}
    """Where an action belongs to another area than the rest."""
    lookup_value_regex = "[^/]+"

    def get_queryset(self) -> models.QuerySet[Any]:
        rows = super().get_queryset()
        if getattr(self, "swagger_fake_view", False):
            return rows.none()
        return visible_to(self.request.user, rows)

    def get_object(self) -> Any:
        try:
            uuid.UUID(str(self.kwargs[self.lookup_url_kwarg or self.lookup_field]))
        except ValueError:
            raise Http404 from None
        return super().get_object()

    def note(self, verb: str, row: Any, changes: dict[str, Any] | None = None) -> None:
        """Record in the audit that the caller did `verb` (`created`, `suspended`) to `row`."""
        name = row._meta.model_name
        audit.record(actor(self.request), f"{name}.{verb}", row, changes, client_ip(self.request))

    def tenant_of_new(self, given: dict[str, Any]) -> Tenant | None:
        """Whose row is being made: the caller's tenant, or the one an operator names in `tenant`."""
        caller: Person = self.request.user
        if isinstance(caller, User) and caller.is_superuser:
            return given.get("tenant")
        return visible_to(caller, Tenant).get()


class CreateMixin(mixins.CreateModelMixin):
    def perform_create(self, serializer: Any) -> None:
        model = serializer.Meta.model
        row = model()
        with transaction.atomic():
            if tenant_path(model) == "tenant":
                row.tenant = self.tenant_of_new(serializer.validated_data)  # type: ignore[attr-defined]
                serializer.validated_data.pop("tenant", None)
            serializer.instance = serializer.save_checked(row)
            self.note("created", row, audit.differences(model, {}, audit.values(row)))  # type: ignore[attr-defined]


class UpdateMixin(mixins.UpdateModelMixin):
    def perform_update(self, serializer: Any) -> None:
        row = serializer.instance
        with transaction.atomic():
            # Locked, so that what the audit tells of is what was there.
            locked = type(row)._default_manager.select_for_update(of=("self",)).get(pk=row.pk)
            before = audit.values(locked)
            serializer.validated_data.pop("tenant", None)  # a row never changes its tenant
            serializer.instance = serializer.save_checked(locked)
            changes = audit.differences(type(row), before, audit.values(locked))
            if changes:
                self.note("changed", locked, changes)  # type: ignore[attr-defined]


class DestroyMixin(mixins.DestroyModelMixin):
    def perform_destroy(self, instance: Any) -> None:
        with transaction.atomic():
            if standing := protected.standing(type(instance), [instance]):
                raise Conflict(f"There are {' and '.join(standing)}.")
            self.note("deleted", instance, audit.differences(type(instance), audit.values(instance), {}))  # type: ignore[attr-defined]
            instance.delete()


class ReadViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, TenantViewSet):
    """List and detail."""


class RowViewSet(CreateMixin, UpdateMixin, DestroyMixin, ReadViewSet):
    """List, detail, create, change (PUT and PATCH), delete."""
