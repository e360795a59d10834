"""Endpoints of providers and routing rules. The floor's part of `/api/v1/`."""

from __future__ import annotations

from rest_framework.routers import SimpleRouter

from providers.api.providers import ProviderViewSet
from providers.api.rules import RoutingRuleViewSet


def register(router: SimpleRouter) -> None:
    """Add this floor's collections."""
    router.register("providers", ProviderViewSet)
    router.register("routing-rules", RoutingRuleViewSet)
