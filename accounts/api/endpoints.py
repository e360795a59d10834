"""Endpoints of tenants, people and accounts. The floor's part of `/api/v1/`."""

from __future__ import annotations

from django.urls import URLPattern
from rest_framework.routers import SimpleRouter

urlpatterns: list[URLPattern] = []
"""What no router makes."""


def register(router: SimpleRouter) -> None:
    """Add this floor's collections."""
