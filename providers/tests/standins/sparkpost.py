"""SparkPost /api/v1/transmissions with RFC 822 content, as the vendor's API Blueprint tells it, and its error codes."""

from __future__ import annotations

import email
import re
from collections.abc import Mapping
from email.utils import getaddresses
from typing import Any

from providers.tests.standins.http import Accepted, Refused, StandIn, valid_address

OPTIONS = {"open_tracking", "click_tracking", "transactional", "perform_substitutions"}
MACROS = {
    "opening_double_curly()": "{{",
    "closing_double_curly()": "}}",
    "opening_triple_curly()": "{{{",
    "closing_triple_curly()": "}}}",
}


class SparkPostStandIn(StandIn):
    """`unverified` senders have no sending domain; `suppressed` recipients are refused in a transmission it takes.

    Header fields go through its template language, as the vendor's do.
    """

    type = "sparkpost"
    path = "/api/v1/transmissions"
    credential = "api_key"
    key_header = "Authorization"

    def prepare(self) -> None:
        self.unverified: set[str] = set()
        self.bad_recipients: set[str] = set()
        self.suppressed: set[str] = set()
        self.names_them = True
        self.status = "active"

    def error(self, status: int) -> Any:
        return {"errors": [{"message": {401: "Unauthorized.", 429: "Too many requests"}.get(status, "error")}]}

    def show(self, path: str, headers: Mapping[str, str]) -> tuple[int, Any, dict[str, str]]:
        if not self.authorized(headers, None):
            raise Refused(401, self.error(401))
        if path != "/api/v1/account":
            raise Refused(404, self.error(404))
        return 200, {"results": {"company_name": "Acme", "status": self.status, "country_code": "DE"}}, {}

    def take(self, payload: Any, key: str, headers: Mapping[str, str]) -> tuple[int, Any, dict[str, str]]:
        _known(payload, {"options", "recipients", "content", "return_path"})
        _known(payload.get("options", {}), OPTIONS)
        if any(not isinstance(value, bool) for value in payload.get("options", {}).values()):
            raise _bad(422, "1300", "invalid data format/type", "options must be boolean")
        content = payload.get("content")
        _known(content, {"email_rfc822"})
        recipients = [self._address(entry) for entry in payload.get("recipients") or []]
        if not recipients:
            raise _bad(400, "5002", "No valid recipients in list")
        raw = self._rendered(content["email_rfc822"], payload.get("options", {}))
        if len(raw) > 20 * 1024 * 1024:
            raise _bad(413, "1300", "content is too large")
        sender = getaddresses([str(email.message_from_bytes(raw).get("From", ""))])
        if any(address in self.unverified for _, address in sender):
            raise _bad(400, "7001", "Invalid domain", "Unconfigured or unverified sending domain.")
        taken = [recipient for recipient in recipients if recipient not in self.suppressed]
        id_ = str(11668787484950529 + len(self.accepted))
        results: dict[str, Any] = {
            "total_rejected_recipients": len(recipients) - len(taken),
            "total_accepted_recipients": len(taken),
            "id": id_,
        }
        if taken:
            mail = Accepted(key, payload, "", taken, [], [], "", None, None, id=id_)
            mail.data = raw
            self.accepted.append(mail)
        answer: dict[str, Any] = {"results": results}
        if len(taken) < len(recipients):
            answer["errors"] = [{"code": "2000", "message": "transmission created, but with validation errors"}]
            results["rcpt_to_errors"] = [
                {"code": "1902", "message": "rejected", "description": f"{who} suppressed" if self.names_them else ""}
                for who in recipients
                if who in self.suppressed
            ]
        return 200, answer, {}

    def _address(self, entry: Any) -> str:
        _known(entry, {"address"})
        _known(entry["address"], {"email"})
        address = entry["address"]["email"]
        if not valid_address(address) or address in self.bad_recipients:
            raise _bad(422, "1300", "invalid data format/type", f"address.email '{address}' is not valid")
        return address

    def _rendered(self, content: Any, options: Mapping[str, bool]) -> bytes:
        """What the recipients get: CRLF line ends, the header and, unless turned off, the text through the template
        language, which knows no names here."""
        if not isinstance(content, str):
            raise _bad(422, "1300", "invalid data format/type", "email_rfc822 must be a string")
        header, separator, body = content.partition("\r\n\r\n")
        if separator and re.search(r"^\S+$", header.partition("\r\n")[0]):
            raise _bad(422, "3020", "template mime parsing error")
        header = _substituted(header)
        if options.get("perform_substitutions", True):
            body = _substituted(body)
        if options.get("click_tracking", True):
            body = body.replace("http", "https://track.example/?u=http")
        return re.sub(r"\r\n|\r|\n", "\r\n", header + separator + body).encode()


def _substituted(text: str) -> str:
    return re.sub(r"\{\{\{?\s*(.*?)\s*\}?\}\}", lambda match: MACROS.get(match[1], ""), text)


def _known(value: Any, names: set[str]) -> None:
    if not isinstance(value, dict):
        raise _bad(422, "1300", "invalid data format/type", "an object is required")
    if unknown := set(value) - names:
        raise _bad(422, "1300", "invalid data format/type", f"unknown field {sorted(unknown)[0]}")


def _bad(status: int, code: str, message: str, description: str = "") -> Refused:
    error = {"code": code, "message": message, **({"description": description} if description else {})}
    return Refused(status, {"errors": [error]})
