"""Messages of Amazon SNS, checked by their signature.

https://docs.aws.amazon.com/sns/latest/dg/sns-verify-signature-of-message-verify-message-signature.html
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from providers.webhooks import auth, aws
from providers.webhooks.contract import WebhookRefused, WebhookRequest

PAST = timedelta(hours=2)
"""SNS gives up after an hour at most. What is repeated within that time changes nothing."""
_SIGNED = {
    "Notification": ("Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"),
    "SubscriptionConfirmation": ("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"),
    "UnsubscribeConfirmation": ("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"),
}
_HASHES: dict[str, hashes.HashAlgorithm] = {"1": hashes.SHA1(), "2": hashes.SHA256()}  # noqa: S303 -- theirs to choose


@dataclass(frozen=True, slots=True)
class SnsMessage:
    type: str
    id: str
    topic: str
    message: str
    published_at: datetime
    subscribe_url: str = ""
    token: str = ""


def verified(request: WebhookRequest, topics: Mapping[str, str], amazon: aws.Aws) -> SnsMessage:
    """The message in a request of Amazon SNS about one of `topics` (ARN → region).

    Raises WebhookRefused: 400 when it is no such message, 403 when it is not genuine, too old, of another topic, or its
    certificate is not of the topic's region, 503 when the certificate cannot be fetched.
    """
    body = request.json()
    if not isinstance(body, dict) or body.get("Type") not in _SIGNED:
        raise WebhookRefused(400, "The body is not a message of Amazon SNS.")
    wanted = (*_SIGNED[body["Type"]], "SignatureVersion", "Signature", "SigningCertURL")
    fields = {name: body[name] for name in wanted if body.get(name) is not None}
    if not all(isinstance(value, str) for value in fields.values()):
        raise WebhookRefused(400, "The body is not a message of Amazon SNS.")
    missing = [name for name in wanted if name not in fields and name != "Subject"]
    if missing:
        raise auth.refused(f"The message has no {missing[0]}.")
    region = topics.get(fields["TopicArn"])
    if region is None:
        raise auth.refused("The topic is not one of the provider's.")
    if aws.region_of(fields["SigningCertURL"]) != region:
        raise auth.refused("The signing certificate is another region's.")
    _check_signature(fields, amazon, request)
    published_at = _moment(fields["Timestamp"])
    auth.check_recent(published_at, request.received_at, PAST)
    return SnsMessage(
        fields["Type"],
        fields["MessageId"],
        fields["TopicArn"],
        fields["Message"],
        published_at,
        fields.get("SubscribeURL", ""),
        fields.get("Token", ""),
    )


def confirm(message: SnsMessage, topics: Mapping[str, str], amazon: aws.Aws) -> None:
    """Take a subscription to one of the topics; raises WebhookRefused.

    The address is signed with the rest of the message. Even so it is only followed to Amazon, and only when it
    confirms this subscription.
    """
    asked = parse_qs(urlsplit(message.subscribe_url).query)
    if aws.region_of(message.subscribe_url) != topics[message.topic] or asked.get("Action") != ["ConfirmSubscription"]:
        raise auth.refused("The address does not confirm a subscription.")
    if asked.get("TopicArn") != [message.topic] or asked.get("Token") != [message.token]:
        raise auth.refused("The address confirms another subscription.")
    amazon.confirm(message.subscribe_url)


def _check_signature(fields: Mapping[str, str], amazon: aws.Aws, request: WebhookRequest) -> None:
    kind = _HASHES.get(fields["SignatureVersion"])
    if kind is None:
        raise auth.refused("The signature version is not known.")
    try:
        signature = base64.b64decode(fields["Signature"], validate=True)
    except (binascii.Error, ValueError):
        raise auth.refused("The signature is wrong.") from None
    key = amazon.certificate(fields["SigningCertURL"], request).public_key()
    signed = "".join(f"{name}\n{fields[name]}\n" for name in _SIGNED[fields["Type"]] if name in fields)
    try:
        if not isinstance(key, rsa.RSAPublicKey):
            raise InvalidSignature
        key.verify(signature, signed.encode("utf-8", "surrogatepass"), padding.PKCS1v15(), kind)
    except InvalidSignature:
        raise auth.refused("The signature is wrong.") from None


def _moment(text: str) -> datetime:
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        raise auth.refused("The timestamp cannot be read.") from None
    return when if when.tzinfo else when.replace(tzinfo=UTC)


def decode(message: SnsMessage) -> Any:
    """What an event of the service says, as JSON; None for the greetings of SNS and SES, which are plain text."""
    if not message.message.startswith(("{", "[")):
        return None
    return WebhookRequest("POST", {}, message.message.encode("utf-8", "replace")).json()
