"""Mailgun's webhooks (https://documentation.mailgun.com/docs/mailgun/user-manual/webhooks/securing-webhooks).

The signature is of a timestamp and a token, not of what is told: whoever has seen one could put another story under
it. So a token is good for one story only.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from anymail.webhooks.mailgun import MailgunTrackingWebhookView

from accounts import shared_state
from providers.webhooks import auth, fields, normal
from providers.webhooks.contract import ProviderEvent, Told, WebhookRefused, WebhookRequest
from providers.webhooks.receiver import MALFORMED, Receiver

PAST = timedelta(hours=12)
"""Mailgun tries for eight hours and does not say whether it signs each try anew."""
_NOT_THE_ADDRESS = frozenset({"old", "espblock"})
"""Reasons of a permanent failure that say nothing against the address: tried too long, blocked by the receiver."""
_NOT_SENT = frozenset({"suppress-complaint", "suppress-unsubscribe"})


class MailgunReceiver(Receiver):
    fields = fields.MAILGUN

    def verify(self, request: WebhookRequest) -> None:
        body = request.json()
        try:
            block = body["signature"]
            timestamp, token, signature = (str(block[name]) for name in ("timestamp", "token", "signature"))
        except MALFORMED:
            raise auth.refused("The signature is missing.") from None
        key = self.config["webhook_signing_key"]
        auth.check(signature, auth.digest(key, f"{timestamp}{token}".encode("utf-8", "replace")).hex())
        auth.check_recent(auth.moment(timestamp), request.received_at, PAST)
        _use_proof(timestamp + token, request.body)

    def parse(self, request: WebhookRequest) -> list[ProviderEvent]:
        def read(item: Any) -> Iterator[ProviderEvent]:
            view = normal.reader(MailgunTrackingWebhookView, webhook_signing_key="unused")
            event = view.esp_to_anymail_event(item)
            told = normal.TOLD.get(event.event_type)
            if told is None:
                return
            data = item["event-data"]
            reason = data.get("reason") or ""
            if told is Told.BOUNCED and reason in _NOT_SENT:
                told = Told.FAILED
            status = data.get("delivery-status") or {}
            moment = event.timestamp or request.received_at
            yield self.event(
                told,
                [event.message_id],
                event.recipient,
                moment,
                # "Guaranteed to be unique within a day".
                event_id=f"{data['id']}@{moment:%Y-%m-%d}" if data.get("id") else None,
                code=status.get("enhanced-code") or status.get("code") or reason,
                text=event.mta_response or event.description or reason,
                hard=told is Told.UNSUBSCRIBED or (told is Told.BOUNCED and reason not in _NOT_THE_ADDRESS),
                url=event.click_url,
            )

        return self.each([request.json()], read)


def _use_proof(signed: str, body: bytes) -> None:
    """The same story again is Mailgun trying again; another story under a used token is refused.

    All that is signed is looked at: nothing says where in it the timestamp ends and the token begins, and the same
    signature is good for either reading."""
    name = shared_state.key("webhook", "mailgun", hashlib.sha256(signed.encode("utf-8", "replace")).hexdigest())
    story = hashlib.sha256(body).digest()
    try:
        client = shared_state.client()
        if client.set(name, story, nx=True, ex=PAST + auth.FUTURE):
            return
        known = client.get(name)
    except shared_state.Unavailable:
        raise WebhookRefused(503, "The shared store does not answer.") from None
    if known != story:
        raise auth.refused("The token was used before.")
