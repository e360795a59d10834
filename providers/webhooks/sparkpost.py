"""SparkPost's webhooks (https://developers.sparkpost.com/api/webhooks/): batches of wrapped events."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from anymail.webhooks.sparkpost import SparkPostTrackingWebhookView

from providers.webhooks import normal
from providers.webhooks.contract import ProviderEvent, Told, WebhookRequest
from providers.webhooks.receiver import SharedSecretReceiver

_HARD = frozenset({"10", "30", "90"})
"""https://support.sparkpost.com/docs/deliverability/bounce-classification-codes: category Hard."""


class SparkPostReceiver(SharedSecretReceiver):
    def parse(self, request: WebhookRequest) -> list[ProviderEvent]:
        def read(raw: Any) -> Iterator[ProviderEvent]:
            view = normal.reader(SparkPostTrackingWebhookView)
            kind, item, _ = view.unwrap_event(raw)
            if item is None:
                return  # a ping
            event = view.esp_to_anymail_event(kind, item, raw)
            told = normal.TOLD.get(event.event_type)
            if told is None:
                return
            class_ = str(item.get("bounce_class") or "")
            yield self.event(
                told,
                [item.get("transmission_id"), item.get("message_id")],
                item.get("raw_rcpt_to") or item.get("rcpt_to"),
                event.timestamp or request.received_at,
                event_id=event.event_id,
                code=item.get("error_code") or class_ or item["type"],
                text=item.get("raw_reason") or item.get("reason") or "",
                hard=told is Told.UNSUBSCRIBED or (told is Told.BOUNCED and class_ in _HARD),
                url=event.click_url,
            )

        return self.each(request.json(), read)
