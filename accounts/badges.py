"""Words of state as small coloured labels, the same on every page (ADM-1). Their colours are in `site.css`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.db import models
from django.utils.html import format_html
from django.utils.safestring import SafeString

GOOD, BUSY, WARNING, BAD, NEUTRAL = "good", "busy", "warning", "bad", "neutral"
_WORDS = {
    GOOD: "delivered confirmed active enabled healthy kept sent told done finished ok accepted released succeeded",
    BUSY: "queued processing sending scheduled pending running received opened clicked probing waiting",
    WARNING: "held retrying deferred partial unknown suppressed soft_bounces paused unsubscribed rate_limited",
    BAD: "failed rejected bounced complained dlq dead_letter storage_error enqueue_failed suspended unhealthy refused "
    "expired revoked disabled",
}
TONES = {word: tone for tone, words in _WORDS.items() for word in words.split()}


def badge(text: object, tone: str = NEUTRAL) -> SafeString:
    """The text as a label of this tone: `good`, `busy`, `warning`, `bad` or `neutral`."""
    return format_html('<span class="badge badge-{}">{}</span>', tone, text)


def status(word: object) -> SafeString:
    """A status, or its label, in the tone that belongs to the word; one nobody knows is neutral."""
    text = str(word)
    return badge(text, TONES.get(text.lower().replace(" ", "_"), NEUTRAL)) if text else SafeString("")


def column(model: type[models.Model], name: str) -> Callable[[Any], SafeString]:
    """A column for `list_display` that shows the field of this name as a badge, and sorts as the field does."""
    field: Any = model._meta.get_field(name)

    def show(row: Any) -> SafeString:
        value = getattr(row, name)
        labels = dict(field.flatchoices)
        return badge(labels.get(value, value), TONES.get(value, NEUTRAL)) if value else SafeString("")

    show.__name__ = name
    show.short_description = field.verbose_name  # type: ignore[attr-defined]
    show.admin_order_field = name  # type: ignore[attr-defined]
    return show
