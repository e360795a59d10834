"""Mandrill /messages/send.json, after https://mailchimp.com/developer/transactional/api/messages/send-new-message/."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

from providers.tests.standins.http import Accepted, File, Refused, StandIn, decoded, valid_address

_PROPERTIES = (
    "html text subject from_email from_name to headers important track_opens track_clicks auto_text auto_html "
    "inline_css url_strip_qs preserve_recipients view_content_link bcc_address tracking_domain signing_domain "
    "return_path_domain merge merge_language global_merge_vars merge_vars tags subaccount metadata "
    "recipient_metadata attachments images"
)
PROPERTIES = set(_PROPERTIES.split())


class MandrillStandIn(StandIn):
    """Errors have status 500 whatever they are. `rejected` gives the reject_reason by recipient."""

    type = "mandrill"
    path = "/messages/send.json"
    base_path = "/api/1.0"
    credential = "api_key"
    unauthorized = 500

    def prepare(self) -> None:
        self.unverified: set[str] = set()
        self.bad_recipients: set[str] = set()
        self.rejected: dict[str, str] = {}

    def authorized(self, headers: Mapping[str, str], payload: Any) -> str | None:
        return payload.get("key") if payload.get("key") in self.keys else None

    def error(self, status: int) -> Any:
        if status == 500:
            return {"status": "error", "code": -1, "name": "Invalid_Key", "message": "Invalid API key"}
        return {"status": "error", "code": -99, "name": "GeneralError", "message": "error"}

    @property
    def paths(self) -> tuple[str, ...]:
        return (self.path, "/users/ping2.json")

    def take(self, payload: Any, key: str, headers: Mapping[str, str]) -> tuple[int, Any, dict[str, str]]:
        if set(payload) == {"key"}:
            return 200, {"PING": "PONG!"}, {}
        if set(payload) - {"key", "message", "async", "ip_pool", "send_at"}:
            raise _invalid("unknown parameter")
        mail = payload["message"]
        if unknown := set(mail) - PROPERTIES:
            raise _invalid(f"unknown {unknown}")
        lists: dict[str, list[str]] = {"to": [], "cc": [], "bcc": []}
        for box in mail["to"]:
            if not valid_address(box["email"]) or box["email"] in self.bad_recipients:
                raise _invalid('{"message":{"to":[{"email":"An email address must contain a single @"}]}}')
            lists[box["type"]].append(box["email"])
        if not any(lists.values()):
            raise _invalid('{"message":{"to":"Please enter a value"}}')
        files = [_file(attachment) for attachment in mail.get("attachments", [])]
        files += [_file(image, image=True) for image in mail.get("images", [])]
        reasons = dict(self.rejected)
        if mail["from_email"] in self.unverified:
            reasons = {box["email"]: "unsigned" for box in mail["to"]}
        ids = {box["email"]: uuid.uuid4().hex for box in mail["to"]}
        reached = {kind: [a for a in addresses if a not in reasons] for kind, addresses in lists.items()}
        views = [reached]
        if not mail["preserve_recipients"]:
            views = [{"to": [a], "cc": [], "bcc": []} for addresses in reached.values() for a in addresses]
        for view in views:
            if any(view.values()):
                self.accepted.append(
                    Accepted(
                        key,
                        payload,
                        mail["from_email"],
                        **view,
                        subject=mail.get("subject", ""),
                        text=mail.get("text"),
                        html=mail.get("html"),
                        files=files,
                        headers=mail.get("headers", {}),
                        id=ids[next(a for addresses in view.values() for a in addresses)],
                    )
                )
        return 200, [_status(box["email"], ids, reasons) for box in mail["to"]], {}


def _status(address: str, ids: dict[str, str], reasons: dict[str, str]) -> dict[str, Any]:
    if address in reasons:
        return {"email": address, "status": "rejected", "reject_reason": reasons[address], "_id": ids[address]}
    return {"email": address, "status": "queued", "queued_reason": "attachments", "_id": ids[address]}


def _invalid(message: str) -> Refused:
    body = {"status": "error", "code": -2, "name": "ValidationError", "message": f"Validation error: {message}"}
    return Refused(500, body)


def _file(attachment: dict[str, Any], *, image: bool = False) -> File:
    content = decoded(attachment.get("content"))
    type_ = attachment["type"].partition(";")[0]
    if set(attachment) != {"type", "name", "content"} or content is None:
        raise _invalid("attachments")
    if image and not type_.startswith("image/"):
        raise _invalid("images")
    return File("" if image else attachment["name"], type_, content, attachment["name"] if image else "")
