"""Mailchimp Transactional, formerly Mandrill (https://mailchimp.com/developer/transactional/api/messages/)."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import Any

from anymail.backends.mandrill import EmailBackend, MandrillPayload

from providers import http
from providers.backends.anymail import AnymailBackend, ExactParts
from providers.backends.letter import Abilities, Inline, Letter, Types
from providers.backends.structured import Request
from providers.base import ConfigField, OutboundMessage, RecipientStatus, SendResult
from providers.envelope import Addressing, Limits, same
from providers.exceptions import Misconfigured, PermanentFailure, ProviderError, Unsupported
from providers.http import Answer
from providers.scrub import scrub
from providers.webhooks import fields

# Errors come with status 500 whatever they are; only the name tells
# (https://mailchimp.com/developer/transactional/docs/error-glossary/).
_MEANINGS: dict[str, tuple[type[ProviderError], str]] = {
    "Invalid_Key": (Misconfigured, "bad_credentials"),
    "PaymentRequired": (Misconfigured, "account_limit"),
    "PoorReputation": (Misconfigured, "account_blocked"),
    "Unknown_Subaccount": (Misconfigured, "bad_subaccount"),
    "ValidationError": (PermanentFailure, "bad_request"),
}
_ABOUT_THE_SENDER = {"invalid-sender", "unsigned"}


class _Payload(ExactParts, MandrillPayload):
    pass


class MandrillBackend(AnymailBackend):
    """At most 25 MB; only images can be referred to from the HTML."""

    type = "mandrill"
    config_fields = (
        ConfigField("api_key", "API key", kind="secret", required=True),
        ConfigField("base_url", "Base URL", default="https://mandrillapp.com/api/1.0"),
        *fields.MANDRILL,
    )
    root = "api/1.0"
    max_size = 25 * 1024 * 1024
    abilities = Abilities(limits=Limits(total=1000, apart=True), reply_tos=50, inline=Inline.IMAGES, types=Types.FULL)
    esp = EmailBackend
    payload = _Payload
    credentials = ("api_key",)

    def esp_extra(self, letter: Letter) -> Mapping[str, Any]:
        # Given explicitly, because each of these also has a default in the account.
        return {
            "message": {
                "preserve_recipients": not letter.addressing.apart,
                "auto_text": False,
                "auto_html": False,
                "inline_css": False,
                "merge": False,
            }
        }

    def accepted(self, answer: Answer, request: Request, message: OutboundMessage) -> SendResult:
        result = super().accepted(answer, request, message)
        reasons = self.reasons(answer)
        refused = [r for r, one in result.recipients.items() if one.status is RecipientStatus.FAILED]
        if len(refused) == len(result.recipients) and all(reasons.get(same(r)) in _ABOUT_THE_SENDER for r in refused):
            text = scrub(f"Refused: {', '.join(sorted(set(reasons.values())))}", self.secrets)
            raise Unsupported(text, code="sender_not_verified", status_code=answer.status)
        return result

    def reasons(self, answer: Answer) -> Mapping[str, str]:
        body = answer.json()
        return {
            same(str(item.get("email"))): str(item.get("reject_reason") or item.get("queued_reason") or "")
            for item in (body if isinstance(body, list) else [])
            if isinstance(item, dict)
        }

    def ask(self) -> Answer:
        # https://mailchimp.com/developer/transactional/api/users/ping-2/
        body = json.dumps({"key": self.config["api_key"]}).encode()
        return self.client.post("users/ping2.json", body, {"Content-Type": "application/json"})

    def told(self, answer: Answer) -> str:
        body = answer.json()
        return str(body["PING"]) if isinstance(body, dict) and "PING" in body else ""

    def words(self, answer: Answer) -> str:
        name, text = _error(answer)
        return f"{text} ({name})" if name else text

    def refusal(self, answer: Answer, words: str) -> ProviderError:
        name, _ = _error(answer)
        if name in _MEANINGS:
            kind, code = _MEANINGS[name]
            return kind(scrub(words, self.secrets), code=code, status_code=answer.status)
        if name and answer.status not in {401, 403}:  # ServiceUnavailable, GeneralError and whatever comes later
            return http.temporary(answer, words, code="server_error", secrets=self.secrets)
        return super().refusal(answer, words)

    def blamed(self, answer: Answer, words: str, addressing: Addressing) -> Collection[str] | None:  # noqa: ARG002
        name, text = _error(answer)
        return [] if name == "ValidationError" and '"to"' in text and "email" in text else None


def _error(answer: Answer) -> tuple[str, str]:
    body = answer.json()
    if not isinstance(body, dict):
        return "", ""
    return str(body.get("name") or ""), str(body.get("message") or "")
