"""How lists of the admin look: statuses as badges, and what an empty list says (ADM-1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from django.contrib.admin.views.main import PAGE_VAR
from django.db import models
from django.http import HttpRequest
from django.urls import NoReverseMatch, reverse

from accounts import badges
from accounts.pages import BoundedPaginator


@dataclass(frozen=True, slots=True)
class Emptiness:
    """What an empty list tells: why there may be nothing, and links (address, label) to what comes next."""

    text: str
    links: tuple[tuple[str, str], ...] = ()


class ListLook:
    """Mixed into the admin of a model.

    `badge_fields` are shown as badges in lists and on a row's page. `empty_text` says why the list is empty, and
    `empty_links` (name of a URL, label) where to go from there; a button to add a row comes by itself for those who
    may.
    """

    model: type[models.Model]
    badge_fields: ClassVar[Sequence[str]] = ("status", "state")
    readonly_preprocess_fields: ClassVar[dict[str, Any]] = dict.fromkeys(("status", "state"), badges.status)
    empty_text: ClassVar[str] = ""
    empty_links: ClassVar[Sequence[tuple[str, str]]] = ()
    list_per_page = 25
    list_max_show_all = 200
    list_fullwidth = True
    show_full_result_count = False

    def get_list_display(self, request: HttpRequest) -> list[Any]:
        shown = super().get_list_display(request)  # type: ignore[misc]
        return [badges.column(self.model, name) if name in self.badge_fields else name for name in shown]

    def get_paginator(self, request: HttpRequest, queryset: Any, per_page: int, *args: Any, **kwargs: Any) -> Any:
        paginator = BoundedPaginator(queryset, per_page, *args, **kwargs)
        page = request.GET.get(PAGE_VAR, "")
        paginator.at = int(page[:6]) if page.isascii() and page[:6].isdigit() else 1
        return paginator

    def get_emptiness(self, request: HttpRequest) -> Emptiness:  # noqa: ARG002
        """What the list says while it has no row at all; asked for on empty lists only."""
        links = []
        for name, label in self.empty_links:
            try:
                links.append((reverse(name), label))
            except NoReverseMatch:
                continue
        return Emptiness(self.empty_text, tuple(links))

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        changelist = super().get_changelist_instance(request)  # type: ignore[misc]
        if not changelist.result_list:
            changelist.emptiness = self.get_emptiness(request)
        return changelist
