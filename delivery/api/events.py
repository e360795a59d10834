"""`events`: what has happened to messages, ours and told by providers (API-1, EVT-1)."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.db.models import QuerySet
from django_filters import rest_framework as filters
from rest_framework import serializers

from accounts.api.views import ReadViewSet
from accounts.ids import time_of
from accounts.tenancy import Area
from delivery.api.moments import MomentFilter, recorded_before, recorded_since
from delivery.models import Event, EventType, Recipient


class EventSerializer(serializers.ModelSerializer[Event]):
    """`occurred_at` is when it happened, `recorded_at` when it was written down here. What is in `data` depends on the
    type."""

    recipient = serializers.SerializerMethodField(help_text="The address, where it is about one.")
    recorded_at = serializers.SerializerMethodField()
    data = serializers.DictField(read_only=True)  # type: ignore[assignment]

    class Meta:
        model = Event
        fields = (
            "id",
            "tenant",
            "message",
            "type",
            "recipient",
            "delivery_log",
            "provider",
            "provider_event_id",
            "data",
            "occurred_at",
            "recorded_at",
        )
        read_only_fields = fields

    def get_recipient(self, event: Event) -> str | None:
        return None if event.recipient_id is None or event.recipient is None else event.recipient.address

    def get_recorded_at(self, event: Event) -> datetime:
        return time_of(event.pk)


class EventFilter(filters.FilterSet):
    """`recipient` is an address a message went to; times are of when it was written down."""

    tenant = filters.UUIDFilter(field_name="tenant_id")
    account = filters.UUIDFilter(field_name="message__account_id")
    message = filters.UUIDFilter(field_name="message_id")
    type = filters.MultipleChoiceFilter(choices=EventType.choices)
    recipient = filters.CharFilter(method="to", max_length=320)
    recorded_from = MomentFilter(method="since")
    recorded_until = MomentFilter(method="before")

    class Meta:
        model = Event
        fields = ()

    def to(self, rows: QuerySet[Any], name: str, address: str) -> QuerySet[Any]:
        messages = Recipient.objects.filter(address__in={address, address.lower()}).values("message_id")
        return rows.filter(message_id__in=messages)

    def since(self, rows: QuerySet[Any], name: str, moment: datetime) -> QuerySet[Any]:
        return recorded_since(rows, moment)

    def before(self, rows: QuerySet[Any], name: str, moment: datetime) -> QuerySet[Any]:
        return recorded_before(rows, moment)


class EventViewSet(ReadViewSet):
    """The events of the caller's tenant, or of an API key's account, newest first."""

    area = Area.LOGS
    queryset = Event.objects.select_related("recipient")
    serializer_class = EventSerializer
    filterset_class = EventFilter
    ordering_fields = ("id",)
