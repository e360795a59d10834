"""SendGrid Mail Send v3: the published schema, and https://www.twilio.com/docs/sendgrid/api-reference/mail-send/errors."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from typing import Any

from providers.tests.standins.http import (
    Accepted,
    File,
    Refused,
    StandIn,
    decoded,
    forbid_unknown,
    strict_validator,
    valid_address,
    vendor_schema,
)

RESERVED = {
    *("x-sg-id", "x-sg-eid", "received", "dkim-signature", "content-type", "content-transfer-encoding"),
    *("to", "from", "subject", "reply-to", "cc", "bcc"),
}
MAX_SIZE = 30_000_000


class SendGridStandIn(StandIn):
    """`unverified` are senders without a Sender Identity, `bad_recipients` addresses it calls invalid."""

    type = "sendgrid"
    path = "/v3/mail/send"
    credential = "api_key"

    def prepare(self) -> None:
        self.unverified: set[str] = set()
        self.scopes = ["mail.send", "2fa_required", "sender_verification_eligible"]
        self.bad_recipients: set[str] = set()
        self.validator = strict_validator(forbid_unknown(vendor_schema("sendgrid")))

    def authorized(self, headers: Mapping[str, str], payload: Any) -> str | None:
        scheme, _, key = headers.get("Authorization", "").partition(" ")
        return key if scheme == "Bearer" and key in self.keys else None

    def error(self, status: int) -> Any:
        text = {401: "The provided authorization grant is invalid, expired, or revoked", 429: "too many requests"}
        return {"errors": [{"message": text.get(status, "error"), "field": None, "help": None}]}

    def show(self, path: str, headers: Mapping[str, str]) -> tuple[int, Any, dict[str, str]]:
        if path != "/v3/scopes":
            raise Refused(404, self.error(404))
        if self.authorized(headers, None) is None:
            raise Refused(401, {"errors": [{"field": None, "message": "authorization required"}]})
        return 200, {"scopes": list(self.scopes)}, {}

    def take(self, payload: Any, key: str, headers: Mapping[str, str]) -> tuple[int, Any, dict[str, str]]:
        if len(json.dumps(payload)) > MAX_SIZE:
            raise Refused(413, self.error(413))
        if wrong := self.check(self.validator, payload):
            raise _bad(wrong, None)
        sender = payload["from"]["email"]
        if sender in self.unverified:
            raise Refused(
                403,
                {
                    "errors": [
                        {
                            "message": "The from address does not match a verified Sender Identity. Mail cannot be "
                            "sent until this error is resolved.",
                            "field": "from",
                            "help": None,
                        }
                    ]
                },
            )
        self._check_recipients(payload["personalizations"])
        _check_text(payload)
        _check_headers(payload.get("headers", {}))
        files = [_file(attachment) for attachment in payload.get("attachments", [])]
        message_id = uuid.uuid4().hex[:22]
        bodies = {part["type"]: part["value"] for part in payload["content"]}
        for block in payload["personalizations"]:
            lists = {name: [box["email"] for box in block.get(name, [])] for name in ("to", "cc", "bcc")}
            self.accepted.append(
                Accepted(
                    key,
                    payload,
                    sender,
                    **lists,
                    subject=payload["subject"],
                    text=bodies.get("text/plain"),
                    html=bodies.get("text/html"),
                    files=files,
                    headers=payload.get("headers", {}),
                    id=message_id,
                )
            )
        return 202, None, {"X-Message-Id": message_id}

    def _check_recipients(self, blocks: list[dict[str, Any]]) -> None:
        seen: set[str] = set()
        for number, block in enumerate(blocks):
            if not block["to"]:
                raise _bad(
                    "The to array is required for all personalization objects, and must have at least one email "
                    "object with a valid email address.",
                    f"personalizations.{number}.to",
                )
            for kind in ("to", "cc", "bcc"):
                for index, box in enumerate(block.get(kind, [])):
                    address = box["email"]
                    if not valid_address(address) or address in self.bad_recipients:
                        raise _bad(
                            "Does not contain a valid address.", f"personalizations.{number}.{kind}.{index}.email"
                        )
                    if address.lower() in seen:
                        raise _bad(
                            "Each email address in the personalization block should be unique between to, cc, and "
                            f"bcc. We found the first duplicate instance of [{address}] in the "
                            f"personalizations.{number}.{kind} field.",
                            f"personalizations.{number}",
                        )
                    seen.add(address.lower())
        if len(seen) > 1000:
            raise _bad("There is a limit of 1000 total recipients (to + cc + bcc) per request.", "personalizations")


def _bad(message: str, field: str | None) -> Refused:
    return Refused(400, {"errors": [{"message": message, "field": field, "help": None}]})


def _check_text(payload: dict[str, Any]) -> None:
    if "subject" not in payload:
        raise _bad("The subject is required.", "subject")
    types = [part["type"] for part in payload.get("content", [])]
    if not types:
        raise _bad("Unless a valid template_id is provided, the content parameter is required.", "content")
    if types not in (["text/plain"], ["text/html"], ["text/plain", "text/html"]):
        raise _bad("text/plain needs to be first, followed by text/html, followed by any other content.", "content")
    if "reply_to" in payload and "reply_to_list" in payload:
        raise _bad("reply_to and reply_to_list cannot be used together.", "reply_to")


def _check_headers(headers: dict[str, Any]) -> None:
    names = [name.lower() for name in headers]
    if len(set(names)) != len(names):
        raise _bad("The headers can't contain duplicate keys.", "headers")
    for name, value in headers.items():
        if name.lower() in RESERVED:
            raise _bad("Header can not be one of the reserved keys.", f"headers.{name}")
        if not name.isascii() or " " in name:
            raise _bad("Header keys can't contain non-ASCII characters and empty spaces.", f"headers.{name}")
        if not isinstance(value, str):
            raise _bad("The header values must be strings.", f"headers.{name}")
        if not value.isascii() or "\n" in value:
            raise _bad("Headers with unicode characters must be encoded.", f"headers.{name}")


def _file(attachment: dict[str, Any]) -> File:
    content = decoded(attachment["content"])
    if content is None:
        raise _bad("The attachment content must be base64 encoded.", "attachments.0.content")
    if set(attachment.get("type", "")) & set(";,\r\n"):
        raise _bad("The attachment type cannot contain ';', or CRLF characters.", "attachments.0.type")
    if set(attachment["filename"]) & set(";,\r\n"):
        raise _bad("The filename of your attachment can't contain CRLF characters.", "attachments.0.filename")
    inline = attachment.get("disposition") == "inline"
    return File(attachment["filename"], attachment.get("type", ""), content, attachment["content_id"] if inline else "")
