"""Mandrill's webhooks (https://mailchimp.com/developer/transactional/guides/track-respond-activity-webhooks/).

The signature is of the webhook's address as it was entered there, and of the form's fields in the order of their names.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qsl

from anymail.webhooks.mandrill import MandrillCombinedWebhookView

from providers.webhooks import auth, fields, normal
from providers.webhooks.contract import ProviderEvent, Told, WebhookRefused, WebhookRequest
from providers.webhooks.receiver import Receiver

_HARD = frozenset({"hard_bounce", "unsub"})


class MandrillReceiver(Receiver):
    fields = fields.MANDRILL

    def verify(self, request: WebhookRequest) -> None:
        signature = auth.header(request, "X-Mandrill-Signature")
        signed = request.url + "".join(name + value for name, value in sorted(_form(request).items()))
        expected = auth.digest(self.config["webhook_signing_key"], signed.encode("utf-8", "replace"), "sha1")
        reason = "The signature is wrong, or the webhook was called by another address than ours."
        auth.check(signature, base64.b64encode(expected).decode(), reason)

    def parse(self, request: WebhookRequest) -> list[ProviderEvent]:
        def read(item: Any) -> Iterator[ProviderEvent]:
            kind = item.get("event")
            if kind in {None, "inbound"} or "msg" not in item:
                return  # mail that came in, or a change of their lists
            event = normal.reader(MandrillCombinedWebhookView).mandrill_tracking_to_anymail_event(item)
            told = Told.CONFIRMED if kind == "delivered" else normal.TOLD.get(event.event_type)
            if told is None:
                return
            message = item["msg"]
            yield self.event(
                told,
                [event.message_id],
                event.recipient,
                event.timestamp or request.received_at,
                code=message.get("bounce_description") or kind,
                text=event.mta_response or message.get("bounce_description") or "",
                hard=kind in _HARD,
                url=event.click_url,
            )

        try:
            events = json.loads(_form(request)["mandrill_events"])
        except (KeyError, ValueError, RecursionError):
            raise WebhookRefused(400, "The form has no list of events.") from None
        return self.each(events, read)


def _form(request: WebhookRequest) -> dict[str, str]:
    try:
        pairs = parse_qsl(request.body.decode("ascii"), keep_blank_values=True, max_num_fields=100)
    except ValueError:
        raise WebhookRefused(400, "The body is not a form.") from None
    return dict(pairs)
