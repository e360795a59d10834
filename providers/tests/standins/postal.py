"""Postal /api/v1/send/message, after its legacy API (github.com/postalserver/postal); every answer has status 200."""

from __future__ import annotations

from collections.abc import Mapping
from email.utils import getaddresses
from typing import Any

from providers.tests.standins.http import Accepted, File, Refused, StandIn, decoded, valid_address

_FIELDS = "to cc bcc from sender subject reply_to plain_body html_body bounce tag headers attachments"
FIELDS = set(_FIELDS.split())
LISTS = {"to": "TooManyToAddresses", "cc": "TooManyCCAddresses", "bcc": "TooManyBCCAddresses"}


class PostalStandIn(StandIn):
    """`unverified` senders belong to no domain of the server. It shows the wrong key it was given, as Postal does."""

    type = "postal"
    path = "/api/v1/send/message"
    credential = "api_key"
    unauthorized = 200

    def prepare(self) -> None:
        self.unverified: set[str] = set()
        self.bad_recipients: set[str] = set()
        self.count = 0

    def authorized(self, headers: Mapping[str, str], payload: Any) -> str | None:
        key = headers.get("X-Server-API-Key", "")
        self.last_key = key
        return key if key in self.keys else None

    def error(self, status: int) -> Any:
        if status != 200:
            return b"<html>error</html>"
        return _error("InvalidServerAPIKey", message="The API token provided was not valid.", token=self.last_key)

    def show(self, path: str, headers: Mapping[str, str]) -> tuple[int, Any, dict[str, str]]:
        if self.authorized(headers, None) is None:
            raise Refused(200, self.error(200))
        if path != "/api/v1/messages/message":
            raise Refused(404, b"<html>not found</html>")
        return 200, {"status": "parameter-error", "data": {"message": "`id` parameter is required but is missing"}}, {}

    def take(self, payload: Any, key: str, headers: Mapping[str, str]) -> tuple[int, Any, dict[str, str]]:
        if not isinstance(payload, dict) or set(payload) - FIELDS:
            raise Refused(200, {"status": "parameter-error", "data": {"message": "unknown parameter"}})
        lists = {name: [_address(text) for text in payload.get(name, [])] for name in LISTS}
        for name, code in LISTS.items():
            if len(lists[name]) > 50:
                raise _bad(code)
        everybody = [address for addresses in lists.values() for address in addresses]
        if not everybody:
            raise _bad("NoRecipients")
        if not payload.get("plain_body") and not payload.get("html_body"):
            raise _bad("NoContent")
        if not payload.get("from"):
            raise _bad("FromAddressMissing")
        sender = _address(payload["from"])
        if sender in self.unverified:
            raise _bad("UnauthenticatedFromAddress")
        if any(name.lower() == "message-id" for name in payload.get("headers", {})):
            raise _bad("a Message-ID of ours would be written over")
        messages = {}
        for address in everybody:
            if not valid_address(address):
                raise Refused(500, b"<html>error</html>")
            self.count += 1
            messages[address] = {"id": self.count, "token": f"t{self.count}"}
        self.accepted.append(
            Accepted(
                key,
                payload,
                sender,
                **lists,
                subject=payload.get("subject", ""),
                text=payload.get("plain_body"),
                html=payload.get("html_body"),
                files=[_file(attachment) for attachment in payload.get("attachments", [])],
                headers=payload.get("headers", {}),
                id=str(messages[everybody[0]]["id"]),
            )
        )
        return 200, {"status": "success", "flags": {}, "data": {"message_id": "x@rp.postal", "messages": messages}}, {}


def _error(code: str, **data: Any) -> dict[str, Any]:
    return {"status": "error", "time": 0.1, "flags": {}, "data": {**data, "code": code}}


def _bad(code: str) -> Refused:
    return Refused(200, _error(code, message="…"))


def _address(text: str) -> str:
    return getaddresses([text])[0][1]


def _file(attachment: dict[str, Any]) -> File:
    content = decoded(attachment.get("data"))
    if not attachment.get("name"):
        raise _bad("AttachmentMissingName")
    if content is None:
        raise _bad("AttachmentMissingData")
    return File(attachment["name"], attachment["content_type"].partition(";")[0], content)
