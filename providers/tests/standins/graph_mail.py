"""Mail as the stand-in of Graph understands it, from JSON and from MIME."""

from __future__ import annotations

import base64
import email
import email.policy
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.message import EmailMessage
from email.utils import getaddresses
from typing import Any

from providers.tests.messages import parse
from providers.tests.standins.http import Accepted, File, Refused, decoded

MAX_FILE = 3 * 1024 * 1024
NAMED_PROPERTIES = {"String 0x1042": "In-Reply-To", "String 0x1039": "References"}


@dataclass
class Draft:
    """A message in a mailbox, from MIME or from JSON."""

    id: str
    mailbox: str
    key: str
    mime: bytes = b""
    message: dict[str, Any] = field(default_factory=dict)
    files: list[File] = field(default_factory=list)
    is_draft: bool = True

    @property
    def properties(self) -> dict[str, str]:
        return {one["id"]: one["value"] for one in self.message.get("singleValueExtendedProperties", [])}

    def shown(self) -> dict[str, Any]:
        return {"id": self.id, "isDraft": self.is_draft, "subject": self.message.get("subject", "")}

    def as_mime(self) -> bytes:
        """As Exchange writes it: its own, whatever it was given."""
        if self.mime:
            return b"X-MS-Exchange-Organization-SCL: -1\r\n" + self.mime
        mail = accepted_from_json({**self.message, "attachments": []}, self.key, self.mailbox)
        written = EmailMessage(policy=email.policy.SMTP)
        written["X-MS-Exchange-Organization-SCL"] = "-1"
        written["From"], written["To"], written["Subject"] = mail.sender, ", ".join(mail.to), mail.subject
        written.set_content(mail.text or mail.html or "")
        for file in self.files:
            maintype, _, subtype = (file.type or "application/octet-stream").partition("/")
            written.add_attachment(file.content, maintype=maintype, subtype=subtype, filename=file.name)
        return written.as_bytes()


def accepted_from_json(message: Mapping[str, Any], key: str, mailbox: str) -> Accepted:
    """A mail in the structured form. Raises Refused for what Graph refuses beyond its schema."""
    custom = message.get("internetMessageHeaders", [])
    if len(custom) > 5:
        code, text = "InvalidInternetMessageHeaderCollection", "Maximum number of headers in one message should be "
        raise _bad(code, f"{text}less than or equal to 5.")
    for header in custom:
        if not header["name"].lower().startswith("x-"):
            raise _bad("InvalidInternetMessageHeader", f"The header '{header['name']}' should start with 'x-' or 'X-'.")
        if len(header["value"]) > 995 or not header["value"].isascii() or "\n" in header["value"]:
            raise _bad("InvalidInternetMessageHeader", f"The value of '{header['name']}' is not valid.")
    headers = {header["name"]: header["value"] for header in custom}
    if "internetMessageId" in message:
        headers["Message-ID"] = message["internetMessageId"]
    for one in message.get("singleValueExtendedProperties", []):
        if set(one) != {"id", "value"} or not isinstance(one["value"], str):
            raise _bad("ErrorInvalidProperty", "id and value are required.")
        if one["id"] in NAMED_PROPERTIES:
            headers[NAMED_PROPERTIES[one["id"]]] = one["value"]
    body = message.get("body", {})
    sender = message.get("from", {}).get("emailAddress", {}).get("address", mailbox)
    to, cc, bcc = (_boxes(message, f"{name}Recipients") for name in ("to", "cc", "bcc"))
    content = {body.get("contentType"): body.get("content")}
    return Accepted(
        key,
        dict(message),
        sender,
        to,
        cc,
        bcc,
        subject=message.get("subject", ""),
        text=content.get("text"),
        html=content.get("html"),
        files=[_file(one) for one in message.get("attachments", [])],
        headers=headers,
    )


def accepted_from_mime(raw: bytes, key: str, mailbox: str) -> Accepted:
    """A mail as MIME: it goes to whom the header names."""
    content = parse(raw)
    message = email.message_from_bytes(raw, policy=email.policy.default)
    lists = [
        [address for _, address in getaddresses([str(value) for value in message.get_all(name, [])]) if address]
        for name in ("To", "Cc", "Bcc")
    ]
    files = [
        File(one.filename, one.content_type, one.content, one.content_id if one.inline else "")
        for one in content.attachments
    ]
    sender = content.from_[0].address if content.from_ else mailbox
    headers = {name: value for name, value in content.headers if name.lower() != "bcc"}
    return Accepted(
        key, {"mime": raw}, sender, *lists, content.subject, content.text, content.html, files=files, headers=headers
    )


def _boxes(message: Mapping[str, Any], name: str) -> list[str]:
    return [box["emailAddress"]["address"] for box in message.get(name, [])]


def _file(attachment: Mapping[str, Any]) -> File:
    if attachment.get("@odata.type") != "#microsoft.graph.fileAttachment" or not attachment.get("name"):
        raise _bad("ErrorInvalidRequest", "A fileAttachment with a name is expected.")
    content = decoded(attachment.get("contentBytes"))
    if content is None:
        raise _bad("ErrorInvalidRequest", "contentBytes must be base64.")
    if len(content) >= MAX_FILE:
        raise Refused(413, {"error": {"code": "ErrorRequestSizeExceeded", "message": "Use an upload session."}})
    assert base64.b64encode(content).decode() == attachment["contentBytes"]
    cid = attachment.get("contentId", "") if attachment.get("isInline") else ""
    return File(attachment["name"], attachment.get("contentType", ""), content, cid)


def _bad(code: str, message: str) -> Refused:
    return Refused(400, {"error": {"code": code, "message": message}})
