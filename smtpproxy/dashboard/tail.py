"""The live tail: what has just happened to messages, as it happens (ADM-6).

The page asks for what is newer than the last event it has seen. Keys are times, so that nothing is scanned.
"""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import Any

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import reverse
from django.utils import timezone

from accounts.admin_page import AdminPage
from accounts.badges import NEUTRAL, TONES
from accounts.ids import first_at
from accounts.models import Account
from accounts.tenancy import Area, Verb, permits, visible_to
from delivery.models import Event, EventType

MOST = 100
"""Events of one answer; the page asks again at once when there may be more."""
LOOKED_AT = 1000
"""Events one question looks at, however few of them match."""
SETTLED = 1.0
"""Seconds an event may be on its way into the database while one with a later key is seen already."""


class LiveTail(AdminPage):
    area = Area.LOGS
    title = "Live tail"
    lead = "Messages accepted, delivered, failed and more, as it happens."
    template_name = "admin/dashboard/tail.html"

    def get(self, request: HttpRequest) -> HttpResponse:  # noqa: ARG002
        accounts = visible_to(self.user, Account).order_by("username")[:200]
        known = accounts if permits(self.user, Area.ACCOUNTS, Verb.READ) else []
        return self.render({"types": EventType.values, "accounts": known, "feed": reverse("admin:live_tail_feed")})


class Feed(AdminPage):
    """As JSON: `rows`, newest first, and `after`, which the next question gives."""

    area = Area.LOGS
    title = ""

    def get(self, request: HttpRequest) -> JsonResponse:
        may = permits(self.user, Area.MESSAGES, Verb.READ)
        after, kind = _uuid(request.GET.get("after", "")), request.GET.get("type", "")
        # What is not shown is not told letter by letter either.
        account = _uuid(request.GET.get("account", "")) if may else None
        text = request.GET.get("text", "").strip().lower()[:200] if may else ""
        settled = first_at(timezone.now() - timedelta(seconds=SETTLED))
        events = visible_to(self.user, Event).filter(pk__lt=settled).select_related("message__account")
        if after is None:
            found = list(events.order_by("-pk")[: MOST // 2])[::-1]
        else:
            found = list(events.filter(pk__gt=after).order_by("pk")[:LOOKED_AT])
        last = str(found[-1].pk if found else after or settled)
        wanted = (event for event in found if _fits(event, kind, account, text))
        rows = [_told(event, may) for event in wanted][-MOST:][::-1]
        return JsonResponse({"after": last, "rows": rows}, headers={"Cache-Control": "no-store"})


def _fits(event: Event, kind: str, account: uuid.UUID | None, text: str) -> bool:
    message = event.message
    if (kind and event.type != kind) or (account and message.account_id != account):
        return False
    return not text or any(text in part.lower() for part in (message.mail_from, message.subject, str(message.pk)))


def _told(event: Event, may: bool) -> dict[str, Any]:
    """Sender, subject and a link are for those who may read messages."""
    message = event.message
    return {
        "id": str(event.pk),
        "time": f"{event.occurred_at:%H:%M:%S}",
        "type": event.get_type_display(),
        "tone": TONES.get(event.type, NEUTRAL),
        "account": str(message.account) if may else "",
        "from": message.mail_from or "<>" if may else "",
        "subject": message.subject if may else "",
        "message": str(message.pk),
        "link": reverse("admin:delivery_message_change", args=[message.pk]) if may else "",
    }


def _uuid(text: str) -> uuid.UUID | None:
    try:
        return uuid.UUID(text)
    except ValueError:
        return None
