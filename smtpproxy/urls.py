"""What the web answers to."""

from typing import NoReturn

from django.contrib import admin
from django.http import Http404, HttpRequest
from django.urls import URLPattern, URLResolver, path


def nowhere(request: HttpRequest, rest: str) -> NoReturn:  # noqa: ARG001
    """The admin's "view on site" shortcuts: no row has such a page, and they would trip over keys that are none."""
    raise Http404


urlpatterns: list[URLPattern | URLResolver] = [
    path("admin/r/<path:rest>", nowhere),
    path("admin/", admin.site.urls),
]
