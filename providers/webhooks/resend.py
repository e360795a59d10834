"""Resend's webhooks, signed in Svix's way.

https://resend.com/docs/webhooks/emails/bounced and https://docs.svix.com/receiving/verifying-payloads/how-manual
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from anymail.webhooks.resend import ResendTrackingWebhookView

from providers.webhooks import auth, fields, normal
from providers.webhooks.contract import ProviderEvent, Told, WebhookRequest
from providers.webhooks.receiver import Receiver

PAST = timedelta(minutes=5)
"""As Svix's own libraries; every try is signed anew."""
_NOT_SENT = frozenset({"email.failed", "email.suppressed"})


class ResendReceiver(Receiver):
    fields = fields.RESEND

    def verify(self, request: WebhookRequest) -> None:
        id_, timestamp = auth.header(request, "svix-id"), auth.header(request, "svix-timestamp")
        given = [part.partition(",") for part in auth.header(request, "svix-signature").split()]
        try:
            key = base64.b64decode(self.config["webhook_signing_key"].removeprefix("whsec_"), validate=True)
        except (binascii.Error, ValueError):
            key = b""
        if not key:  # anybody can sign with an empty one
            raise auth.refused("The signing key of the row is not one.")
        expected = base64.b64encode(auth.digest(key, f"{id_}.{timestamp}.".encode() + request.body)).decode()
        # Several while a key is being changed; all are compared.
        if not any([auth.equal(signature, expected) for version, _, signature in given if version == "v1"]):  # noqa: C419
            raise auth.refused("The signature is wrong.")
        auth.check_recent(auth.moment(timestamp), request.received_at, PAST)

    def parse(self, request: WebhookRequest) -> list[ProviderEvent]:
        def read(item: Any) -> Iterator[ProviderEvent]:
            view = normal.reader(ResendTrackingWebhookView, signing_secret=None)
            # Anymail looks for an id in the headers, which has its place here in `event_id`.
            event = view.esp_to_anymail_event(item, _Headers(request))
            told = Told.FAILED if item["type"] in _NOT_SENT else normal.TOLD.get(event.event_type)
            if told is None:
                return
            data = item["data"]
            bounce = data.get("bounce") or data.get("suppressed") or data.get("failed") or {}
            yield self.event(
                told,
                [event.message_id],
                # Resend lists the recipients of the mail, not the one it means.
                "",
                event.timestamp or request.received_at,
                event_id=request.headers.get("svix-id"),
                code=bounce.get("subType") or bounce.get("type") or item["type"],
                text=bounce.get("message") or bounce.get("reason") or "",
                hard=told is Told.BOUNCED and _permanent(bounce),
                url=event.click_url,
            )

        return self.each([request.json()], read)


def _permanent(bounce: dict[str, Any]) -> bool:
    if bounce.get("type"):
        return str(bounce["type"]).lower() == "permanent"
    return "hard bounce" in str(bounce.get("message"))


class _Headers:
    """What Anymail expects of a request."""

    def __init__(self, request: WebhookRequest) -> None:
        self.headers = request.headers
