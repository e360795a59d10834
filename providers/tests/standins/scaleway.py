"""Scaleway POST …/emails, after its API reference, its limits, and the error types of its published client."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

from jsonschema import Draft202012Validator

from providers.tests.standins.http import Accepted, File, Refused, StandIn, decoded, valid_address

PROJECT = "6867048b-fe12-4e96-835e-41c79a39604b"
_TYPES = (
    "application/pdf text/html text/plain text/calendar application/ics text/csv image/jpeg image/jpg image/png "
    "image/gif application/xml text/xml application/vnd.ms-excel application/zip application/msword audio/wav "
    "audio/mpeg image/svg+xml application/pkcs7-signature application/pkcs7-mime application/pkcs10 "
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet "
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
)
TYPES = set(_TYPES.split())
ADDRESS = {
    "type": "object",
    "required": ["email"],
    "properties": {"email": {"type": "string"}, "name": {"type": "string"}},
    "additionalProperties": False,
}
PAIR = {"key": {"type": "string", "minLength": 1}, "value": {"type": "string"}}
FILE = {name: {"type": "string", "minLength": 1} for name in ("name", "type", "content")}
SCHEMA = {
    "type": "object",
    "required": ["project_id", "from", "to", "subject"],
    "properties": {
        "project_id": {"const": PROJECT},
        "from": ADDRESS,
        **{name: {"type": "array", "items": ADDRESS} for name in ("to", "cc", "bcc")},
        "subject": {"type": "string"},
        "text": {"type": "string"},
        "html": {"type": "string"},
        "attachments": {
            "type": "array",
            "items": {"type": "object", "required": list(FILE), "properties": FILE, "additionalProperties": False},
        },
        "additional_headers": {
            "type": "array",
            "items": {"type": "object", "required": list(PAIR), "properties": PAIR, "additionalProperties": False},
        },
    },
    "additionalProperties": False,
}


class ScalewayStandIn(StandIn):
    """`unverified` senders belong to no domain of the project."""

    type = "scaleway"
    path = "/emails"
    base_path = "/transactional-email/v1alpha1/regions/fr-par"
    credential = "secret_key"
    key_header = "X-Auth-Token"

    def prepare(self) -> None:
        self.unverified: set[str] = set()
        self.bad_recipients: set[str] = set()
        self.validator = Draft202012Validator(SCHEMA)

    def config(self, key: str | None = None, **more: Any) -> dict[str, Any]:
        return super().config(key, **{"project_id": PROJECT, **more})

    def error(self, status: int) -> Any:
        types = {401: "denied_authentication", 403: "permissions_denied", 429: "too_many_requests"}
        return {"type": types.get(status, "internal"), "message": "error"}

    def show(self, path: str, headers: Mapping[str, str]) -> tuple[int, Any, dict[str, str]]:
        if self.authorized(headers, None) is None:
            raise Refused(401, self.error(401))
        if path != f"/domains?project_id={PROJECT}":
            raise Refused(404, {"type": "not_found", "resource": "project", "message": "resource is not found"})
        return 200, {"total_count": 1, "domains": [{"name": "acme.test", "status": "checked"}]}, {}

    def take(self, payload: Any, key: str, headers: Mapping[str, str]) -> tuple[int, Any, dict[str, str]]:
        if wrong := self.check(self.validator, payload):
            raise _bad("body", wrong)
        sender = payload["from"]["email"]
        if sender in self.unverified:
            raise _bad("from.email", "domain not found in the project")
        for name in ("subject", "text", "html"):
            if name in payload and len(payload[name]) < 10:
                raise _bad(name, "must have at least 10 characters")
        if not payload.get("text") and not payload.get("html"):
            raise _bad("text", "text or html is required")
        lists = {name: [box["email"] for box in payload.get(name, [])] for name in ("to", "cc", "bcc")}
        for name, addresses in lists.items():
            for number, address in enumerate(addresses):
                if not valid_address(address) or address in self.bad_recipients:
                    raise _bad(f"{name}.{number}.email", "not a valid address")
        everybody = [address for addresses in lists.values() for address in addresses]
        if len(everybody) > 10:
            raise Refused(403, {"type": "quotas_exceeded", "details": [{"resource": "recipients", "quota": 10}]})
        sent = [{"id": str(uuid.uuid4()), "mail_rcpt": address, "status": "new"} for address in everybody]
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
                headers={pair["key"]: pair["value"] for pair in payload.get("additional_headers", [])},
                id=sent[0]["id"],
            )
        )
        return 200, {"emails": sent}, {}


def _bad(argument: str, text: str) -> Refused:
    detail = {"argument_name": argument, "reason": "constraint", "help_message": text}
    return Refused(400, {"type": "invalid_arguments", "message": "invalid argument(s)", "details": [detail]})


def _file(attachment: dict[str, Any]) -> File:
    content, type_ = decoded(attachment["content"]), attachment["type"].partition(";")[0]
    if content is None or type_ not in TYPES:
        raise _bad("attachments.0.type", f"{type_} is not allowed")
    return File(attachment["name"], type_, content)
