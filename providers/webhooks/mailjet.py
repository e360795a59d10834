"""Mailjet's event API (https://dev.mailjet.com/email/guides/webhooks/): events alone or grouped in a list."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from anymail.webhooks.mailjet import MailjetTrackingWebhookView

from providers.webhooks import normal
from providers.webhooks.contract import ProviderEvent, Told, WebhookRequest
from providers.webhooks.receiver import SharedSecretReceiver


class MailjetReceiver(SharedSecretReceiver):
    def parse(self, request: WebhookRequest) -> list[ProviderEvent]:
        def read(item: Any) -> Iterator[ProviderEvent]:
            event = normal.reader(MailjetTrackingWebhookView).esp_to_anymail_event(item)
            told = normal.TOLD.get(event.event_type)
            if told is None:
                return
            yield self.event(
                told,
                [event.message_id, item.get("Message_GUID")],
                event.recipient,
                event.timestamp or request.received_at,
                code=item.get("error") or item["event"],
                text=item.get("comment") or item.get("smtp_reply") or item.get("error") or "",
                hard=told is Told.UNSUBSCRIBED or (told is Told.BOUNCED and item.get("hard_bounce") is True),
                url=event.click_url,
            )

        body = request.json()
        return self.each(body if isinstance(body, list) else [body], read)
