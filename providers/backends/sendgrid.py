"""Twilio SendGrid, Mail Send v3 (https://www.twilio.com/docs/sendgrid/api-reference/mail-send/mail-send)."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Collection
from typing import Any

from providers import http
from providers.backends.letter import Abilities, Letter, Types
from providers.backends.structured import Request, StructuredBackend
from providers.base import ConfigField, Mailbox, OutboundMessage, SendResult
from providers.envelope import Addressing, Limits
from providers.exceptions import Misconfigured, ProviderError, Unsupported
from providers.http import Answer
from providers.scrub import scrub
from providers.webhooks import fields

_RECIPIENT_FIELD = re.compile(r"personalizations\.(\d+)\.(to|cc|bcc)(?:\.(\d+))?(?:\.email)?")


class SendGridBackend(StructuredBackend):
    """JSON only; limits and refusals from https://www.twilio.com/docs/sendgrid/api-reference/mail-send/errors."""

    type = "sendgrid"
    config_fields = (
        ConfigField("api_key", "API key", kind="secret", required=True, help="Needs the permission Mail Send."),
        ConfigField(
            "base_url",
            "Base URL",
            default="https://api.sendgrid.com",
            help="https://api.eu.sendgrid.com for accounts in the EU region.",
        ),
        *fields.SENDGRID,
    )
    # "The total size of your email, including attachments, must be less than 30MB." Counted "from the entire JSON
    # payload", so after base64 (https://github.com/sendgrid/sendgrid-php/issues/491).
    max_size = 30 * 1024 * 1024
    root = "v3"
    abilities = Abilities(
        limits=Limits(total=1000, apart=True),
        refused_headers=frozenset({"x-sg-id", "x-sg-eid"}),
        reply_tos=1000,
        subject_required=True,
        types=Types.BARE,
        forbidden_in_filename=";,",
    )

    def ask(self) -> Answer:
        # https://www.twilio.com/docs/sendgrid/api-reference/api-key-permissions/retrieve-a-list-of-scopes-for-which-this-user-has-access
        return self.client.get("scopes", {"Authorization": f"Bearer {self.config['api_key']}"})

    def told(self, answer: Answer) -> str:
        body = answer.json()
        scopes = body.get("scopes") if isinstance(body, dict) else None
        if not isinstance(scopes, list):
            return ""
        if "mail.send" not in scopes:
            text = "The key is known, but it lacks the permission mail.send."
            raise Misconfigured(text, code="bad_credentials", status_code=answer.status)
        return f"The key is known and may send (mail.send and {len(scopes) - 1} other permissions)."

    def request(self, letter: Letter, message: OutboundMessage) -> Request:  # noqa: ARG002
        headers = {"Authorization": f"Bearer {self.config['api_key']}", "Content-Type": "application/json"}
        return Request("mail/send", json.dumps(_payload(letter)).encode(), headers)

    def accepted(self, answer: Answer, request: Request, message: OutboundMessage) -> SendResult:  # noqa: ARG002
        message_id = scrub(answer.headers.get("X-Message-Id", ""))
        if answer.status != 202 and not message_id:  # 200 is what a sandbox says that sends nothing
            raise self.unreadable(answer)
        return SendResult.all_delivered(message.recipients, message_id, status_code=answer.status, text=answer.reason)

    def words(self, answer: Answer) -> str:
        return "; ".join(f"{message} ({field})" if field else message for message, field in _errors(answer))

    def refusal(self, answer: Answer, words: str) -> ProviderError:
        if answer.status == 403 and re.search(r"sender identity|from address", words, re.IGNORECASE):
            # Only this sender is not set up; the key is good for others.
            return Unsupported(scrub(words, self.secrets), code="sender_not_verified", status_code=403)
        error = super().refusal(answer, words)
        if answer.status == 429 and error.retry_after is None:
            # https://www.twilio.com/docs/sendgrid/api-reference/how-to-use-the-sendgrid-v3-api/rate-limits
            error.retry_after = http.until(answer.headers.get("X-RateLimit-Reset"))
        return error

    def blamed(self, answer: Answer, words: str, addressing: Addressing) -> Collection[str] | None:  # noqa: ARG002
        if answer.status != 400:
            return None
        found, addresses = False, []
        for message, field in _errors(answer):
            match = _RECIPIENT_FIELD.fullmatch(field)
            if not match or "valid" not in message:
                continue
            found = True
            block, kind, index = int(match[1]), match[2], match[3]
            if addressing.apart:
                addresses += [box.address for box in addressing.to[block : block + 1]]
            elif index is not None:
                boxes: tuple[Mailbox, ...] = getattr(addressing, kind)
                addresses += [box.address for box in boxes[int(index) : int(index) + 1]]
        return addresses if found else None


def _payload(letter: Letter) -> dict[str, Any]:
    content = [("text/plain", letter.text), ("text/html", letter.html)]  # text must come first
    payload: dict[str, Any] = {
        "personalizations": _personalizations(letter.addressing),
        "from": _box(letter.sender),
        "subject": letter.subject,
        "content": [{"type": type_, "value": value} for type_, value in content if value],
    }
    if len(letter.reply_to) == 1:
        payload["reply_to"] = _box(letter.reply_to[0])
    elif letter.reply_to:
        payload["reply_to_list"] = [_box(box) for box in letter.reply_to]
    if letter.headers:
        payload["headers"] = letter.headers
    if letter.attachments:
        payload["attachments"] = [
            {
                "content": base64.b64encode(attachment.content).decode("ascii"),
                "type": attachment.content_type,
                "filename": attachment.filename,
                "disposition": "inline" if attachment.inline else "attachment",
                **({"content_id": attachment.content_id} if attachment.inline else {}),
            }
            for attachment in letter.attachments
        ]
    return payload


def _personalizations(addressing: Addressing) -> list[dict[str, Any]]:
    if addressing.apart:
        return [{"to": [_box(box)]} for box in addressing.to]
    lists = {"to": addressing.to, "cc": addressing.cc, "bcc": addressing.bcc}
    return [{name: [_box(box) for box in boxes] for name, boxes in lists.items() if boxes}]


def _box(box: Mailbox) -> dict[str, str]:
    return {"email": box.address, "name": box.name} if box.name else {"email": box.address}


def _errors(answer: Answer) -> list[tuple[str, str]]:
    """Message and field of each error; the field is "" when none is named."""
    body = answer.json()
    errors = body.get("errors") if isinstance(body, dict) else None
    return [
        (str(error.get("message") or ""), str(error.get("field") or ""))
        for error in (errors if isinstance(errors, list) else [])
        if isinstance(error, dict)
    ]
