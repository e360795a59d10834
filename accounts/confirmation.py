"""Actions that ask before they act: what will happen, and to how many rows (ADM-2)."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse

MOST_NAMED = 10
"""Rows that are named one by one."""
Act = Callable[[Any, HttpRequest, QuerySet[Any]], HttpResponse | None]


def asks(tells: Callable[[QuerySet[Any]], str], button: str) -> Callable[[Act], Act]:
    """For an action of an admin class: it shows `tells(rows)` and a button first, and acts once that is pressed.

    The same whether it was chosen in a list or is a button of a row's page. Where there is no row, or nothing to tell
    (""), it acts at once, which says why in its own words.
    """

    def decorate(act: Act) -> Act:
        @wraps(act)
        def asked(admin: Any, request: HttpRequest, rows: QuerySet[Any]) -> HttpResponse | None:
            told = tells(rows) if request.POST.get("confirmed") != "yes" and rows.exists() else ""
            if not told:
                return act(admin, request, rows)
            keys = list(rows.values_list("pk", flat=True))
            context = {
                **admin.admin_site.each_context(request),
                "title": button,
                "opts": admin.opts,
                "text": told,
                "button": button,
                "action": act.__name__,
                "checkbox": ACTION_CHECKBOX_NAME,
                "keys": keys,
                "named": [str(row) for row in rows[:MOST_NAMED]],
                "more": len(keys) - MOST_NAMED,
            }
            return TemplateResponse(request, "admin/accounts/confirm.html", context)

        return asked

    return decorate


def counted(number: int, one: str, many: str = "") -> str:
    """`1 account`, `3 accounts`."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"
