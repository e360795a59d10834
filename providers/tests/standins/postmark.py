"""Postmark /email: the published schema, and https://postmarkapp.com/developer/api/overview#error-codes."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from email.utils import getaddresses
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

FORBIDDEN_EXTENSIONS = (".exe", ".vbs", ".bat", ".cmd", ".scr")


class PostmarkStandIn(StandIn):
    """`unverified` senders have no signature; `inactive` recipients bounced or complained before."""

    type = "postmark"
    path = "/email"
    credential = "server_token"
    key_header = "X-Postmark-Server-Token"

    def prepare(self) -> None:
        self.unverified: set[str] = set()
        self.delivery_type = "Live"
        self.inactive: set[str] = set()
        self.bad_recipients: set[str] = set()
        schema = vendor_schema("postmark")
        extra = {"MessageStream": {"type": "string"}, "Metadata": {"type": "object"}, "InlineCss": {"type": "boolean"}}
        schema["properties"] = {**schema["properties"], **extra}
        self.validator = strict_validator(forbid_unknown(schema))

    def error(self, status: int) -> Any:
        code = {401: 10, 429: 429, 503: 100}.get(status, 0)
        return {"ErrorCode": code, "Message": {401: "Bad or missing API token."}.get(status, "error")}

    def show(self, path: str, headers: Mapping[str, str]) -> tuple[int, Any, dict[str, str]]:
        key = self.authorized(headers, None)
        if key is None:
            raise Refused(401, self.error(401))
        if path == "/server":
            server = {"ID": 1, "Name": "Staging Testing", "ApiTokens": [key], "DeliveryType": self.delivery_type}
            return 200, {**server, "SmtpApiActivated": True, "ServerLink": "https://postmarkapp.com/servers/1"}, {}
        stream = path.removeprefix("/message-streams/")
        if stream != "outbound":
            raise _bad(1226, "The message stream provided does not exist on this server.")
        return 200, {"ID": stream, "ServerID": 1, "Name": "Transactional", "MessageStreamType": "Transactional"}, {}

    def take(self, payload: Any, key: str, headers: Mapping[str, str]) -> tuple[int, Any, dict[str, str]]:
        if wrong := self.check(self.validator, payload):
            raise _bad(402, f"Invalid JSON: {wrong}")
        sender = getaddresses([payload.get("From", "")])[0][1]
        if not valid_address(sender):
            raise _bad(300, f"Invalid 'From' address: '{payload.get('From')}'.")
        if sender in self.unverified:
            raise _bad(400, "The 'From' address you supplied is not a Sender Signature on your account.")
        lists = {name.lower(): self._recipients(name, payload.get(name)) for name in ("To", "Cc", "Bcc")}
        everybody = [address for addresses in lists.values() for address in addresses]
        if not everybody:
            raise _bad(300, "Zero recipients specified.")
        if len(everybody) > 50:
            raise _bad(300, "Maximum of 50 recipients allowed per email message.")
        if not payload.get("TextBody", "").strip() and not payload.get("HtmlBody", "").strip():
            raise _bad(300, "Provide either email TextBody or HtmlBody or both.")
        files = [_file(attachment) for attachment in payload.get("Attachments", [])]
        mail_headers = {header["Name"]: header["Value"] for header in payload.get("Headers", [])}
        inactive = [address.lower() for address in everybody if address in self.inactive]
        reason = "Inactive recipients are ones that have generated a hard bounce or a spam complaint."
        if len(inactive) == len(everybody):
            raise _bad(
                406,
                "You tried to send to recipient(s) that have been marked as inactive. Found inactive addresses: "
                f"{', '.join(inactive)}. {reason}",
            )
        text = "OK"
        if inactive:
            text = f"Message OK, but will not deliver to these inactive addresses: {', '.join(inactive)}. {reason}"
        reached = {kind: [a for a in addresses if a not in self.inactive] for kind, addresses in lists.items()}
        message_id = str(uuid.uuid4())
        self.accepted.append(
            Accepted(
                key,
                payload,
                sender,
                **reached,
                subject=payload.get("Subject", ""),
                text=payload.get("TextBody"),
                html=payload.get("HtmlBody"),
                files=files,
                headers=mail_headers,
                id=message_id,
            )
        )
        answer = {"ErrorCode": 0, "Message": text, "MessageID": message_id, "SubmittedAt": "2026-11-22T12:00:00Z"}
        if payload.get("To"):
            answer["To"] = payload["To"]
        return 200, answer, {}

    def _recipients(self, name: str, value: str | None) -> list[str]:
        addresses = [address for _, address in getaddresses([value or ""]) if address]
        for address in addresses:
            if not valid_address(address) or address in self.bad_recipients:
                raise _bad(300, f"Invalid '{name}' address: '{address}'.")
        return addresses


def _bad(code: int, message: str) -> Refused:
    return Refused(422, {"ErrorCode": code, "Message": message})


def _file(attachment: dict[str, Any]) -> File:
    content = decoded(attachment.get("Content"))
    if content is None or not attachment.get("Name"):
        raise _bad(300, "Invalid attachment.")
    if attachment["Name"].lower().endswith(FORBIDDEN_EXTENSIONS):
        raise _bad(411, f"Forbidden file extension in attachment '{attachment['Name']}'.")
    return File(
        attachment["Name"],
        attachment["ContentType"].partition(";")[0],
        content,
        attachment.get("ContentID", "").removeprefix("cid:"),
    )
