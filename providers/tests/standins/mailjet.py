"""Mailjet Send API v3.1, after https://dev.mailjet.com/email/reference/send-emails#v3_1_post_send."""

from __future__ import annotations

import base64
import uuid
from collections.abc import Mapping
from typing import Any

from providers.tests.standins.http import Accepted, File, Refused, StandIn, decoded, valid_address

_PROPERTIES = (
    "From Sender To Cc Bcc ReplyTo Subject TextPart HTMLPart Attachments InlinedAttachments Headers CustomID "
    "EventPayload CustomCampaign Priority TrackOpens TrackClicks Variables TemplateID TemplateLanguage"
)
PROPERTIES = set(_PROPERTIES.split())
FORBIDDEN_HEADERS = {
    *("from", "sender", "subject", "to", "cc", "bcc", "reply-to", "return-path", "delivered-to", "dkim-signature"),
    *("domainkey-status", "received-spf", "authentication-results", "received", "user-agent", "x-mailer", "date"),
    *("message-id", "list-id", "x-feedback-id", "x-csa-complaints", "x-mj-customid", "x-mj-eventpayload"),
}


class MailjetStandIn(StandIn):
    """Its key has two halves; `config` gives the right second half for each first."""

    type = "mailjet"
    path = "/v3.1/send"
    credential = "api_key"

    def prepare(self) -> None:
        self.unverified: set[str] = set()
        self.senders = {"*@acme.test": "Active", "old@acme.test": "Inactive"}
        self.bad_recipients: set[str] = set()

    @property
    def url(self) -> str:
        return f"{super().url}/v3.1"

    def config(self, key: str | None = None, **more: Any) -> dict[str, Any]:
        return {"secret_key": f"secret-of-{key or self.keys[0]}", **super().config(key, **more)}

    def authorized(self, headers: Mapping[str, str], payload: Any) -> str | None:
        scheme, _, value = headers.get("Authorization", "").partition(" ")
        if scheme != "Basic":
            return None
        key, _, secret = base64.b64decode(value).decode().partition(":")
        return key if key in self.keys and secret == f"secret-of-{key}" else None

    def error(self, status: int) -> Any:
        text = {401: "API key authentication/authorization failure."}.get(status, "error")
        return {"ErrorIdentifier": "id", "ErrorCode": "mj-0001", "StatusCode": status, "ErrorMessage": text}

    def show(self, path: str, headers: Mapping[str, str]) -> tuple[int, Any, dict[str, str]]:
        if self.authorized(headers, None) is None:
            raise Refused(401, {"ErrorMessage": "API key authentication/authorization failure.", "StatusCode": 401})
        if path.partition("?")[0] != "/v3/REST/sender":
            raise Refused(404, {"ErrorMessage": "Object not found", "StatusCode": 404})
        rows = [{"Email": email, "Status": status, "EmailType": "unknown"} for email, status in self.senders.items()]
        return 200, {"Count": len(rows), "Data": rows, "Total": len(rows)}, {}

    def take(self, payload: Any, key: str, headers: Mapping[str, str]) -> tuple[int, Any, dict[str, str]]:
        if set(payload) - {"Globals", "Messages", "SandboxMode", "AdvanceErrorHandling"}:
            raise _bad("mj-0001", "Unexpected property", [])
        if len(payload["Messages"]) != 1:
            raise _bad("mj-0001", "One message was expected", [])
        mail = {**payload.get("Globals", {}), **payload["Messages"][0]}
        if unknown := set(mail) - PROPERTIES:
            raise _bad("mj-0001", f"Unknown property {unknown}", [])
        sender = mail["From"]["Email"]
        if sender in self.unverified:
            raise _bad("send-0008", f'"{sender}" is not an authorized sender email address for your account.', ["From"])
        lists = {}
        for name in ("To", "Cc", "Bcc"):
            boxes = mail.get(name, [])
            for index, box in enumerate(boxes):
                if not valid_address(box["Email"], utf8_local_part=True) or box["Email"] in self.bad_recipients:
                    raise _bad("mj-0013", f'"{box["Email"]}" is an invalid email address.', [f"{name}[{index}].Email"])
            lists[name.lower()] = [box["Email"] for box in boxes]
        if not lists["to"]:
            raise _bad("mj-0003", "At least one recipient is required.", ["To"])
        if sum(map(len, lists.values())) > 50:
            raise _bad("mj-0006", "At most 50 recipients.", ["To"])
        if not mail.get("TextPart") and not mail.get("HTMLPart"):
            raise _bad("send-0003", 'At least "HTMLPart", "TextPart" or "TemplateID" must be provided.', ["HTMLPart"])
        mail_headers = mail.get("Headers", {})
        for name, value in mail_headers.items():
            if name.lower() in FORBIDDEN_HEADERS:
                raise _bad(
                    "send-0011", "Header cannot be customized using the Headers collection.", [f"Headers.{name}"]
                )
            if not isinstance(value, str):
                raise _bad("mj-0005", "Type mismatch.", [f"Headers.{name}"])
        files = [_file(a) for a in mail.get("Attachments", [])]
        files += [_file(a, inline=True) for a in mail.get("InlinedAttachments", [])]
        ids = {address: str(uuid.uuid4().int % 10**18) for addresses in lists.values() for address in addresses}
        self.accepted.append(
            Accepted(
                key,
                payload,
                sender,
                **lists,
                subject=mail.get("Subject", ""),
                text=mail.get("TextPart"),
                html=mail.get("HTMLPart"),
                files=files,
                headers=mail_headers,
                id=ids[lists["to"][0]],
            )
        )
        result = {
            name: [
                {"Email": a, "MessageID": int(ids[a]), "MessageUUID": str(uuid.uuid4())} for a in lists[name.lower()]
            ]
            for name in ("To", "Cc", "Bcc")
        }
        return 200, {"Messages": [{"Status": "success", "CustomID": "", **result}]}, {}


def _bad(code: str, message: str, related: list[str]) -> Refused:
    error = {
        "ErrorIdentifier": str(uuid.uuid4()),
        "ErrorCode": code,
        "StatusCode": 400,
        "ErrorMessage": message,
        "ErrorRelatedTo": related,
    }
    return Refused(400, {"Messages": [{"Status": "error", "Errors": [error]}]})


def _file(attachment: dict[str, Any], *, inline: bool = False) -> File:
    allowed = {"ContentType", "Filename", "Base64Content"} | ({"ContentID"} if inline else set())
    content = decoded(attachment.get("Base64Content"))
    if set(attachment) != allowed or content is None or not attachment["Filename"] or ";" in attachment["ContentType"]:
        raise _bad("mj-0004", "Attachment is not valid.", ["Attachments"])
    return File(attachment["Filename"], attachment["ContentType"], content, attachment.get("ContentID", ""))
