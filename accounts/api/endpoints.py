"""Endpoints of tenants, people and accounts. The floor's part of `/api/v1/`."""

from __future__ import annotations

from django.urls import URLPattern
from rest_framework.routers import SimpleRouter

from accounts.api.accounts import AccountViewSet
from accounts.api.keys import ApiKeyViewSet
from accounts.api.tenants import TenantViewSet
from accounts.api.users import UserViewSet

urlpatterns: list[URLPattern] = []
"""What no router makes."""


def register(router: SimpleRouter) -> None:
    """Add this floor's collections."""
    router.register("tenants", TenantViewSet)
    router.register("users", UserViewSet)
    router.register("accounts", AccountViewSet)
    router.register("api-keys", ApiKeyViewSet)
