"""What the palette (ctrl+k) offers: pages of the menu, and what the search finds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.core.paginator import Paginator
from django.http import HttpRequest
from django.urls import reverse
from django.utils.http import urlencode

from accounts.models import User
from smtpproxy import navigation
from smtpproxy.dashboard import search

ICONS = {"message": "mail", "account": "badge", "suppression": "block", "delivery log": "receipt_long"}


@dataclass(frozen=True, slots=True)
class Entry:
    title: str
    description: str
    link: str
    icon: str


def context(request: HttpRequest, user: User) -> dict[str, Any]:
    """As the theme's template of results takes it, on one page."""
    term = request.GET.get("s", "").strip()
    entries = entries_for(request, user, term) if term else []
    return {
        "results": Paginator(entries, max(len(entries), 1)).page(1),
        "page_counter": 0,
        "all": f"{reverse('admin:search_page')}?{urlencode({'q': term})}",
    }


def entries_for(request: HttpRequest, user: User, term: str) -> list[Entry]:
    pages = [
        Entry(item["title"], section["title"], item["link"], item["icon"])
        for section in navigation.navigation(request)
        for item in section["items"]
        if term.lower() in item["title"].lower()
    ]
    hits = search.find(user, term) if search.SearchPage.may(user) else []
    return pages + [Entry(hit.title, f"{hit.kind}, {hit.told}", hit.link, ICONS[hit.kind]) for hit in hits]
