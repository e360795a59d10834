"""Resend /emails: the published schema, and https://resend.com/docs/api-reference/errors."""

from __future__ import annotations

import json
import mimetypes
import uuid
from collections.abc import Mapping
from email.utils import parseaddr
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


class ResendStandIn(StandIn):
    """`dropped` are messages it took and would never deliver: a type and a file name that disagree."""

    type = "resend"
    path = "/emails"
    credential = "api_key"
    unauthorized = 403

    def prepare(self) -> None:
        self.unverified: set[str] = set()
        self.sending_only = False
        self.bad_recipients: set[str] = set()
        self.dropped: list[Any] = []
        self.keys_seen: dict[str, tuple[str, str]] = {}
        self.validator = strict_validator(forbid_unknown(vendor_schema("resend")))

    def authorized(self, headers: Mapping[str, str], payload: Any) -> str | None:
        scheme, _, key = headers.get("Authorization", "").partition(" ")
        return key if scheme == "Bearer" and key in self.keys else None

    def error(self, status: int) -> Any:
        name = {403: "invalid_api_key", 401: "missing_api_key", 429: "rate_limit_exceeded"}
        text = {403: "API key is invalid"}.get(status, "error")
        return {"statusCode": status, "name": name.get(status, "application_error"), "message": text}

    def show(self, path: str, headers: Mapping[str, str]) -> tuple[int, Any, dict[str, str]]:
        if self.authorized(headers, None) is None:
            raise Refused(403, self.error(403))
        if path != "/domains":
            raise _bad(404, "not_found", "The requested endpoint does not exist.")
        if self.sending_only:
            raise _bad(401, "restricted_api_key", "This API key is restricted to only send emails.")
        return 200, {"object": "list", "data": [{"id": "1", "name": "acme.test", "status": "verified"}]}, {}

    def take(self, payload: Any, key: str, headers: Mapping[str, str]) -> tuple[int, Any, dict[str, str]]:
        if wrong := self.check(self.validator, payload):
            raise _bad(422, "validation_error", wrong)
        sender = parseaddr(payload["from"])[1]
        if not valid_address(sender):
            raise _bad(422, "invalid_from_address", "Invalid `from` field.")
        if sender in self.unverified:
            domain = sender.rpartition("@")[2]
            raise _bad(
                403, "validation_error", f"The {domain} domain is not verified. Please, add and verify your domain."
            )
        lists = {}
        for name in ("to", "cc", "bcc"):
            lists[name] = [parseaddr(text)[1] for text in payload.get(name, [])]
            if any(not valid_address(address) or address in self.bad_recipients for address in lists[name]):
                raise _bad(
                    422,
                    "validation_error",
                    f"Invalid `{name}` field. The email address needs to follow the `email@example.com` or "
                    "`Name <email@example.com>` format.",
                )
        if sum(map(len, lists.values())) > 50:
            raise _bad(422, "validation_error", "Too many recipients.")
        if not payload["subject"].strip():
            raise _bad(422, "missing_required_field", "Missing `subject` field.")
        if not payload.get("text") and not payload.get("html"):
            raise _bad(422, "validation_error", "Missing `html` or `text` field.")
        if not all(isinstance(value, str) for value in payload.get("headers", {}).values()):
            raise _bad(422, "validation_error", "Header values must be strings.")
        files = [_file(attachment) for attachment in payload.get("attachments", [])]
        idempotency_key = headers.get("Idempotency-Key", "")
        if not 1 <= len(idempotency_key) <= 256:
            raise _bad(400, "invalid_idempotency_key", "The key must be between 1-256 chars.")
        body = json.dumps(payload, sort_keys=True)
        if idempotency_key in self.keys_seen:
            first, message_id = self.keys_seen[idempotency_key]
            if first != body:
                raise _bad(409, "invalid_idempotent_request", "Same idempotency key used with a different payload.")
            return 200, {"id": message_id}, {}
        message_id = str(uuid.uuid4())
        self.keys_seen[idempotency_key] = (body, message_id)
        mail = Accepted(
            key,
            payload,
            sender,
            **lists,
            subject=payload["subject"],
            text=payload.get("text"),
            html=payload.get("html"),
            files=files,
            headers=payload.get("headers", {}),
            id=message_id,
        )
        agree = all(mimetypes.guess_type(file.name)[0] in {None, file.type} for file in files)
        (self.accepted if agree else self.dropped).append(mail)
        return 200, {"id": message_id}, {}


def _bad(status: int, name: str, message: str) -> Refused:
    return Refused(status, {"statusCode": status, "name": name, "message": message})


def _file(attachment: dict[str, Any]) -> File:
    content = decoded(attachment.get("content"))
    if content is None or not attachment.get("filename"):
        raise _bad(422, "invalid_attachment", "Attachment must have either a `content` or `path`.")
    return File(
        attachment["filename"],
        attachment["content_type"].partition(";")[0],
        content,
        attachment.get("content_id", ""),
    )
