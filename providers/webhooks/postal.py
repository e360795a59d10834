"""Postal's webhooks (https://docs.postalserver.io/developer/webhooks), signed with the installation's key."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator
from typing import Any

from anymail.webhooks.postal import PostalTrackingWebhookView
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding

from providers.webhooks import auth, fields, keys, normal
from providers.webhooks.contract import ProviderEvent, Told, WebhookRequest
from providers.webhooks.receiver import Receiver


class PostalReceiver(Receiver):
    fields = fields.POSTAL

    def verify(self, request: WebhookRequest) -> None:
        # Newer versions add a signature over SHA-256.
        stronger = request.headers.get("x-postal-signature-256")
        signature = stronger or auth.header(request, "X-Postal-Signature")
        kind = hashes.SHA256() if stronger else hashes.SHA1()  # noqa: S303 -- theirs to choose
        try:
            keys.rsa_key(self.config["webhook_verification"]).verify(
                base64.b64decode(signature, validate=True), request.body, padding.PKCS1v15(), kind
            )
        except (InvalidSignature, binascii.Error, ValueError):
            raise auth.refused("The signature is wrong.") from None

    def parse(self, request: WebhookRequest) -> list[ProviderEvent]:
        def read(item: Any) -> Iterator[ProviderEvent]:
            payload = item["payload"]
            if "message" not in payload and "original_message" not in payload:
                return  # about a domain or the server's limits
            for event in normal.reader(PostalTrackingWebhookView, webhook_key="unused").parse_events(_Body(request)):
                told = Told.OPENED if item.get("event") == "MessageLoaded" else normal.TOLD.get(event.event_type)
                if told is None:
                    continue
                hard = False
                if payload.get("status") == "HardFail":
                    # The receiving server said no for good, or it was tried too long.
                    told, hard = Told.BOUNCED, bool(re.match(r"\s*55[0-9]", str(payload.get("output") or "")))
                message = payload.get("message") or payload["original_message"]
                yield self.event(
                    told,
                    [message.get("id"), message.get("token"), message.get("message_id")],
                    event.recipient,
                    event.timestamp or request.received_at,
                    event_id=event.event_id,
                    code=payload.get("status") or item.get("event"),
                    text=event.mta_response or event.description or "",
                    hard=hard,
                    url=event.click_url,
                )

        return self.each([request.json()], read)


class _Body:
    """What Anymail expects of a request."""

    def __init__(self, request: WebhookRequest) -> None:
        self.body = request.body
