"""Events of providers for tests, as receivers hand them on."""

from __future__ import annotations

from datetime import timedelta

from django.utils import timezone

from providers.webhooks.contract import ProviderEvent, Told

WORDS = {
    "confirmed": (Told.CONFIRMED, False),
    "deferred": (Told.DEFERRED, False),
    "soft": (Told.BOUNCED, False),
    "bounced": (Told.BOUNCED, True),
    "failed": (Told.FAILED, False),
    "complained": (Told.COMPLAINED, False),
    "opened": (Told.OPENED, False),
    "unsubscribed": (Told.UNSUBSCRIBED, True),
}


def told(
    word: str, id_: str = "memory-1", to: str = "someone@outside.example", number: int = 1, **more
) -> ProviderEvent:
    type_, hard = WORDS[word]
    values = {
        "type": type_,
        "ids": (id_, f"<{id_}>"),
        "recipient": to,
        "event_id": f"{word}-{number}-{id_}-{to}",
        "occurred_at": timezone.now() - timedelta(minutes=1),
        "code": "",
        "text": f"what was said of {word}",
        "hard": hard,
    }
    return ProviderEvent(**values | more)
