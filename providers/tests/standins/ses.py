"""Amazon SES, API v2: SendEmail and GetAccount, signatures checked (see ses_v2.json and the pages named below)."""

from __future__ import annotations

import email
import json
import re
import uuid
from collections.abc import Mapping
from email.utils import getaddresses, parseaddr
from typing import Any

from providers.tests.standins.http import (
    Accepted,
    File,
    Refused,
    Request,
    StandIn,
    decoded,
    strict_validator,
    valid_address,
    vendor_schema,
)
from providers.tests.standins.sigv4 import BadSignature, verified

ACCOUNT = "/v2/email/account"
REGION = "eu-central-1"
MAX_SIZE = 40 * 1024 * 1024
# https://docs.aws.amazon.com/ses/latest/dg/header-fields.html
ONCE = {"date", "from", "message-id", "subject", "reply-to", "sender", "return-path", "mime-version", "content-type"}
ONCE |= {"dkim-signature", "in-reply-to", "references", "list-unsubscribe", "user-agent"}
SET_BY_SES = {"bcc", "cc", "content-disposition", "content-type", "date", "from", "message-id", "mime-version"}
SET_BY_SES |= {"reply-to", "return-path", "subject", "to"}
FORBIDDEN_FILES = (".exe", ".bat", ".cmd", ".com", ".js", ".vbs", ".scr", ".lnk", ".reg", ".msi")
_TAG = re.compile(r"[A-Za-z0-9_-]{1,256}")


class SesStandIn(StandIn):
    """`unverified` are identities it does not know; `bad_recipients` those the sandbox does not let through."""

    type = "ses"
    path = "/v2/email/outbound-emails"
    credential = "secret_access_key"

    def prepare(self) -> None:
        self.unverified: set[str] = set()
        self.bad_recipients: set[str] = set()
        self.configuration_sets: set[str] = set()
        self.account: dict[str, Any] = {
            "EnforcementStatus": "HEALTHY",
            "ProductionAccessEnabled": True,
            "SendingEnabled": True,
            "SendQuota": {"Max24HourSend": 50000.0, "MaxSendRate": 14.0, "SentLast24Hours": 12.0},
        }
        self.validator = strict_validator(vendor_schema("ses_v2"))
        self._secrets = {access_key(secret): secret for secret in self.keys}

    def config(self, key: str | None = None, **more: Any) -> dict[str, Any]:
        secret = key or self.keys[0]
        return {
            "access_key_id": access_key(secret),
            "secret_access_key": secret,
            "region": REGION,
            "base_url": self.url,
            **more,
        }

    def serve(self, request: Request) -> tuple[int, Any, dict[str, str]]:
        if (request.method, request.path) not in {("GET", ACCOUNT), ("POST", self.path)}:
            raise Refused(404, b"<UnknownOperationException/>")
        key = self._signed(request)
        if request.method == "GET":
            return 200, self.account, {}
        if request.headers.get("Content-Type") != "application/json":
            raise refused("SerializationException", "Not JSON", 415)
        try:
            payload = json.loads(request.body)
        except ValueError:
            raise refused("SerializationException", "Not JSON") from None
        return self.take(payload, key, request.headers)

    def _signed(self, request: Request) -> str:
        """The secret it was signed with."""
        try:
            key, region = verified(request.method, request.path, request.headers, request.body, self._secrets, "ses")
            if region != REGION:
                raise BadSignature("InvalidSignatureException", "Credential should be scoped to a valid region.")
        except BadSignature as wrong:
            raise refused(wrong.args[0], wrong.args[1], 403) from wrong
        return self._secrets[key]

    def error(self, status: int) -> Any:
        names = {
            403: ("SignatureDoesNotMatch", "The request signature we calculated does not match."),
            429: ("TooManyRequestsException", "Maximum sending rate exceeded."),
            500: ("InternalFailure", "An internal failure occurred."),
            503: ("ServiceUnavailable", "The service is unavailable."),
        }
        name, text = names.get(status, ("", ""))
        return {"__type": name, "message": text} if name else b"<html>proxy</html>"

    def take(self, payload: Any, key: str, headers: Mapping[str, str]) -> tuple[int, Any, dict[str, str]]:
        if wrong := self.check(self.validator, payload):
            raise refused("BadRequestException", wrong)
        recipients = self._recipients(payload.get("Destination", {}))
        if payload.get("ConfigurationSetName", "") not in {"", *self.configuration_sets}:
            raise refused("NotFoundException", "Configuration set does not exist.", 404)
        for tag in payload.get("EmailTags", []):
            if not _TAG.fullmatch(tag["Name"]) or not _TAG.fullmatch(tag["Value"]):
                raise refused("BadRequestException", "Invalid tag")
        content = payload["Content"]
        if len(content) != 1:
            raise refused("BadRequestException", "Exactly one of Raw, Simple or Template must be set.")
        mail = _raw(payload, key) if "Raw" in content else _simple(payload, key)
        senders = [mail.sender, payload.get("FeedbackForwardingEmailAddress", "")]
        failed = [sender for sender in senders if sender in self.unverified]
        failed += [recipient for recipient in recipients if recipient in self.bad_recipients]
        if failed:
            raise refused(
                "MessageRejected",
                f"Email address is not verified. The following identities failed the check in region "
                f"{REGION.upper()}: {', '.join(failed)}",
            )
        mail.id = f"0107018{uuid.uuid4().hex[:9]}-{uuid.uuid4()}-000000"
        self.accepted.append(mail)
        return 200, {"MessageId": mail.id}, {}

    def _recipients(self, destination: dict[str, list[str]]) -> list[str]:
        """https://docs.aws.amazon.com/ses/latest/APIReference-V2/API_Destination.html"""
        addresses = [parseaddr(text)[1] for texts in destination.values() for text in texts]
        if not addresses or len(addresses) > 50:
            raise refused("MessageRejected", f"Recipient count is {len(addresses)}, must be 1 to 50.")
        for texts in destination.values():
            for text in texts:
                if not text.isascii() or not valid_address(parseaddr(text)[1]):
                    raise refused("BadRequestException", "Local address contains illegal character")
        return addresses


