"""Twilio SendGrid's signed event webhook.

https://www.twilio.com/docs/sendgrid/for-developers/tracking-events/getting-started-event-webhook-security-features
https://www.twilio.com/docs/sendgrid/for-developers/tracking-events/event
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from anymail.webhooks.sendgrid import SendGridTrackingWebhookView
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from providers.webhooks import auth, fields, keys, normal
from providers.webhooks.contract import ProviderEvent, WebhookRequest
from providers.webhooks.receiver import Receiver

PAST = timedelta(hours=25)
"""SendGrid tries for 24 hours, and does not say whether it signs each try anew. What is older is not taken; what is
repeated within that time changes nothing, since each event has an id."""
_HOST_PART = re.compile(r"\.(?:filter|recv|p3).*|\.[0-9]+\Z", re.DOTALL)


class SendGridReceiver(Receiver):
    fields = fields.SENDGRID

    def verify(self, request: WebhookRequest) -> None:
        timestamp = auth.header(request, "X-Twilio-Email-Event-Webhook-Timestamp")
        signature = auth.header(request, "X-Twilio-Email-Event-Webhook-Signature")
        try:
            keys.elliptic(self.config["webhook_verification"]).verify(
                base64.b64decode(signature, validate=True),
                timestamp.encode() + request.body,
                ec.ECDSA(hashes.SHA256()),
            )
        except (InvalidSignature, binascii.Error, ValueError):
            raise auth.refused("The signature is wrong.") from None
        auth.check_recent(auth.moment(timestamp), request.received_at, PAST)

    def parse(self, request: WebhookRequest) -> list[ProviderEvent]:
        def read(item: Any) -> Iterator[ProviderEvent]:
            event = normal.reader(SendGridTrackingWebhookView).esp_to_anymail_event(item)
            told = normal.TOLD.get(event.event_type)
            if told is None:
                return
            kind = item["event"]
            yield self.event(
                told,
                _ids(item),
                item.get("email"),
                event.timestamp or request.received_at,
                event_id=item.get("sg_event_id"),
                code=item.get("status") or item.get("type") or kind,
                text=item.get("response") or item.get("reason") or "",
                # A `blocked` message was refused for a reason that may pass. To leave one group of mail is not to
                # leave all of it.
                hard=(kind == "bounce" and item.get("type", "bounce") == "bounce") or kind == "unsubscribe",
                url=item.get("url"),
            )

        return self.each(request.json(), read)


def _ids(item: dict[str, Any]) -> list[str]:
    """The X-Message-Id we were given is the beginning of `sg_message_id`, and the local part of `smtp-id`, which alone
    is there when a bounce comes back later ("asynchronous bounce")."""
    ids = []
    whole = str(item.get("sg_message_id") or "")
    if whole:
        ids += [_HOST_PART.sub("", whole), whole.partition(".")[0], whole]
    smtp_id = str(item.get("smtp-id") or "").strip("<>")
    if smtp_id:
        ids += [smtp_id.rpartition("@")[0] or smtp_id, smtp_id]
    return ids
