"""Refused sessions by the API (SMTP-18)."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet
from drf_spectacular.utils import OpenApiParameter, extend_schema, extend_schema_view
from rest_framework import serializers

from accounts.api.views import ReadViewSet
from accounts.tenancy import Area
from delivery.api import lists
from delivery.models import RefusedSession
from delivery.refused_search import search

FILTERS = ("reason", "source", "username", "client_ip", "session_id", "mail_from", "recipient")


class RefusedSessionRow(serializers.ModelSerializer[RefusedSession]):
    class Meta:
        model = RefusedSession
        fields = (
            "id",
            "tenant",
            "account",
            "source",
            "reason",
            "reply",
            "username",
            "client_ip",
            "helo",
            "session_id",
            "tls",
            "mail_from",
            "recipient",
            "recipient_count",
            "size",
            "count",
            "created_at",
            "last_at",
        )
        read_only_fields = fields


_parameters = [
    *(OpenApiParameter(name, str, many=name == "reason") for name in FILTERS),
    OpenApiParameter("search", str, description="A client address, username, address, session or reason."),
]


@extend_schema_view(
    list=extend_schema(summary="What doors refused, the newest first", parameters=_parameters),
    retrieve=extend_schema(summary="One refusal, with how often it was repeated"),
)
class RefusedSessionViewSet(ReadViewSet):
    area = Area.LOGS
    queryset = RefusedSession.objects.all()
    serializer_class = RefusedSessionRow
    pagination_class = lists.by("created_at", newest_first=True)

    def filter_queryset(self, queryset: QuerySet[Any]) -> QuerySet[Any]:
        if self.action != "list":
            return queryset
        term = self.request.query_params.get("search", "").strip()
        rows = search(queryset, term) if term else queryset
        return lists.exactly(rows, self.request, FILTERS, besides={"search"})
