"""django-anymail's reading of the services' events, without its views: no setting of its own is looked at."""

from __future__ import annotations

import warnings
from functools import cache
from typing import Any

from anymail.signals import AnymailTrackingEvent, EventType
from anymail.webhooks.base import AnymailBasicAuthMixin

from providers.webhooks.contract import Told

TOLD: dict[str, Told] = {
    EventType.DELIVERED: Told.CONFIRMED,
    EventType.DEFERRED: Told.DEFERRED,
    EventType.BOUNCED: Told.BOUNCED,
    EventType.COMPLAINED: Told.COMPLAINED,
    EventType.OPENED: Told.OPENED,
    EventType.CLICKED: Told.CLICKED,
    EventType.UNSUBSCRIBED: Told.UNSUBSCRIBED,
    EventType.REJECTED: Told.FAILED,
    EventType.FAILED: Told.FAILED,
}
"""Anymail's words; what is not here (queued, sent, autoresponded …) changes nothing for a recipient."""


@cache
def reader(view: type[AnymailBasicAuthMixin], **arguments: Any) -> Any:
    """Anymail's view of a service, for its `esp_to_anymail_event` alone. It keeps no secret: the ones it is given here
    are of no use, and checking is done before."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return view(webhook_secret=("unused",), **arguments)


def words(event: AnymailTrackingEvent) -> str:
    """What the service says of it, the receiving server's answer first."""
    return str(event.mta_response or event.description or event.reject_reason or "")
