"""MailerSend (https://developers.mailersend.com/api/v1/email.html)."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

from anymail.backends.mailersend import EmailBackend, MailerSendPayload

from providers import http
from providers.backends.anymail import AnymailBackend, ExactParts
from providers.backends.letter import Abilities, Letter, Types
from providers.backends.structured import Request
from providers.base import ConfigField, OutboundMessage, SendResult
from providers.envelope import Addressing, Limits
from providers.exceptions import ProviderError, Unsupported
from providers.http import Answer
from providers.scrub import scrub
from providers.webhooks import fields

_RECIPIENT_FIELD = re.compile(r"(to|cc|bcc)\.(\d+)\.email")


class _Payload(ExactParts, MailerSendPayload):
    pass


class MailerSendBackend(AnymailBackend):
    """At most 50 To, 10 Cc, 10 Bcc and 25 MB; own headers only for the vendor's larger plans."""

    type = "mailersend"
    config_fields = (
        ConfigField("api_token", "API token", kind="secret", required=True),
        ConfigField(
            "custom_headers",
            "The plan allows custom headers",
            kind="bool",
            default=False,
            help="Other plans refuse every message with headers of its own; those are then left out.",
        ),
        ConfigField("base_url", "Base URL", default="https://api.mailersend.com/v1"),
        *fields.MAILERSEND,
    )
    root = "v1"
    max_size = 25 * 1024 * 1024
    abilities = Abilities(
        limits=Limits(total=70, to=50, cc=10, bcc=10),
        only_headers=frozenset({"in-reply-to", "precedence"}),  # these two have fields of their own
        subject_required=True,
        types=Types.BY_NAME,
    )
    esp = EmailBackend
    payload = _Payload
    credentials = ("api_token",)
    options = {"batch_send_mode": None}

    def __init__(self, config: Mapping[str, Any], *, timeout: float = 30.0) -> None:
        super().__init__(config, timeout=timeout)
        if self.config["custom_headers"]:
            self.abilities = replace(self.abilities, only_headers=None)

    def mail_headers(self, letter: Letter, message: OutboundMessage) -> Mapping[str, str]:  # noqa: ARG002
        # The field for it takes a bare message id.
        return {
            name: value.strip("<> ") if name.lower() == "in-reply-to" else value
            for name, value in letter.headers.items()
        }

    def accepted(self, answer: Answer, request: Request, message: OutboundMessage) -> SendResult:
        body = answer.json()
        warned = isinstance(body, dict) and "warnings" in body
        if answer.status != 202 or not ("X-Message-Id" in answer.headers or warned):
            raise self.unreadable(answer)  # without an id Anymail takes all recipients for suppressed
        return super().accepted(answer, request, message)

    def ask(self) -> Answer:
        # https://developers.mailersend.com/general.html#api-quota: costs nothing of the quota it tells
        return self.client.get("api-quota", {"Authorization": f"Bearer {self.config['api_token']}"})

    def told(self, answer: Answer) -> str:
        body = answer.json()
        if not isinstance(body, dict) or "remaining" not in body:
            return ""
        if body["remaining"] == 0:
            raise http.temporary(answer, f"No requests left until {body.get('reset')}.", code="quota")
        return f"The token is known; {body['remaining']} of {body.get('quota')} requests left today."

    def words(self, answer: Answer) -> str:
        body = answer.json()
        if not isinstance(body, dict):
            return ""
        details = "; ".join(f"{field}: {text}" for field, text in _errors(answer))
        return f"{body.get('message') or ''} {details}".strip()

    def refusal(self, answer: Answer, words: str) -> ProviderError:
        # https://developers.mailersend.com/general.html#validation-errors; MS42207: "The from.email domain must be
        # verified in your account to send emails."
        if answer.status == 422 and ("#MS42207" in words or any(f.startswith("from") for f, _ in _errors(answer))):
            return Unsupported(scrub(words, self.secrets), code="sender_not_verified", status_code=422)
        return super().refusal(answer, words)

    def blamed(self, answer: Answer, words: str, addressing: Addressing) -> Collection[str] | None:  # noqa: ARG002
        if answer.status != 422:
            return None
        matches = [match for field, _ in _errors(answer) if (match := _RECIPIENT_FIELD.fullmatch(field))]
        if not matches:
            return None
        lists = {"to": addressing.to, "cc": addressing.cc, "bcc": addressing.bcc}
        return [box.address for match in matches for box in lists[match[1]][int(match[2]) : int(match[2]) + 1]]


def _errors(answer: Answer) -> list[tuple[str, str]]:
    """Field and first text of each error."""
    body = answer.json()
    errors = body.get("errors") if isinstance(body, dict) else None
    if not isinstance(errors, dict):
        return []
    return [
        (str(field), str(texts[0] if isinstance(texts, list) and texts else texts)) for field, texts in errors.items()
    ]
