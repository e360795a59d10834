"""Endpoints of messages and what became of them. The floor's part of `/api/v1/`."""

from __future__ import annotations

from django.urls import URLPattern, re_path
from rest_framework.routers import SimpleRouter

from delivery.api.archive import ArchiveViewSet
from delivery.api.bulk import BulkActionViewSet
from delivery.api.dead_letters import DeadLetterViewSet
from delivery.api.events import EventViewSet
from delivery.api.logs import DeliveryLogViewSet
from delivery.api.messages import MessageViewSet
from delivery.api.refused import RefusedSessionViewSet
from delivery.api.routing import RoutingView
from delivery.api.suppressions import SuppressionViewSet
from delivery.api.webhooks import WebhookDeliveryViewSet, WebhookViewSet

urlpatterns: list[URLPattern] = [
    re_path(r"^routing-rules/explain/?$", RoutingView.as_view({"post": "explain"})),
    re_path(r"^routing-rules/dry-run/?$", RoutingView.as_view({"post": "dry_run"})),
]
"""What no router makes."""


def register(router: SimpleRouter) -> None:
    """Add this floor's collections."""
    router.register("messages", MessageViewSet, "message")
    router.register("dlq", DeadLetterViewSet, "dead-letter")
    router.register("bulk-actions", BulkActionViewSet, "bulk-action")
    router.register("refused-sessions", RefusedSessionViewSet, "refused-session")
    router.register("delivery-logs", DeliveryLogViewSet)
    router.register("events", EventViewSet)
    router.register("suppressions", SuppressionViewSet)
    router.register("webhooks", WebhookViewSet)
    router.register("webhook-deliveries", WebhookDeliveryViewSet)
    router.register("archive", ArchiveViewSet)
