"""`webhooks`: where a tenant wants its events posted, and what was posted there (API-1, EVT-3)."""

from __future__ import annotations

from typing import Any

import structlog
from django.db import transaction
from django.db.models import Prefetch, QuerySet
from django_filters import rest_framework as filters
from drf_spectacular.utils import extend_schema, inline_serializer
from rest_framework import exceptions, serializers
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from accounts import audit, shared_state
from accounts.api.errors import Conflict
from accounts.api.views import ReadViewSet, RowSerializer, RowViewSet, actor, client_ip
from accounts.api_keys import KeyIdentity
from accounts.crypto import DecryptionError
from accounts.models import Account
from accounts.tenancy import Area, Verb, visible_to
from delivery.exceptions import ControlRefused
from delivery.filters import YEARS
from delivery.models import Webhook, WebhookAttempt, WebhookDelivery
from delivery.outbox import NAMES
from delivery.outbox import name_of as event_name
from delivery.outgoing import post, signatures, webhooks
from providers import trial

log = structlog.get_logger(__name__)

UNREADABLE = "Its secret cannot be read: rotate it."
TOO_MANY = f"That was more than {trial.PER_MINUTE} tests in a minute."


class WebhookSerializer(RowSerializer):
    """A webhook. It is told of the events named in `event_types`, of every one where none is named, and of one account
    alone where `account` names it; an API key's webhooks are of its account. `secret` is told when it is made and never
    again."""

    event_types = serializers.ListField(child=serializers.ChoiceField(list(NAMES)), required=False)
    secret = serializers.SerializerMethodField(help_text="Only in the answer that makes the webhook.")

    _issued: str | None = None

    class Meta:
        model = Webhook
        fields = (
            "id",
            "tenant",
            "account",
            "name",
            "url",
            "event_types",
            "enabled",
            "disabled_reason",
            "failing_since",
            "failures",
            "next_attempt_at",
            "created_at",
            "updated_at",
            "secret",
        )
        read_only_fields = ("disabled_reason", "failing_since", "failures", "next_attempt_at")
        extra_kwargs = {"tenant": {"required": False}}

    def get_secret(self, _webhook: Webhook) -> str | None:
        return self._issued

    def validate_url(self, url: str) -> str:
        try:
            post.check_url(url)
        except ValueError as error:
            raise serializers.ValidationError(str(error)) from None
        return url

    def validate_account(self, account: Account | None) -> Account | None:
        person = self.context["request"].user
        if isinstance(person, KeyIdentity) and (account is None or account.pk != person.account_id):
            raise serializers.ValidationError("A key's webhooks are of its account.")
        return account

    def save_checked(self, row: Webhook) -> Webhook:
        given = dict(self.validated_data)
        person = self.context["request"].user
        new = row._state.adding
        enabled = given.pop("enabled", row.enabled)
        moved = not new and given.get("url", row.url) != row.url
        for name, value in given.items():
            setattr(row, name, value)
        if new:
            row.enabled = enabled
            row.secrets = signatures.renewed({})
            self._issued = row.secrets["current"]
            if isinstance(person, KeyIdentity):
                row.account_id = person.account_id
        if row.account is not None and row.account.tenant_id != row.tenant_id:
            raise serializers.ValidationError({"account": ["This account belongs to another tenant."]})
        if new and Webhook.objects.filter(tenant=row.tenant_id).count() >= webhooks.MOST:
            raise Conflict(f"A tenant has at most {webhooks.MOST} webhooks.", "too_many")
        row.full_clean()
        # These alone: how it stands may change at any moment.
        row.save(update_fields=None if new else [*given, "updated_at"])
        if moved:
            webhooks.moved(row)
        if not new and enabled != row.enabled:
            if enabled:
                webhooks.enable(row)
            else:
                webhooks.disable(row, f"Disabled by {person}.")
        if not new:
            row.refresh_from_db()
        return row


class SecretSerializer(serializers.Serializer[Any]):
    """A new secret, told once. The one before signs beside it for 24 hours."""

    secret = serializers.CharField()


class TestedSerializer(serializers.Serializer[Any]):
    """What the webhook answered to a test; `status` is null where there was no answer."""

    good = serializers.BooleanField()
    status = serializers.IntegerField(allow_null=True)
    text = serializers.CharField()
    duration_ms = serializers.IntegerField()


class ReplaySerializer(serializers.Serializer[Any]):
    """Everything that was recorded from `since` until before `until`; without both, what was given up."""

    since = serializers.DateTimeField(required=False)
    until = serializers.DateTimeField(required=False)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if len(attrs) == 1:
            raise serializers.ValidationError("Give both ends of the time, or neither.")
        for name, moment in attrs.items():
            if moment.year not in YEARS:
                raise serializers.ValidationError({name: ["Nothing was recorded then."]})
        if attrs and attrs["since"] >= attrs["until"]:
            raise serializers.ValidationError({"until": ["The end comes before the beginning."]})
        return attrs


REPLAYED = inline_serializer("Replayed", {"events": serializers.IntegerField()})


class WebhookFilter(filters.FilterSet):
    tenant = filters.UUIDFilter(field_name="tenant_id")
    account = filters.UUIDFilter(field_name="account_id")

    class Meta:
        model = Webhook
        fields = ("enabled", "name")


