"""Endpoints of providers and routing rules. The floor's part of `/api/v1/`."""

from __future__ import annotations

from rest_framework.routers import SimpleRouter


def register(router: SimpleRouter) -> None:
    """Add this floor's collections."""
