"""Resend (https://resend.com/docs/api-reference/emails/send-email)."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

from anymail.backends.resend import EmailBackend, ResendPayload

from providers import http
from providers.backends.anymail import AnymailBackend, ExactParts
from providers.backends.letter import Abilities, Types
from providers.base import ConfigField, OutboundMessage
from providers.envelope import Addressing, Limits
from providers.exceptions import Misconfigured, ProviderError, TemporaryFailure, Unsupported
from providers.http import Answer
from providers.scrub import scrub
from providers.webhooks import fields

_BAD_RECIPIENT = re.compile(r"invalid\W+(?:to|cc|bcc)\b", re.IGNORECASE)
_KEY_IN_USE = {"invalid_idempotent_request", "concurrent_idempotent_requests"}


class _Payload(ExactParts, ResendPayload):
    pass


class ResendBackend(AnymailBackend):
    """At most 50 recipients and 40 MB; the service knows a key it has seen within 24 hours.

    It drops messages in silence whose attachments have a type that does not agree with their file name.
    """

    type = "resend"
    config_fields = (
        ConfigField("api_key", "API key", kind="secret", required=True, help="Sending access is enough."),
        ConfigField("base_url", "Base URL", default="https://api.resend.com"),
        *fields.RESEND,
    )
    max_size = 40 * 1024 * 1024
    idempotent = True  # https://resend.com/docs/dashboard/emails/idempotency-keys
    abilities = Abilities(
        limits=Limits(total=50), reply_tos=50, subject_required=True, types=Types.AGREEING, forbidden_in_filename=""
    )
    esp = EmailBackend
    payload = _Payload
    credentials = ("api_key",)
    options = {"verify_attachment_extensions": False}  # they are made to agree

    def http_headers(self, message: OutboundMessage) -> Mapping[str, str]:
        return {"Idempotency-Key": message.idempotency_key}

    def check_connection(self) -> str:
        try:
            return super().check_connection()
        except Misconfigured as error:
            if "restricted_api_key" not in error.text:
                raise
            return error.text  # the key is known and may send, which is all we need

    def ask(self) -> Answer:
        # https://resend.com/docs/api-reference/domains/list-domains
        return self.client.get("domains", {"Authorization": f"Bearer {self.config['api_key']}"})

    def told(self, answer: Answer) -> str:
        body = answer.json()
        domains = body.get("data") if isinstance(body, dict) else None
        if not isinstance(domains, list):
            return ""
        named = [f"{row.get('name')} ({row.get('status')})" for row in domains if isinstance(row, dict)]
        return f"The key is known; domains: {', '.join(named) or 'none'}."

    def words(self, answer: Answer) -> str:
        name, text = _error(answer)
        return f"{text} ({name})" if name else text

    def refusal(self, answer: Answer, words: str) -> ProviderError:
        # https://resend.com/docs/api-reference/errors
        name, _ = _error(answer)
        if answer.status == 409 and name in _KEY_IN_USE:
            return TemporaryFailure(
                scrub(words, self.secrets), code="already_taken", status_code=409, outcome_unknown=True
            )
        if name == "invalid_from_address" or (answer.status == 403 and name == "validation_error"):
            return Unsupported(scrub(words, self.secrets), code="sender_not_verified", status_code=answer.status)
        if answer.status == 429:
            code = "quota" if "quota" in name else "throttled"
            return http.temporary(answer, words, code=code, secrets=self.secrets)
        if name == "invalid_attachment":
            return Unsupported(scrub(words, self.secrets), code="attachment_refused", status_code=answer.status)
        return super().refusal(answer, words)

    def blamed(self, answer: Answer, words: str, addressing: Addressing) -> Collection[str] | None:  # noqa: ARG002
        return [] if answer.status in {400, 422} and _BAD_RECIPIENT.search(words) else None


def _error(answer: Answer) -> tuple[str, str]:
    body = answer.json()
    if not isinstance(body, dict):
        return "", ""
    return str(body.get("name") or ""), str(body.get("message") or "")
