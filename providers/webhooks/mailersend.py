"""MailerSend's webhooks (https://developers.mailersend.com/api/v1/webhooks.html)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from anymail.webhooks.mailersend import MailerSendTrackingWebhookView

from providers.webhooks import auth, fields, normal
from providers.webhooks.contract import ProviderEvent, Told, WebhookRequest
from providers.webhooks.receiver import Receiver


class MailerSendReceiver(Receiver):
    fields = fields.MAILERSEND

    def verify(self, request: WebhookRequest) -> None:
        auth.check_body(request, "Signature", self.config["webhook_signing_key"])

    def parse(self, request: WebhookRequest) -> list[ProviderEvent]:
        def read(item: Any) -> Iterator[ProviderEvent]:
            view = normal.reader(MailerSendTrackingWebhookView, signing_secret="unused")  # noqa: S106
            event = view.esp_to_anymail_event(item)
            kind = item["data"]["type"]
            told = Told.DEFERRED if kind == "deferred" else normal.TOLD.get(event.event_type)
            if told is None:
                return
            yield self.event(
                told,
                [event.message_id],
                event.recipient,
                event.timestamp or request.received_at,
                event_id=event.event_id,
                code=kind,
                text=event.description or "",
                hard=kind in {"hard_bounced", "unsubscribed"},
                url=event.click_url,
            )

        return self.each([request.json()], read)
