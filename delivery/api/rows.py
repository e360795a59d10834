"""Messages, recipients, attempts and events as JSON: what `docs/api-messages.md` describes."""

from __future__ import annotations

from typing import Any

from django.db.models import F, QuerySet
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from delivery.models import DeliveryLog, Event, Message, Recipient

MOST_TOLD = 100
"""Recipients and attempts a message is shown with; lists of their own have them all."""


def recipients_of(message: Message) -> QuerySet[Recipient]:
    return Recipient.objects.filter(message=message).annotate(provider_name=F("provider__name"))


def attempts_of(message: Message) -> QuerySet[DeliveryLog]:
    # What a send of several requests has done so far is nobody's business, and encrypted.
    return DeliveryLog.objects.filter(message=message).defer("progress")


def events_of(message: Message) -> QuerySet[Event]:
    return Event.objects.filter(message=message).annotate(provider_name=F("provider__name"))


class MessageRow(serializers.ModelSerializer[Message]):
    account_username = serializers.CharField(read_only=True)

    class Meta:
        model = Message
        fields: tuple[str, ...] = (
            *("id", "tenant", "account", "account_username", "status", "status_reason", "source"),
            *("mail_from", "header_from", "subject", "message_id_header", "size", "recipient_count"),
            *("has_attachments", "smtputf8", "queue", "client_ip", "session_id", "accepted_at", "scheduled_at"),
            *("next_attempt_at", "finished_at", "tries", "attempts", "released", "routed_to", "body_deleted_at"),
        )
        read_only_fields: tuple[str, ...] = fields


class DeadLetterRow(MessageRow):
    last_error = serializers.CharField(read_only=True, allow_null=True, help_text="Of the last attempt.")

    class Meta(MessageRow.Meta):
        fields = (*MessageRow.Meta.fields, "last_error")
        read_only_fields = fields


class RecipientRow(serializers.ModelSerializer[Recipient]):
    provider_name = serializers.CharField(read_only=True, allow_null=True)

    class Meta:
        model = Recipient
        fields = (
            *("id", "address", "status", "provider", "provider_name", "provider_message_id"),
            *("error_code", "error_text", "delivered_at", "updated_at"),
        )
        read_only_fields = fields


class AttemptRow(serializers.ModelSerializer[DeliveryLog]):
    class Meta:
        model = DeliveryLog
        fields = (
            *("id", "attempt_number", "status", "provider", "provider_name", "provider_type", "provider_message_id"),
            *("response_code", "error_code", "error_text", "recipients", "results", "fidelity", "lost", "removed"),
            *("duration_ms", "created_at", "finished_at"),
        )
        read_only_fields = fields


class EventRow(serializers.ModelSerializer[Event]):
    provider_name = serializers.CharField(read_only=True, allow_null=True)

    class Meta:
        model = Event
        fields = (
            "id",
            "type",
            "occurred_at",
            "recipient",
            "delivery_log",
            "provider_name",
            "provider_event_id",
            "data",
        )
        read_only_fields = fields


class MessageDetail(MessageRow):
    recipients = serializers.SerializerMethodField(help_text=f"The first {MOST_TOLD}.")
    delivery_logs = serializers.SerializerMethodField(
        help_text=f"The newest {MOST_TOLD} attempts; null for who may not read delivery logs."
    )

    class Meta(MessageRow.Meta):
        fields = (*MessageRow.Meta.fields, "recipients", "delivery_logs")
        read_only_fields = fields

    @extend_schema_field(RecipientRow(many=True))
    def get_recipients(self, message: Message) -> Any:
        return RecipientRow(recipients_of(message).order_by("pk")[:MOST_TOLD], many=True).data

    @extend_schema_field(AttemptRow(many=True, allow_null=True))
    def get_delivery_logs(self, message: Message) -> Any:
        if not self.context["shows_logs"]:
            return None
        return AttemptRow(attempts_of(message).order_by("-pk")[:MOST_TOLD], many=True).data
