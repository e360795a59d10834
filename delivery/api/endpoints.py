"""Endpoints of messages and what became of them. The floor's part of `/api/v1/`."""

from __future__ import annotations

from django.urls import URLPattern
from rest_framework.routers import SimpleRouter

urlpatterns: list[URLPattern] = []
"""What no router makes."""


def register(router: SimpleRouter) -> None:
    """Add this floor's collections."""
