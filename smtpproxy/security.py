"""What browsers are told about every answer of the web: what a page may load and run, and who may frame it (SEC-9)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from csp.constants import NONE, SELF, UNSAFE_EVAL, UNSAFE_INLINE
from csp.middleware import CSPMiddleware, PolicyParts
from django.http import HttpRequest, HttpResponse

STRICT: dict[str, Any] = {
    "default-src": [NONE],
    "base-uri": [NONE],
    "connect-src": [SELF],
    "font-src": [SELF],
    "form-action": [SELF],
    "frame-ancestors": [NONE],
    "img-src": [SELF, "data:"],
    "script-src": [SELF],
    "style-src": [SELF],
}
"""For everything: what we serve ourselves, and nothing written into a page."""

WIDER: tuple[tuple[str, dict[str, Any]], ...] = (
    # The theme's components are evaluated (Alpine) and have styles in the page; frames show the HTML of messages.
    ("/admin/", {"script-src": [SELF, UNSAFE_EVAL], "style-src": [SELF, UNSAFE_INLINE], "frame-src": [SELF]}),
    # Swagger UI puts styles into the page; its script is a file of its own.
    ("/api/v1/docs", {"style-src": [SELF, UNSAFE_INLINE]}),
)
"""What pages below these paths need beyond that."""

PERMISSIONS = ", ".join(f"{name}=()" for name in ("camera", "geolocation", "microphone", "payment", "usb"))


class PolicyMiddleware(CSPMiddleware):
    """django-csp, with what is wider by path. A view that says something itself, by django-csp's decorators, is
    followed."""

    def get_policy_parts(self, request: HttpRequest, response: Any, report_only: bool = False) -> PolicyParts:
        parts = super().get_policy_parts(request, response, report_only)
        if not report_only and parts.config is None:
            for prefix, wider in WIDER:
                if request.path_info.startswith(prefix):
                    parts.config = {**STRICT, **wider}
        return parts


def permissions_policy(get_response: Callable[[HttpRequest], HttpResponse]) -> Callable[[HttpRequest], HttpResponse]:
    """No page of ours asks a browser for its camera and the like."""

    def middleware(request: HttpRequest) -> HttpResponse:
        response = get_response(request)
        response.headers.setdefault("Permissions-Policy", PERMISSIONS)
        return response

    return middleware
