"""Mailtrap's webhooks (https://docs.mailtrap.io/email-api-smtp/advanced/webhooks)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from anymail.webhooks.mailtrap import MailtrapTrackingWebhookView

from providers.webhooks import auth, fields, normal
from providers.webhooks.contract import ProviderEvent, WebhookRefused, WebhookRequest
from providers.webhooks.receiver import Receiver


class MailtrapReceiver(Receiver):
    fields = fields.MAILTRAP

    def verify(self, request: WebhookRequest) -> None:
        auth.check_body(request, "Mailtrap-Signature", self.config["webhook_signing_key"])

    def parse(self, request: WebhookRequest) -> list[ProviderEvent]:
        def read(item: Any) -> Iterator[ProviderEvent]:
            view = normal.reader(MailtrapTrackingWebhookView, tracking_secret=None)
            event = view.esp_to_anymail_event(item)
            told = normal.TOLD.get(event.event_type)
            if told is None:
                return
            yield self.event(
                told,
                [event.message_id],
                event.recipient,
                event.timestamp or request.received_at,
                event_id=event.event_id,
                code=item.get("bounce_category") or item["event"],
                text=item.get("response") or item.get("reason") or "",
                hard=item["event"] in {"bounce", "unsubscribe"},
                url=event.click_url,
            )

        body = request.json()
        if not isinstance(body, dict):
            raise WebhookRefused(400, "The body is not what this service sends.")
        return self.each(body.get("events"), read)
