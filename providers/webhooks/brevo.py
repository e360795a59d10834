"""Brevo's transactional webhooks (https://developers.brevo.com/docs/transactional-webhooks), alone or batched."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from anymail.webhooks.brevo import BrevoTrackingWebhookView

from providers.webhooks import normal
from providers.webhooks.contract import ProviderEvent, Told, WebhookRequest
from providers.webhooks.receiver import SharedSecretReceiver

_HARD = frozenset({"hard_bounce", "invalid_email", "unsubscribe", "unsubscribed"})


class BrevoReceiver(SharedSecretReceiver):
    def parse(self, request: WebhookRequest) -> list[ProviderEvent]:
        def read(item: Any) -> Iterator[ProviderEvent]:
            event = normal.reader(BrevoTrackingWebhookView).esp_to_anymail_event(item)
            kind = item["event"]
            told = Told.UNSUBSCRIBED if kind == "unsubscribed" else normal.TOLD.get(event.event_type)
            if told is None:
                return
            yield self.event(
                told,
                [event.message_id],
                event.recipient,
                event.timestamp or request.received_at,
                # `id` is the webhook's own, the same for all its events.
                code=kind,
                text=event.mta_response or "",
                hard=kind in _HARD,
                url=event.click_url,
            )

        body = request.json()
        return self.each(body if isinstance(body, list) else [body], read)
