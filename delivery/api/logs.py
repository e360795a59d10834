"""`delivery-logs`: every attempt, and statistics of them (API-1, DEL-7)."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.db.models import QuerySet
from django_filters import rest_framework as filters
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.api.views import ReadViewSet
from accounts.tenancy import Area, Verb
from delivery.api import stats
from delivery.api.moments import APART, MomentFilter, recorded_before, recorded_since
from delivery.models import DeliveryLog


class LogLine(serializers.ModelSerializer[DeliveryLog]):
    """One attempt: one call to one provider."""

    class Meta:
        model = DeliveryLog
        fields: tuple[str, ...] = (
            "id",
            "tenant",
            "account",
            "message",
            "attempt_number",
            "provider",
            "provider_name",
            "provider_type",
            "status",
            "provider_message_id",
            "response_code",
            "error_code",
            "error_text",
            "duration_ms",
            "created_at",
            "finished_at",
        )
        read_only_fields = fields


class RecipientResultSerializer(serializers.Serializer[Any]):
    """What became of one recipient; further words are the provider's."""

    status = serializers.CharField()


class LogSerializer(LogLine):
    """An attempt with its recipients and what became of each; `fidelity` and `lost` tell what the provider was known to
    do to the message, `removed` which headers it was not given."""

    recipients = serializers.ListField(child=serializers.CharField(), read_only=True)
    results = serializers.DictField(child=RecipientResultSerializer(), read_only=True)
    lost = serializers.ListField(child=serializers.CharField(), read_only=True)
    removed = serializers.ListField(child=serializers.CharField(), read_only=True)

    class Meta(LogLine.Meta):
        fields = (*LogLine.Meta.fields, "recipients", "results", "fidelity", "lost", "removed")
        read_only_fields = fields

    def to_representation(self, instance: DeliveryLog) -> dict[str, Any]:
        return {**super().to_representation(instance), "results": instance.results}


class LogFilter(filters.FilterSet):
    """Times are of the attempt's beginning; `created_until` is the first moment that is too late."""

    tenant = filters.UUIDFilter(field_name="tenant_id")
    account = filters.UUIDFilter(field_name="account_id")
    provider = filters.UUIDFilter(field_name="provider_id")
    message = filters.UUIDFilter(field_name="message_id")
    status = filters.MultipleChoiceFilter(choices=DeliveryLog.Status.choices)
    created_from = MomentFilter(method="since")
    created_until = MomentFilter(method="before")

    class Meta:
        model = DeliveryLog
        fields = ("provider_type", "error_code")

    def since(self, rows: QuerySet[Any], name: str, moment: datetime) -> QuerySet[Any]:
        return recorded_since(rows, moment - APART).filter(created_at__gte=moment)

    def before(self, rows: QuerySet[Any], name: str, moment: datetime) -> QuerySet[Any]:
        return recorded_before(rows, moment + APART).filter(created_at__lt=moment)


class DeliveryLogViewSet(ReadViewSet):
    """The attempts of the caller's tenant, or of an API key's account."""

    area = Area.LOGS
    verbs = {"stats": Verb.READ}
    queryset = DeliveryLog.objects.defer("progress")
    serializer_class = LogSerializer
    filterset_class = LogFilter
    ordering_fields = ("id",)

    def get_serializer_class(self) -> type[Any]:
        return LogLine if self.action == "list" else LogSerializer

    def get_queryset(self) -> QuerySet[Any]:
        rows = super().get_queryset()
        return rows.defer("progress", "recipients", "results", "lost", "removed") if self.action == "list" else rows

    @extend_schema(parameters=[stats.QuerySerializer], responses=stats.StatsSerializer)
    @action(detail=False, pagination_class=None, filterset_class=None)
    def stats(self, request: Request) -> Response:
        """Figures of calls to providers and of messages, by whole hours: quick at any number of rows."""
        return Response(stats.answer(request))
