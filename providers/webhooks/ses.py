"""Amazon SES, which tells of its mail through Amazon SNS, in two formats that differ little.

https://docs.aws.amazon.com/ses/latest/dg/event-publishing-retrieving-sns-contents.html (event publishing)
https://docs.aws.amazon.com/ses/latest/dg/notification-contents.html (notifications)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, ClassVar

import structlog

from providers.webhooks import aws, fields, keys, sns
from providers.webhooks.contract import ProviderEvent, Told, WebhookRequest, fingerprint
from providers.webhooks.receiver import Receiver, plain

log = structlog.get_logger(__name__)

_DETAILS = {"Rendering Failure": "failure", "DeliveryDelay": "deliveryDelay"}
"""Where the details of an event are, when not under its own name in lower case."""


class SesReceiver(Receiver):
    fields = fields.SES
    aws: ClassVar[aws.Aws | None] = None
    """How Amazon is reached; None: as everybody does."""

    def receive(self, request: WebhookRequest) -> list[ProviderEvent]:
        if self.missing():
            return super().receive(request)  # which refuses
        topics, amazon = keys.topics(self.config["webhook_topics"]), self.aws or aws.AWS
        message = sns.verified(request, topics, amazon)
        if message.type == "SubscriptionConfirmation":
            sns.confirm(message, topics, amazon)
            log.info("subscription confirmed", topic=message.topic)
            return []
        if message.type != "Notification":
            log.warning("subscription ended", topic=message.topic)
            return []
        told = sns.decode(message)
        return [] if told is None else self.each([told], lambda item: self._read(item, message.published_at))

    def _read(self, item: Any, published_at: datetime) -> Iterator[ProviderEvent]:
        kind = item.get("eventType") or item["notificationType"]
        mail, about = item["mail"], item.get(_DETAILS.get(kind, kind.lower())) or {}
        event = _EVENTS.get(kind)
        if event is None:
            return  # Send, Received
        told, hard = _meaning(kind, about)
        when = _moment(about.get("timestamp"), published_at)
        fact = about.get("feedbackId") or when
        for recipient, code, text in event(mail, about):
            yield self.event(
                told,
                [mail["messageId"]],
                recipient,
                when,
                # Two publishers of one fact, or SNS itself telling twice, are one event.
                event_id=fingerprint(kind, mail["messageId"], plain(recipient, 320).lower(), fact),
                code=code,
                text=text,
                hard=hard,
                url=about.get("link"),
            )


def _meaning(kind: str, about: Mapping[str, Any]) -> tuple[Told, bool]:
    if kind == "Bounce":
        return Told.BOUNCED, about.get("bounceType") == "Permanent"
    return _TOLD[kind], kind == "Subscription" and _left_all(about)


def _left_all(about: Mapping[str, Any]) -> bool:
    """Whether the recipient wants no mail of any topic any more."""
    return (about.get("newTopicPreferences") or {}).get("unsubscribeAll") is True


_TOLD = {
    "Complaint": Told.COMPLAINED,
    "Delivery": Told.CONFIRMED,
    "DeliveryDelay": Told.DEFERRED,
    "Reject": Told.FAILED,
    "Rendering Failure": Told.FAILED,
    "Open": Told.OPENED,
    "Click": Told.CLICKED,
    "Subscription": Told.UNSUBSCRIBED,
}
_Found = Iterator[tuple[str, object, object]]


def _bounce(_mail: Mapping[str, Any], about: Mapping[str, Any]) -> _Found:
    kind = f"{about.get('bounceType')}/{about.get('bounceSubType')}"
    for one in about["bouncedRecipients"]:
        yield one["emailAddress"], one.get("status") or kind, one.get("diagnosticCode") or kind


def _complaint(_mail: Mapping[str, Any], about: Mapping[str, Any]) -> _Found:
    who = [str(one["emailAddress"]) for one in about["complainedRecipients"]]
    kind = about.get("complaintFeedbackType") or about.get("complaintSubType") or "complaint"
    if len(who) > 1:
        # "Recipients who might have submitted the complaint": most receivers do not say which. Nobody is accused.
        yield "", kind, f"{kind}, by one of {', '.join(who)}"
    for one in who[: 1 if len(who) == 1 else 0]:
        yield one, kind, kind


def _delivery(_mail: Mapping[str, Any], about: Mapping[str, Any]) -> _Found:
    for one in about["recipients"]:
        yield one, "", about.get("smtpResponse")


def _delay(_mail: Mapping[str, Any], about: Mapping[str, Any]) -> _Found:
    kind = about.get("delayType")
    for one in about["delayedRecipients"]:
        yield one["emailAddress"], one.get("status") or kind, one.get("diagnosticCode") or kind


def _all(mail: Mapping[str, Any], about: Mapping[str, Any]) -> _Found:
    reason = about.get("reason") or about.get("errorMessage") or ""
    for one in mail["destination"]:
        yield one, "", reason


def _somebody(mail: Mapping[str, Any], about: Mapping[str, Any]) -> _Found:
    """SES does not say which recipient opened or clicked."""
    everybody = mail["destination"]
    yield (everybody[0] if len(everybody) == 1 else ""), "", about.get("source") or ""


def _subscription(mail: Mapping[str, Any], about: Mapping[str, Any]) -> _Found:
    """A change of topics; of interest where the recipient has left one, or all."""
    topics = (about.get("newTopicPreferences") or {}).get("topicSubscriptionStatus") or []
    if _left_all(about) or any(topic.get("subscriptionStatus") == "OptOut" for topic in topics):
        yield from _somebody(mail, about)


_EVENTS = {
    "Bounce": _bounce,
    "Complaint": _complaint,
    "Delivery": _delivery,
    "DeliveryDelay": _delay,
    "Reject": _all,
    "Rendering Failure": _all,
    "Open": _somebody,
    "Click": _somebody,
    "Subscription": _subscription,
}


def _moment(text: object, otherwise: datetime) -> datetime:
    try:
        when = datetime.fromisoformat(str(text))
    except ValueError:
        return otherwise
    return when if when.tzinfo else when.replace(tzinfo=UTC)
