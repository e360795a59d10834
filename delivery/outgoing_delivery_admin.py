"""The admin of what tenants' webhooks were sent, with each attempt (EVT-3, ADM-2)."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.db import transaction
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html

from accounts import audit
from accounts.tenancy import Area, Verb, permits
from accounts.tenant_admin import VisibleRelatedFilter, client_ip, signed_in
from delivery.exceptions import ControlRefused
from delivery.models import Event, WebhookAttempt, WebhookDelivery
from delivery.outbox import name_of
from delivery.outgoing import webhooks
from delivery.read_only_admin import ReadOnlyAdmin, ReadOnlyInline, as_uuid


class WebhookAttemptInline(ReadOnlyInline):
    model = WebhookAttempt
    area = Area.WEBHOOKS
    fields = ("created_at", "response_code", "error_text", "duration_ms")


@admin.register(WebhookDelivery)
class WebhookDeliveryAdmin(ReadOnlyAdmin):
    area = Area.WEBHOOKS
    list_display = (
        "created_at",
        "webhook",
        "event_type",
        "message",
        "status",
        "tries",
        "next_attempt_at",
        "finished_at",
    )
    list_filter = ("status", ("webhook", VisibleRelatedFilter))
    ordering = ("-id",)
    fields = ("id", "webhook", "event_type", "message", *list_display[4:], "created_at")
    readonly_fields = ("event_type", "message")
    search_fields = ("=id",)  # what is searched is in get_search_results
    search_help_text = "Id of the delivery, the event or the message."
    inlines = (WebhookAttemptInline,)
    actions = ("replay",)
    buttons = ("replay",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).select_related("webhook", "event").defer("webhook__secrets")

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        key = as_uuid(search_term.strip())
        if key is None:
            return queryset.none() if search_term.strip() else queryset, False
        of_message = Event.objects.filter(message_id=key).values("pk")
        return queryset.filter(Q(pk=key) | Q(event_id=key) | Q(event_id__in=of_message)), False

    def has_replay_permission(self, request: HttpRequest) -> bool:
        return permits(request.user, self.area, Verb.UPDATE)

    @admin.display(description="event")
    def event_type(self, delivery: WebhookDelivery) -> str:
        """As the form of the webhook and the request name it, and what it is called here where that says more."""
        type_ = str(delivery.event.type)
        name = name_of(type_)
        return name if name == f"mail.{type_}" else f"{name} ({type_})"

    @admin.display(description="message")
    def message(self, delivery: WebhookDelivery) -> str:
        url = reverse("admin:delivery_message_change", args=[delivery.event.message_id])
        return format_html('<a href="{}">{}</a>', url, delivery.event.message_id)

    @admin.action(description="Replay", permissions=["replay"])
    def replay(self, request: HttpRequest, queryset: QuerySet[WebhookDelivery]) -> None:
        keys = list(queryset.values_list("pk", flat=True)[: webhooks.MOST_REPLAYED + 1])
        rows = WebhookDelivery.objects.filter(pk__in=keys)
        try:
            with transaction.atomic():
                count = webhooks.replay(rows)
                audit.record_each(signed_in(request), "webhookdelivery.replayed", list(rows), client_ip(request))
        except ControlRefused as error:
            self.message_user(request, str(error), messages.ERROR)
            return
        self.message_user(request, f"{count} are sent again.")
