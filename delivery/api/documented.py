"""What the OpenAPI schema says of sending, of filters and of refusals (API-5)."""

from __future__ import annotations

from typing import Any

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiExample, OpenApiParameter, OpenApiResponse, extend_schema, extend_schema_field
from rest_framework import serializers

from accounts.api import schema
from delivery import filters
from delivery.models import MessageStatus


def problems(*codes: int) -> dict[int, OpenApiResponse]:
    """The refusals an operation may answer with; those of every operation are among them."""
    return {code: OpenApiResponse(schema.ERROR_REF, _MEANING[code]) for code in sorted({*codes, 401, 403, 429, 503})}


_MEANING = {
    400: "Something of what was given cannot be taken.",
    401: "No valid credential.",
    403: "This caller may not do that.",
    404: "There is no such row, or it is another tenant's.",
    409: "It does not fit what is there; nothing was changed.",
    410: "The body is not stored any more.",
    413: "Larger than is taken.",
    415: "Neither JSON nor message/rfc822.",
    429: "Too many; see Retry-After.",
    503: "Not now; see Retry-After. Nothing was changed.",
}

_FILTER_WORDS = {
    "tenant": "Slug or id; for operators.",
    "account": "Username or id.",
    "status": "One or several, with commas.",
    "provider": "Name or id: the one of the last attempt, or that a person chose.",
    "sender": "Of the envelope: an address, a domain, or <> for bounces.",
    "recipient": "An address or a domain.",
    "address": "The same, of sender or recipient.",
    "subject": "Words that are all in it; quotes keep words together.",
    "accepted_from": "A day or a time, in UTC unless it says otherwise.",
    "accepted_until": "The same; up to then, not with it.",
    "error_code": "Of one of the recipients.",
    "reason": "A part of the status reason.",
    "has_attachments": "yes or no.",
}
FILTERS = [OpenApiParameter(name, OpenApiTypes.STR, description=_FILTER_WORDS[name]) for name in filters.KEYS]


def only(*names: str) -> list[OpenApiParameter]:
    """Filters of a list that are fields and take exact values."""
    return [OpenApiParameter(name, OpenApiTypes.STR, description="Exactly; may be repeated.") for name in names]


# --- Sending ---------------------------------------------------------------------------------------------------


@extend_schema_field({"oneOf": [{"type": "string"}, {"type": "object", "additionalProperties": {"type": "string"}}]})
class _Address(serializers.Field):
    """`a@example.com`, `Ann <a@example.com>`, or {"address": …, "name": …}."""


class _Attachment(serializers.Serializer[Any]):
    name = serializers.CharField()
    content_type = serializers.CharField(default="application/octet-stream")
    content = serializers.CharField(help_text="Base64.")
    content_id = serializers.CharField(required=False, help_text="For HTML that shows it as cid:….")


class Letter(serializers.Serializer[Any]):
    """A message as JSON. Any other field is refused."""

    to = serializers.ListField(child=_Address(), required=False, help_text="A list, or one address alone.")
    cc = serializers.ListField(child=_Address(), required=False)
    bcc = serializers.ListField(child=_Address(), required=False, help_text="In no header.")
    reply_to = serializers.ListField(child=_Address(), required=False)
    subject = serializers.CharField(required=False)
    text = serializers.CharField(required=False)
    html = serializers.CharField(required=False)
    attachments = _Attachment(many=True, required=False)
    headers = serializers.DictField(child=serializers.CharField(), required=False)
    send_at = serializers.DateTimeField(required=False, help_text="With a time zone.")

    def get_fields(self) -> dict[str, Any]:
        return {"from": _Address(help_text="Also the envelope sender."), **super().get_fields()}


class Sent(serializers.Serializer[Any]):
    """The message is durable and will be delivered."""

    id = serializers.UUIDField()
    status = serializers.ChoiceField(choices=[str(MessageStatus.QUEUED), str(MessageStatus.SCHEDULED)])
    scheduled_at = serializers.DateTimeField(allow_null=True)


def _header(name: str, words: str) -> OpenApiParameter:
    return OpenApiParameter(name, OpenApiTypes.STR, OpenApiParameter.HEADER, description=words)


_JSON = {
    "from": "Shop <shop@acme.example>",
    "to": ["Ann <ann@outside.example>"],
    "subject": "Your order",
    "text": "Thank you.",
    "html": "<p>Thank you.</p>",
    "attachments": [{"name": "invoice.pdf", "content_type": "application/pdf", "content": "JVBERi0xLjcK"}],
}
_MIME = (
    "From: Shop <shop@acme.example>\r\nTo: Ann <ann@outside.example>\r\nSubject: Your order\r\n"
    "Content-Type: text/plain; charset=utf-8\r\n\r\nThank you.\r\n"
)
send = extend_schema(
    summary="Send a message",
    description="As JSON, or as raw MIME with `Content-Type: message/rfc822`. With an API key of scope `send`.",
    request={"application/json": Letter, "message/rfc822": OpenApiTypes.BINARY},
    parameters=[
        _header("Idempotency-Key", "The same key and body again make no second message."),
        _header("X-Mail-From", "Raw MIME: the envelope sender; without it the address of Sender or From."),
        _header("X-Rcpt-To", "Raw MIME: the envelope recipients, with commas; without it To, Cc and Bcc."),
        OpenApiParameter("mail_from", OpenApiTypes.STR, description="As X-Mail-From."),
        OpenApiParameter("rcpt_to", OpenApiTypes.STR, many=True, description="As X-Rcpt-To."),
    ],
    responses={202: Sent, **problems(400, 409, 413, 415)},
    examples=[
        OpenApiExample("JSON", _JSON, request_only=True, media_type="application/json"),
        OpenApiExample("Raw MIME", _MIME, request_only=True, media_type="message/rfc822"),
    ],
)
