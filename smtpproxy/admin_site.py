"""The admin as a whole: its theme, its first page, its palette, and the pages that belong to no model."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest
from django.template.response import TemplateResponse
from django.urls import URLPattern, URLResolver, path

from accounts.people_pages.site import SignInSite
from accounts.tenant_admin import signed_in


class AdminSite(SignInSite):
    """Django's admin in the theme of django-unfold, which brings every asset along (ADM-1)."""

    index_title = "Dashboard"
    index_template = "admin/dashboard/index.html"

    # Its pages are imported where they are needed: models are not loaded when the site is made.

    def index(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> TemplateResponse:
        from smtpproxy.dashboard import overview  # noqa: PLC0415

        return super().index(request, {**overview.context(request), **(extra_context or {})})

    def search(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> TemplateResponse:  # noqa: ARG002
        """The palette: pages of the menu whose name has the words, then what the search finds. Nothing is remembered:
        what a person may see may change from one moment to the next."""
        from smtpproxy.dashboard import palette  # noqa: PLC0415

        return TemplateResponse(request, "admin/dashboard/palette.html", palette.context(request, signed_in(request)))

    def get_urls(self) -> list[URLPattern | URLResolver]:
        from smtpproxy.dashboard.analytics import Analytics  # noqa: PLC0415
        from smtpproxy.dashboard.search import SearchPage  # noqa: PLC0415
        from smtpproxy.dashboard.tail import Feed, LiveTail  # noqa: PLC0415

        pages = {
            "analytics": ("analytics/", Analytics),
            "live_tail": ("live/", LiveTail),
            "live_tail_feed": ("live/feed/", Feed),
            "search_page": ("find/", SearchPage),
        }
        ours = [path(where, self.admin_view(page.as_view()), name=name) for name, (where, page) in pages.items()]
        return [*ours, *super().get_urls()]
