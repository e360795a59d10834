"""Endpoints of messages and what became of them. The floor's part of `/api/v1/`."""

from __future__ import annotations

from django.urls import URLPattern
from rest_framework.routers import SimpleRouter

from delivery.api.bulk import BulkActionViewSet
from delivery.api.dead_letters import DeadLetterViewSet
from delivery.api.messages import MessageViewSet
from delivery.api.refused import RefusedSessionViewSet

urlpatterns: list[URLPattern] = []
"""What no router makes."""


def register(router: SimpleRouter) -> None:
    """Add this floor's collections."""
    router.register("messages", MessageViewSet, "message")
    router.register("dlq", DeadLetterViewSet, "dead-letter")
    router.register("bulk-actions", BulkActionViewSet, "bulk-action")
    router.register("refused-sessions", RefusedSessionViewSet, "refused-session")
