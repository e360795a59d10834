"""Endpoints of tenants, people and accounts. The floor's part of `/api/v1/`."""

from __future__ import annotations

from django.urls import URLPattern, re_path
from rest_framework.routers import SimpleRouter

from accounts.api.accounts import AccountViewSet
from accounts.api.audit import AuditViewSet
from accounts.api.auth import LoginView, LogoutView, PasswordView, RefreshView, SessionViewSet
from accounts.api.keys import ApiKeyViewSet
from accounts.api.me import MeView
from accounts.api.tenants import TenantViewSet
from accounts.api.users import UserViewSet

urlpatterns: list[URLPattern] = [
    re_path("^auth/login/?$", LoginView.as_view()),
    re_path("^auth/refresh/?$", RefreshView.as_view()),
    re_path("^auth/logout/?$", LogoutView.as_view()),
    re_path("^auth/password/?$", PasswordView.as_view()),
    re_path("^auth/me/?$", MeView.as_view()),
]
"""What no router makes."""


def register(router: SimpleRouter) -> None:
    """Add this floor's collections."""
    router.register("auth/sessions", SessionViewSet, basename="session")
    router.register("tenants", TenantViewSet)
    router.register("users", UserViewSet)
    router.register("accounts", AccountViewSet)
    router.register("api-keys", ApiKeyViewSet)
    router.register("audit", AuditViewSet)