def access_key(secret: str) -> str:
    return "AKIA" + secret.upper().replace("-", "")[:16]


def refused(name: str, text: str, status: int = 400) -> Refused:
    return Refused(status, {"message": text}, {"X-Amzn-ErrorType": f"{name}:http://internal.amazon.com/ses/"})


def _raw(payload: dict[str, Any], key: str) -> Accepted:
    """https://docs.aws.amazon.com/ses/latest/APIReference-V2/API_RawMessage.html"""
    data = decoded(payload["Content"]["Raw"]["Data"])
    if data is None:
        raise refused("BadRequestException", "Empty raw message")
    if len(data) > MAX_SIZE:
        raise refused("BadRequestException", f"Message length is more than {MAX_SIZE} bytes long: '{len(data)}'.")
    if b"\r\n\r\n" not in data or max(map(len, data.split(b"\r\n"))) > 998:
        raise refused("MessageRejected", "The message does not meet the criteria of a raw message.")
    parsed = email.message_from_bytes(data)
    names = [name.lower() for name in parsed]
    for name in ONCE & {name for name in names if names.count(name) > 1}:
        raise refused("BadRequestException", f"Duplicate header '{name}'.")
    sender = payload.get("FromEmailAddress") or str(parsed.get("From", ""))
    if "@" not in sender:
        raise refused("BadRequestException", "Missing final '@domain'")
    for part in parsed.walk():
        if (part.get_filename() or "").lower().endswith(FORBIDDEN_FILES):
            raise refused("MessageRejected", "Illegal filename")
    destination = payload["Destination"]
    return Accepted(
        key,
        payload,
        parseaddr(sender)[1],
        *([parseaddr(text)[1] for text in destination.get(f"{name}Addresses", [])] for name in ("To", "Cc", "Bcc")),
        subject=str(parsed.get("Subject", "")),
        text=None,
        html=None,
        headers={name: str(value) for name, value in parsed.items()},
        data=data,
    )


def _simple(payload: dict[str, Any], key: str) -> Accepted:
    simple = payload["Content"]["Simple"]
    sender = payload.get("FromEmailAddress", "")
    if not sender.isascii() or not valid_address(parseaddr(sender)[1]) or len(sender) > 320:
        raise refused("BadRequestException", "Invalid FromEmailAddress")
    if not simple["Body"]:
        raise refused("BadRequestException", "Either Text or Html must be set.")
    for content in (simple["Subject"], *simple["Body"].values()):
        if not content["Data"].isascii() and content.get("Charset") != "UTF-8":
            raise refused("BadRequestException", "A charset must be named.")
    headers = {}
    for header in simple.get("Headers", []):
        name, value = header["Name"], header["Value"]
        if name.lower() in SET_BY_SES or len(name) + len(value) > 996 or name.lower() in map(str.lower, headers):
            raise refused("BadRequestException", f"Invalid header {name}")
        if not re.fullmatch(r"[ -~]+", value):
            raise refused("BadRequestException", f"Invalid value of header {name}")
        headers[name] = value
    for text in payload.get("ReplyToAddresses", []):
        if not text.isascii() or not valid_address(parseaddr(text)[1]):
            raise refused("BadRequestException", "Invalid ReplyToAddresses")
    files = [_file(attachment) for attachment in simple.get("Attachments", [])]
    destination = payload["Destination"]
    lists = {
        name.lower(): [address for _, address in getaddresses(destination.get(f"{name}Addresses", []))]
        for name in ("To", "Cc", "Bcc")
    }
    return Accepted(
        key,
        payload,
        parseaddr(sender)[1],
        **lists,
        subject=simple["Subject"]["Data"],
        text=simple["Body"].get("Text", {}).get("Data"),
        html=simple["Body"].get("Html", {}).get("Data"),
        files=files,
        headers=headers,
    )


def _file(attachment: dict[str, Any]) -> File:
    if attachment["FileName"].lower().endswith(FORBIDDEN_FILES):
        raise refused("MessageRejected", "Illegal filename")
    content = decoded(attachment["RawContent"])
    if content is None:
        raise refused("BadRequestException", "Empty attachment")
    inline = attachment.get("ContentDisposition") == "INLINE"
    return File(
        attachment["FileName"],
        attachment.get("ContentType", ""),
        content,
        attachment.get("ContentId", "") if inline else "",
    )
