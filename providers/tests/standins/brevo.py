"""Brevo /v3/smtp/email: the published schema, and https://developers.brevo.com/reference/send-transac-email."""

from __future__ import annotations

import mimetypes
import uuid
from collections.abc import Mapping
from typing import Any

from providers.tests.standins.http import (
    Accepted,
    File,
    Refused,
    StandIn,
    decoded,
    strict_validator,
    valid_address,
    vendor_schema,
)

_EXTENSIONS = (
    "xlsx xls ods docx docm doc csv pdf txt gif jpg jpeg png tif tiff rtf bmp cgm css shtml html htm zip xml ppt pptx "
    "tar ez ics mobi msg pub eps odt mp3 m4a m4v wma ogg flac wav aif aifc aiff mp4 mov avi mkv mpeg mpg wmv pkpass "
    "xlsm"
)
EXTENSIONS = set(_EXTENSIONS.split())


class BrevoStandIn(StandIn):
    """`unverified` senders are refused."""

    type = "brevo"
    path = "/smtp/email"
    base_path = "/v3"
    credential = "api_key"
    key_header = "api-key"

    def prepare(self) -> None:
        self.unverified: set[str] = set()
        self.relay_enabled = True
        self.bad_recipients: set[str] = set()
        self.seen_keys: set[str] = set()
        self.validator = strict_validator(vendor_schema("brevo"))

    def error(self, status: int) -> Any:
        if status == 401:
            return {"code": "unauthorized", "message": "Key not found"}
        return {"code": "too_many_requests" if status == 429 else "internal_error", "message": "error"}

    def show(self, path: str, headers: Mapping[str, str]) -> tuple[int, Any, dict[str, str]]:
        if self.authorized(headers, None) is None:
            raise Refused(401, self.error(401))
        if path != "/account":
            raise Refused(404, {"code": "document_not_found", "message": "Path not found"})
        plan = [{"type": "free", "creditsType": "sendLimit", "credits": 300}]
        relay = {"enabled": self.relay_enabled, "data": {"userName": "x", "relay": "smtp-relay.brevo.com", "port": 587}}
        return 200, {"email": "owner@acme.test", "companyName": "Acme", "plan": plan, "relay": relay}, {}

    def take(self, payload: Any, key: str, headers: Mapping[str, str]) -> tuple[int, Any, dict[str, str]]:
        if wrong := self.check(self.validator, payload):
            raise _bad("invalid_parameter", wrong)
        for name in ("sender", "to", "subject", "htmlContent"):
            if not payload.get(name):
                raise _bad("missing_parameter", f"{name} is missing")
        sender = payload["sender"].get("email")
        if not valid_address(sender) or sender in self.unverified:
            raise _bad("invalid_parameter", "valid sender email required")
        lists = {name: [box["email"] for box in payload.get(name, [])] for name in ("to", "cc", "bcc")}
        for name, addresses in lists.items():
            if any(not valid_address(address) or address in self.bad_recipients for address in addresses):
                raise _bad("invalid_parameter", f"email is not valid in {name}")
        if sum(map(len, lists.values())) > 99:
            raise _bad("out_of_range", "too many recipients")
        mail_headers = dict(payload.get("headers", {}))
        for name, value in mail_headers.items():
            if not isinstance(value, str) or not value.isascii():
                raise _bad("invalid_parameter", f"header {name} is not valid")
        files = [_file(attachment) for attachment in payload.get("attachment", [])]
        idempotency_key = mail_headers.pop("idempotencyKey", None)
        if idempotency_key:
            uuid.UUID(idempotency_key)
            if idempotency_key in self.seen_keys:
                raise _bad("duplicate_parameter", "idempotencyKey was used before")
            self.seen_keys.add(idempotency_key)
        message_id = f"<{uuid.uuid4().hex}@smtp-relay.mailin.fr>"
        self.accepted.append(
            Accepted(
                key,
                payload,
                sender,
                **lists,
                subject=payload["subject"],
                text=payload.get("textContent"),
                html=payload.get("htmlContent"),
                files=files,
                headers=mail_headers,
                id=message_id,
            )
        )
        return 201, {"messageId": message_id}, {}


def _bad(code: str, message: str) -> Refused:
    return Refused(400, {"code": code, "message": message})


def _file(attachment: dict[str, Any]) -> File:
    content, name = decoded(attachment.get("content")), attachment.get("name", "")
    if content is None or not name:
        raise _bad("missing_parameter", "attachment content or name is missing")
    if name.rpartition(".")[2].lower() not in EXTENSIONS:
        raise _bad("invalid_parameter", f"Unsupported file type: {name}")
    return File(name, mimetypes.guess_type(name)[0] or "application/octet-stream", content)