class WebhookViewSet(RowViewSet):
    """The webhooks of the caller's tenant, or of an API key's account."""

    area = Area.WEBHOOKS
    verbs = {"rotate_secret": Verb.UPDATE, "test": Verb.UPDATE, "replay": Verb.UPDATE}
    queryset = Webhook.objects.select_related("account").defer("secrets")
    serializer_class = WebhookSerializer
    filterset_class = WebhookFilter
    ordering_fields = ("created_at", "name")

    def handle_exception(self, exc: Exception) -> Response:
        return super().handle_exception(Conflict(UNREADABLE, "unreadable") if isinstance(exc, DecryptionError) else exc)

    def perform_destroy(self, instance: Webhook) -> None:
        with transaction.atomic():
            self.note("deleted", instance, {"url": [instance.url, None]})
            webhooks.remove(instance)

    @extend_schema(request=None, responses=SecretSerializer)
    @action(detail=True, methods=["post"], url_path="rotate-secret")
    def rotate_secret(self, _request: Request, **_: Any) -> Response:
        """A new secret; requests are signed with both for 24 hours."""
        webhook = self.get_object()
        with transaction.atomic():
            secret = webhooks.rotate(webhook)
            self.note("secret_issued", webhook)
        return Response({"secret": secret})

    @extend_schema(request=None, responses=TestedSerializer)
    @action(detail=True, methods=["post"])
    def test(self, request: Request, **_: Any) -> Response:
        """Post a test event now and tell what came back; nothing is recorded. At most ten a minute."""
        webhook = self.get_object()
        try:
            may = trial.may_try(request.user)
        except shared_state.Unavailable as error:
            log.warning("tests not counted", error=str(error))
            may = True
        if not may:
            raise exceptions.Throttled(wait=60, detail=TOO_MANY)
        self.note("tested", webhook)
        return Response(TestedSerializer(webhooks.test(webhook)).data)

    @extend_schema(request=ReplaySerializer, responses=REPLAYED)
    @action(detail=True, methods=["post"])
    def replay(self, request: Request, **_: Any) -> Response:
        """Post again what was recorded in a time, also what the webhook was never told of; or what was given up."""
        webhook = self.get_object()
        asked = ReplaySerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        span = asked.validated_data
        try:
            with transaction.atomic():
                if span:
                    count = webhooks.replay_range(webhook, span["since"], span["until"])
                else:
                    count = webhooks.replay_failed(webhook)
                told = {name: moment.isoformat() for name, moment in span.items()}
                self.note("replayed", webhook, {**told, "events": count})
        except ControlRefused as error:
            raise Conflict(str(error), "too_many") from error
        return Response({"events": count})


class AttemptSerializer(serializers.ModelSerializer[WebhookAttempt]):
    class Meta:
        model = WebhookAttempt
        fields = ("id", "response_code", "error_text", "duration_ms", "created_at")


class DeliveryLine(serializers.ModelSerializer[WebhookDelivery]):
    """One event on its way to one webhook."""

    event_type = serializers.SerializerMethodField(help_text="As the webhook is told it.")
    message = serializers.UUIDField(source="event.message_id", read_only=True)

    class Meta:
        model = WebhookDelivery
        fields: tuple[str, ...] = (
            "id",
            "tenant",
            "webhook",
            "event",
            "event_type",
            "message",
            "status",
            "tries",
            "next_attempt_at",
            "created_at",
            "finished_at",
        )
        read_only_fields = fields

    def get_event_type(self, delivery: WebhookDelivery) -> str:
        return event_name(str(delivery.event.type))


class DeliverySerializer(DeliveryLine):
    """With every request that was made, and what was answered."""

    attempts = AttemptSerializer(many=True, read_only=True)

    class Meta(DeliveryLine.Meta):
        fields = (*DeliveryLine.Meta.fields, "attempts")
        read_only_fields = fields


class DeliveryFilter(filters.FilterSet):
    tenant = filters.UUIDFilter(field_name="tenant_id")
    webhook = filters.UUIDFilter(field_name="webhook_id")
    event = filters.UUIDFilter(field_name="event_id")
    message = filters.UUIDFilter(field_name="event__message_id")
    status = filters.MultipleChoiceFilter(choices=WebhookDelivery.Status.choices)

    class Meta:
        model = WebhookDelivery
        fields = ()


class WebhookDeliveryViewSet(ReadViewSet):
    """What the tenant's webhooks were sent, newest first."""

    area = Area.WEBHOOKS
    verbs = {"replay": Verb.UPDATE}
    queryset = WebhookDelivery.objects.select_related("event")
    serializer_class = DeliverySerializer
    filterset_class = DeliveryFilter
    ordering_fields = ("id",)

    def get_serializer_class(self) -> type[Any]:
        return DeliveryLine if self.action == "list" else DeliverySerializer

    def get_queryset(self) -> QuerySet[Any]:
        rows = super().get_queryset()
        attempts = Prefetch("attempts", WebhookAttempt.objects.order_by("pk"))
        return rows if self.action == "list" else rows.prefetch_related(attempts)

    @extend_schema(request=None, responses=REPLAYED)
    @action(detail=True, methods=["post"])
    def replay(self, request: Request, **_: Any) -> Response:
        """Post this one again, with all its tries; 0 when a request is under way at this moment."""
        delivery = self.get_object()
        with transaction.atomic():
            count = webhooks.replay(visible_to(request.user, WebhookDelivery).filter(pk=delivery.pk))
            audit.record_each(actor(request), "webhookdelivery.replayed", [delivery], client_ip(request))
        return Response({"events": count})
