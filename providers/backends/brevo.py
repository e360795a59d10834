"""Brevo (https://developers.brevo.com/reference/send-transac-email)."""

from __future__ import annotations

import re
import uuid
from collections.abc import Collection, Mapping

from anymail.backends.brevo import BrevoPayload, EmailBackend

from providers.backends.anymail import AnymailBackend, ExactParts
from providers.backends.letter import Abilities, Inline, Letter, Types
from providers.base import ConfigField, OutboundMessage, SendResult
from providers.envelope import Addressing, Limits
from providers.exceptions import Misconfigured, ProviderError, Unsupported
from providers.http import Answer
from providers.scrub import scrub
from providers.webhooks import fields

# https://developers.brevo.com/docs/how-it-works#error-codes
_ROW_IS_WRONG = {
    "unauthorized": "bad_credentials",
    "permission_denied": "bad_credentials",
    "account_under_validation": "account_pending",
    "not_enough_credits": "account_limit",
}
_BAD_RECIPIENT = re.compile(r"\bvalid\b.*\b(?:to|cc|bcc)\b|\b(?:to|cc|bcc)\b.*\bvalid\b", re.IGNORECASE)


class _Payload(ExactParts, BrevoPayload):
    pass


class BrevoBackend(AnymailBackend):
    """No inline images, an HTML body is required, types of attachments are guessed from their names."""

    type = "brevo"
    config_fields = (
        ConfigField("api_key", "API key (v3)", kind="secret", required=True),
        ConfigField("base_url", "Base URL", default="https://api.brevo.com/v3"),
        *fields.SHARED_SECRET,
    )
    root = "v3"
    max_size = 20 * 1024 * 1024
    abilities = Abilities(
        limits=Limits(total=99),
        # Not headers of the mail but orders to the service.
        refused_headers=frozenset({"accept", "api-key", "sender.ip", "idempotencykey", "idempotency-key"}),
        encodes_headers=False,  # it decodes RFC 2047 words and sends the result as bare UTF-8
        subject_required=True,
        html_required=True,
        inline=Inline.NONE,
        types=Types.BY_NAME,
        name_length=70,
    )
    esp = EmailBackend
    payload = _Payload
    credentials = ("api_key",)
    options = {"workaround_display_name_bugs": True, "prevent_header_encoding_bugs": True}

    def mail_headers(self, letter: Letter, message: OutboundMessage) -> Mapping[str, str]:
        # https://developers.brevo.com/docs/heterogenous-versions-batch-emails: kept for half an hour, which is too
        # short to call this type idempotent.
        try:
            key = str(uuid.UUID(message.idempotency_key))
        except ValueError:
            return letter.headers
        return {**letter.headers, "idempotencyKey": key}

    def ask(self) -> Answer:
        # https://developers.brevo.com/reference/get-account
        return self.client.get("account", {"api-key": self.config["api_key"], "Accept": "application/json"})

    def told(self, answer: Answer) -> str:
        body = answer.json()
        if not isinstance(body, dict) or "email" not in body:
            return ""
        relay = body.get("relay")
        if isinstance(relay, dict) and relay.get("enabled") is False:
            text = "The key is known, but transactional mail is not enabled for this account."
            raise Misconfigured(text, code="account_pending", status_code=answer.status)
        return f"Account {body.get('companyName') or body['email']}."

    def words(self, answer: Answer) -> str:
        return _error(answer)[1]

    def refused(self, answer: Answer, addressing: Addressing, message: OutboundMessage) -> SendResult:
        if _error(answer)[0] == "duplicate_parameter":
            # The same key was taken before, and only this attempt uses it.
            return SendResult.all_delivered(
                message.recipients, "", status_code=answer.status, text="Taken before under the same key."
            )
        return super().refused(answer, addressing, message)

    def refusal(self, answer: Answer, words: str) -> ProviderError:
        code = _error(answer)[0]
        if code in _ROW_IS_WRONG:
            return Misconfigured(scrub(words, self.secrets), code=_ROW_IS_WRONG[code], status_code=answer.status)
        if code == "invalid_parameter" and re.search(r"\bsender\b", words, re.IGNORECASE):
            return Unsupported(scrub(words, self.secrets), code="sender_not_verified", status_code=answer.status)
        if code == "invalid_parameter" and re.search(r"file|attachment|extension", words, re.IGNORECASE):
            return Unsupported(scrub(words, self.secrets), code="attachment_refused", status_code=answer.status)
        return super().refusal(answer, words)

    def blamed(self, answer: Answer, words: str, addressing: Addressing) -> Collection[str] | None:  # noqa: ARG002
        code = _error(answer)[0]
        return [] if code == "invalid_parameter" and _BAD_RECIPIENT.search(words) else None


def _error(answer: Answer) -> tuple[str, str]:
    body = answer.json()
    if not isinstance(body, dict):
        return "", ""
    return str(body.get("code") or ""), str(body.get("message") or "")
