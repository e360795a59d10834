"""`archive`: copies of what was sent, found by what is known of them (API-1, ARC-1, ARC-2)."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from django.db.models import QuerySet
from django.http import HttpResponse
from django_filters import rest_framework as filters
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework import exceptions, serializers
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.api.errors import Conflict, Unavailable
from accounts.api.pagination import Keyset
from accounts.api.views import ReadViewSet
from accounts.tenancy import Area, Verb, permits
from delivery import archive, archive_search
from delivery.api.moments import APART, MomentFilter, recorded_before, recorded_since
from delivery.exceptions import CopyUnreadable, StoreUnavailable
from delivery.models import ArchiveCopy

NOT_FOR_YOU = "Searching texts is for those who may read bodies."


class CopyLine(serializers.ModelSerializer[ArchiveCopy]):
    """A copy of what one attempt sent. `thread` is the same for every copy of one conversation."""

    class Meta:
        model = ArchiveCopy
        fields: tuple[str, ...] = (
            "id",
            "tenant",
            "account",
            "message",
            "delivery_log",
            "status",
            "mail_from",
            "header_from",
            "subject",
            "message_id_header",
            "thread",
            "provider",
            "provider_name",
            "provider_message_id",
            "size",
            "created_at",
        )
        read_only_fields = fields


class CopySerializer(CopyLine):
    """A copy with its recipients and how it is kept; `checksum` is the SHA-256 of the MIME."""

    recipients = serializers.ListField(child=serializers.CharField(), read_only=True)

    class Meta(CopyLine.Meta):
        fields = (
            *CopyLine.Meta.fields,
            "recipients",
            "origin",
            "stored_size",
            "compression",
            "checksum",
            "tries",
            "next_attempt_at",
            "error_text",
            "kept_at",
        )
        read_only_fields = fields


class CopyFilter(filters.FilterSet):
    """Addresses are whole, `sender` is of the envelope, `address` either of the two. `subject` and `text` are words
    that are all in it; `text` finds copies of tenants that have it indexed, for those who may read bodies."""

    tenant = filters.UUIDFilter(field_name="tenant_id")
    account = filters.UUIDFilter(field_name="account_id")
    provider = filters.UUIDFilter(field_name="provider_id")
    message = filters.UUIDFilter(field_name="message_id")
    thread = filters.UUIDFilter()
    sender = filters.CharFilter(method="search", max_length=320)
    recipient = filters.CharFilter(method="search", max_length=320)
    address = filters.CharFilter(method="search", max_length=320)
    subject = filters.CharFilter(method="search", max_length=500)
    text = filters.CharFilter(method="search", max_length=500)
    message_id = filters.CharFilter(method="search", max_length=500, help_text="The Message-ID header.")
    provider_message_id = filters.CharFilter(method="of_provider", max_length=255)
    created_from = MomentFilter(method="since")
    created_until = MomentFilter(method="before")

    class Meta:
        model = ArchiveCopy
        fields = ("status", "origin")

    def search(self, rows: QuerySet[Any], name: str, value: str) -> QuerySet[Any]:
        if name == "text" and not permits(self.request.user, Area.BODIES, Verb.READ):
            raise exceptions.PermissionDenied(NOT_FOR_YOU)
        return _SEARCHES[name](rows, value)

    def of_provider(self, rows: QuerySet[Any], name: str, value: str) -> QuerySet[Any]:
        return archive_search.by_provider_id(rows, self.request.user, value)

    def since(self, rows: QuerySet[Any], name: str, moment: datetime) -> QuerySet[Any]:
        return recorded_since(rows, moment - APART).filter(created_at__gte=moment)

    def before(self, rows: QuerySet[Any], name: str, moment: datetime) -> QuerySet[Any]:
        return recorded_before(rows, moment + APART).filter(created_at__lt=moment)


_SEARCHES: dict[str, Callable[[QuerySet[ArchiveCopy], str], QuerySet[ArchiveCopy]]] = {
    "sender": archive_search.by_sender,
    "recipient": archive_search.by_recipient,
    "address": archive_search.by_address,
    "subject": archive_search.by_subject,
    "text": archive_search.by_text,
    "message_id": archive_search.by_message_id,
}


class OldestFirst(Keyset):
    """As a conversation is read."""

    ordering = "id"


class ArchiveViewSet(ReadViewSet):
    """The archive copies of the caller's tenant, or of an API key's account, newest first."""

    area = Area.MESSAGES
    verbs = {"thread": Verb.READ, "download": Verb.READ}
    areas = {"download": Area.BODIES}
    queryset = ArchiveCopy.objects.all()
    serializer_class = CopySerializer
    filterset_class = CopyFilter
    ordering_fields = ("id",)

    def get_serializer_class(self) -> type[Any]:
        return CopySerializer if self.action == "retrieve" else CopyLine

    @extend_schema(responses=CopyLine(many=True))
    @action(detail=True, pagination_class=OldestFirst, filterset_class=None)
    def thread(self, _request: Request, **_: Any) -> Response:
        """Every copy of the conversation this one belongs to, itself too, the first one first."""
        copy = self.get_object()
        alone = {"pk": copy.pk} if copy.thread is None else {"thread": copy.thread, "tenant": copy.tenant_id}
        page = self.paginate_queryset(self.get_queryset().filter(**alone))
        return self.get_paginated_response(self.get_serializer(page, many=True).data)

    @extend_schema(responses={(200, "message/rfc822"): OpenApiTypes.BINARY})
    @action(detail=True, filterset_class=None, pagination_class=None)
    def download(self, _request: Request, **_: Any) -> HttpResponse:
        """The MIME of the copy, for those who may read bodies; who has read it is in the audit."""
        copy = self.get_object()
        try:
            mime = archive.read(copy)
        except CopyUnreadable as error:
            self.note("not_read", copy, {"error": str(error)})
            raise Conflict(str(error), "unreadable") from error
        except StoreUnavailable as error:
            raise Unavailable("The message store does not answer.") from error
        self.note("read", copy)
        answer = HttpResponse(mime, content_type="message/rfc822")
        answer["Content-Disposition"] = f'attachment; filename="{copy.pk}.eml"'
        return answer
