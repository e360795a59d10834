"""MailerSend /v1/email, after https://developers.mailersend.com/api/v1/email.html."""

from __future__ import annotations

import mimetypes
import uuid
from collections.abc import Mapping
from typing import Any

from providers.tests.standins.http import Accepted, File, Refused, StandIn, decoded, valid_address

_PROPERTIES = (
    "from to cc bcc reply_to subject text html attachments template_id tags personalization precedence_bulk send_at "
    "in_reply_to references settings headers list_unsubscribe"
)
PROPERTIES = set(_PROPERTIES.split())
LIMITS = {"to": 50, "cc": 10, "bcc": 10}


class MailerSendStandIn(StandIn):
    """`suppressed` recipients are left out with a warning; `headers_allowed` is a matter of the plan."""

    type = "mailersend"
    path = "/email"
    base_path = "/v1"
    credential = "api_token"

    def prepare(self) -> None:
        self.unverified: set[str] = set()
        self.remaining = 999
        self.bad_recipients: set[str] = set()
        self.suppressed: set[str] = set()
        self.headers_allowed = False

    def authorized(self, headers: Mapping[str, str], payload: Any) -> str | None:
        scheme, _, key = headers.get("Authorization", "").partition(" ")
        return key if scheme == "Bearer" and key in self.keys else None

    def error(self, status: int) -> Any:
        return {"message": {401: "Unauthenticated.", 429: "Too Many Attempts."}.get(status, "Server Error")}

    def show(self, path: str, headers: Mapping[str, str]) -> tuple[int, Any, dict[str, str]]:
        if self.authorized(headers, None) is None:
            raise Refused(401, self.error(401))
        if path != "/api-quota":
            raise Refused(404, {"message": "Not Found"})
        return 200, {"quota": 1000, "remaining": self.remaining, "reset": "2026-11-23T00:00:00Z"}, {}

    def take(self, payload: Any, key: str, headers: Mapping[str, str]) -> tuple[int, Any, dict[str, str]]:
        if unknown := set(payload) - PROPERTIES:
            raise _bad({str(field): "unknown" for field in unknown})
        sender = payload["from"]["email"]
        if sender in self.unverified:
            raise _bad(
                {"from.email": "The from.email domain must be verified in your account to send emails. #MS42207"}
            )
        lists = {}
        for name, limit in LIMITS.items():
            lists[name] = [box["email"] for box in payload.get(name, [])]
            if len(lists[name]) > limit:
                raise _bad({name: f"The {name} may not have more than {limit} items."})
            for index, address in enumerate(lists[name]):
                if not valid_address(address) or address in self.bad_recipients:
                    field = f"{name}.{index}.email"
                    raise _bad({field: f"The {field} must be a valid email address."})
        if not lists["to"]:
            raise _bad({"to": "The to field is required."})
        if not payload.get("subject", "").strip():
            raise _bad({"subject": "The subject field is required when template id is not present."})
        if not (payload.get("text") or "").strip() and not (payload.get("html") or "").strip():
            raise _bad({"text": "The text field is required when none of html / template id are present."})
        if payload.get("headers") and not self.headers_allowed:
            raise _bad({"headers": "Custom headers are available to Enterprise accounts only."})
        if "<" in payload.get("in_reply_to", ""):
            raise _bad({"in_reply_to": "The in_reply_to format is invalid."})
        files = [_file(attachment) for attachment in payload.get("attachments", [])]
        mail_headers = {header["name"]: header["value"] for header in payload.get("headers", [])}
        everybody = [address for addresses in lists.values() for address in addresses]
        left_out = [address for address in everybody if address in self.suppressed]
        warning = {
            "type": "ALL_SUPPRESSED" if left_out == everybody else "SOME_SUPPRESSED",
            "warning": "suppressed",
            "recipients": [{"email": address, "name": "", "reasons": ["hard_bounced"]} for address in left_out],
        }
        answer = {"message": "There are some warnings for your request.", "warnings": [warning]} if left_out else b""
        type_ = {"Content-Type": "application/json; charset=utf-8" if left_out else "text/html; charset=utf-8"}
        if left_out == everybody:
            return 202, answer, type_
        message_id = uuid.uuid4().hex[:24]
        self.accepted.append(
            Accepted(
                key,
                payload,
                sender,
                **{name: [a for a in addresses if a not in left_out] for name, addresses in lists.items()},
                subject=payload["subject"],
                text=payload.get("text"),
                html=payload.get("html"),
                files=files,
                headers=mail_headers,
                id=message_id,
            )
        )
        return 202, answer, {"X-Message-Id": message_id, **type_}


def _bad(errors: dict[str, str]) -> Refused:
    details = {field: [text] for field, text in errors.items()}
    return Refused(422, {"message": "The given data was invalid.", "errors": details})


def _file(attachment: dict[str, Any]) -> File:
    content, name = decoded(attachment.get("content")), attachment.get("filename")
    inline = attachment.get("disposition") == "inline"
    if content is None or not name or (inline and not attachment.get("id")):
        raise _bad({"attachments.0": "The attachment is not valid."})
    type_ = mimetypes.guess_type(name)[0] or "application/octet-stream"
    return File(name, type_, content, attachment["id"] if inline else "")
