"""Postmark's webhooks (https://postmarkapp.com/developer/webhooks/webhooks-overview)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from anymail.webhooks.postmark import PostmarkTrackingWebhookView

from providers.webhooks import normal
from providers.webhooks.contract import ProviderEvent, Told, WebhookRequest
from providers.webhooks.receiver import SharedSecretReceiver, plain

_DEAD = frozenset({"HardBounce", "BadEmailAddress"})
"""https://postmarkapp.com/developer/api/bounce-api#bounce-types: after these the address is not mailed again."""


class PostmarkReceiver(SharedSecretReceiver):
    def parse(self, request: WebhookRequest) -> list[ProviderEvent]:
        def read(item: Any) -> Iterator[ProviderEvent]:
            event = normal.reader(PostmarkTrackingWebhookView).esp_to_anymail_event(item)
            told = normal.TOLD.get(event.event_type)
            if told is None:
                return
            kind = str(item.get("Type") or item.get("SuppressionReason") or "")
            if kind in _DEAD:
                told = Told.BOUNCED
            record = item["RecordType"]
            yield self.event(
                told,
                [event.message_id],
                event.recipient,
                event.timestamp or request.received_at,
                event_id=f"{record}:{plain(event.event_id, 200)}" if event.event_id else None,
                code=kind or record,
                text=event.mta_response or event.description or item.get("SuppressionReason") or "",
                hard=kind in _DEAD or told is Told.UNSUBSCRIBED,
                url=event.click_url,
            )

        return self.each([request.json()], read)
