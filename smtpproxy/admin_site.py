"""The admin as a whole: its theme, and what its pages share."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest
from django.template.response import TemplateResponse

from accounts.people_pages.site import SignInSite


class AdminSite(SignInSite):
    """Django's admin in the theme of django-unfold, which brings every asset along (ADM-1)."""

    index_title = "Dashboard"
    index_template = "admin/dashboard/index.html"

    def index(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> TemplateResponse:
        from smtpproxy.dashboard import overview  # noqa: PLC0415 -- models are not loaded when the site is made

        return super().index(request, {**overview.context(request), **(extra_context or {})})
