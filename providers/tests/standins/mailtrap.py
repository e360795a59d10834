"""Mailtrap /api/send, after its OpenAPI description (mailtrap/mailtrap-openapi, email-sending-transactional)."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

from jsonschema import Draft202012Validator

from providers.tests.standins.http import Accepted, File, Refused, StandIn, decoded, valid_address

ADDRESS = {
    "type": "object",
    "required": ["email"],
    "properties": {"email": {"type": "string"}, "name": {"type": "string"}},
    "additionalProperties": False,
}
FILE = {
    "type": "object",
    "required": ["content", "filename"],
    "properties": {
        "content": {"type": "string", "minLength": 1},
        "filename": {"type": "string", "minLength": 1},
        "type": {"type": "string"},
        "disposition": {"enum": ["attachment", "inline"]},
        "content_id": {"type": "string"},
    },
    "additionalProperties": False,
}
TEXT = {"type": "string", "minLength": 1}
STRINGS = {"type": "object", "additionalProperties": {"type": "string"}}
SCHEMA = {
    "type": "object",
    "required": ["from", "subject"],
    "anyOf": [{"required": ["text"]}, {"required": ["html"]}],
    "properties": {
        "from": ADDRESS,
        **{name: {"type": "array", "maxItems": 1000, "items": ADDRESS} for name in ("to", "cc", "bcc")},
        "reply_to": ADDRESS,
        "subject": TEXT,
        "text": TEXT,
        "html": TEXT,
        "category": {"type": "string", "maxLength": 255},
        "custom_variables": STRINGS,
        "headers": STRINGS,
        "attachments": {"type": "array", "items": FILE},
    },
    "additionalProperties": False,
}


class MailtrapStandIn(StandIn):
    """`unverified` senders may not send; an empty message is refused after the token was looked at."""

    type = "mailtrap"
    path = "/send"
    base_path = "/api"
    credential = "api_token"
    key_header = "Api-Token"

    def prepare(self) -> None:
        self.unverified: set[str] = set()
        self.bad_recipients: set[str] = set()
        self.validator = Draft202012Validator(SCHEMA)

    def error(self, status: int) -> Any:
        return {"success": False, "errors": [{401: "Unauthorized", 403: "Forbidden"}.get(status, "error")]}

    def take(self, payload: Any, key: str, headers: Mapping[str, str]) -> tuple[int, Any, dict[str, str]]:
        if not payload:
            raise _bad(400, "'from' is required", "'to', 'cc' or 'bcc' address is required", "'subject' is required")
        if wrong := self.check(self.validator, payload):
            raise _bad(400, wrong)
        sender = payload["from"]["email"]
        if sender in self.unverified:
            raise _bad(403, f"Sending from domain {sender.partition('@')[2]} is not allowed")
        lists = {name: [box["email"] for box in payload.get(name, [])] for name in ("to", "cc", "bcc")}
        everybody = [address for addresses in lists.values() for address in addresses]
        if not everybody:
            raise _bad(400, "'to', 'cc' or 'bcc' address is required")
        for name, addresses in lists.items():
            for address in addresses:
                if not valid_address(address) or address in self.bad_recipients:
                    raise _bad(400, f"'{name}' address '{address}' is invalid")
        ids = [str(uuid.uuid4()) for _ in everybody]
        self.accepted.append(
            Accepted(
                key,
                payload,
                sender,
                **lists,
                subject=payload["subject"],
                text=payload.get("text"),
                html=payload.get("html"),
                files=[_file(attachment) for attachment in payload.get("attachments", [])],
                headers=payload.get("headers", {}),
                id=ids[0],
            )
        )
        return 200, {"success": True, "message_ids": ids}, {}


def _bad(status: int, *errors: str) -> Refused:
    return Refused(status, {"success": False, "errors": list(errors)})


def _file(attachment: dict[str, Any]) -> File:
    content = decoded(attachment["content"])
    if content is None:
        raise _bad(400, "attachment content is not base64")
    inline = attachment.get("disposition") == "inline"
    return File(
        attachment["filename"],
        attachment.get("type", "").partition(";")[0],
        content,
        attachment.get("content_id", "") if inline else "",
    )
