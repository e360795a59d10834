"""What the web answers to."""

from typing import NoReturn

from django.contrib import admin
from django.http import Http404, HttpRequest, HttpResponse
from django.urls import URLPattern, URLResolver, include, path, re_path
from django.views.generic import RedirectView

from delivery.webhook_views import webhook


def nowhere(request: HttpRequest, rest: str) -> NoReturn:  # noqa: ARG001
    """The admin's "view on site" shortcuts: no row has such a page, and they would trip over keys that are none."""
    raise Http404


def no_icon(request: HttpRequest) -> HttpResponse:  # noqa: ARG001
    """Browsers ask for one with the first page."""
    return HttpResponse(status=204, headers={"Cache-Control": "max-age=86400"})


handler400 = "smtpproxy.error_pages.bad_request"
handler403 = "smtpproxy.error_pages.forbidden"
handler404 = "smtpproxy.error_pages.not_found"
handler500 = "smtpproxy.error_pages.server_error"

urlpatterns: list[URLPattern | URLResolver] = [
    path("", RedirectView.as_view(pattern_name="admin:index")),
    path("favicon.ico", no_icon),
    path("admin/r/<path:rest>", nowhere),
    path("admin/", admin.site.urls),
    path("api/v1/", include("smtpproxy.api")),
    # With and without the slash: a redirect would lose what was posted.
    path("webhooks/<str:provider_id>/", webhook, name="webhook"),
    re_path(r"^webhooks/(?P<provider_id>[^/]+)$", webhook),
]
