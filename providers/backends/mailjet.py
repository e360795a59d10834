"""Mailjet, Send API v3.1 (https://dev.mailjet.com/email/reference/send-emails#v3_1_post_send)."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any

import urllib3
from anymail.backends.mailjet import EmailBackend, MailjetPayload

from providers.backends.anymail import AnymailBackend, ExactParts
from providers.backends.letter import Abilities, Types
from providers.base import ConfigField
from providers.envelope import Addressing, Limits
from providers.exceptions import Misconfigured, ProviderError, Unsupported
from providers.http import Answer, HttpClient
from providers.scrub import scrub
from providers.webhooks import fields

_RECIPIENT_FIELD = re.compile(r"(To|Cc|Bcc)\[(\d+)\](?:\.Email)?")

# https://dev.mailjet.com/email/guides/send-api-v31/#add-email-headers
_REFUSED_HEADERS = frozenset(
    {"message-id", "list-id", "user-agent", "x-mailer", "delivered-to", "domainkey-status", "received-spf"}
    | {"authentication-results", "x-csa-complaints", "x-feedback-id", "x-mailjet-campaign", "x-mailjet-debug"}
    | {"x-mailjet-deduplicatecampaign", "x-mailjet-prio", "x-mailjet-segmentation", "x-mailjet-trackclick"}
    | {"x-mailjet-trackopen", "x-mj-customid", "x-mj-errormessage", "x-mj-eventpayload", "x-mj-mid"}
    | {"x-mj-statisticscontactslistid", "x-mj-templateerrordeliver", "x-mj-templateerrorreporting"}
    | {"x-mj-templateid", "x-mj-templatelanguage", "x-mj-vars", "x-mj-workflowid"}
)


class _Payload(ExactParts, MailjetPayload):
    pass


class MailjetBackend(AnymailBackend):
    """At most 50 recipients and 15 MB."""

    type = "mailjet"
    config_fields = (
        ConfigField("api_key", "API key", kind="secret", required=True),
        ConfigField("secret_key", "Secret key", kind="secret", required=True),
        ConfigField("base_url", "Base URL", default="https://api.mailjet.com/v3.1"),
        *fields.SHARED_SECRET,
    )
    root = "v3.1"
    max_size = 15 * 1024 * 1024
    abilities = Abilities(
        limits=Limits(total=50, utf8_local_part=True), refused_headers=_REFUSED_HEADERS, types=Types.BARE
    )
    esp = EmailBackend
    payload = _Payload
    credentials = ("api_key", "secret_key")

    def api_url(self, base_url: str) -> str:
        return super().api_url(base_url.strip().rstrip("/").removesuffix("/v3"))

    def ask(self) -> Answer:
        # https://dev.mailjet.com/email/reference/sender-addresses-and-domains/sender/: beside the Send API, not below
        # it, and open to every key.
        client = HttpClient(self.client.base_url.removesuffix("v3.1/"), timeout=self.timeout)
        basic = urllib3.make_headers(basic_auth=f"{self.config['api_key']}:{self.config['secret_key']}")
        try:
            return client.get("v3/REST/sender?Limit=1000", basic)
        finally:
            client.close()

    def told(self, answer: Answer) -> str:
        body = answer.json()
        senders = body.get("Data") if isinstance(body, dict) else None
        if not isinstance(senders, list):
            return ""
        active = [str(row.get("Email")) for row in senders if isinstance(row, dict) and row.get("Status") == "Active"]
        if not active:
            text = "The keys are known, but the account has no active sender."
            raise Misconfigured(text, code="account_pending", status_code=answer.status)
        return f"The keys are known; active senders: {', '.join(active)}."

    def words(self, answer: Answer) -> str:
        return "; ".join(
            f"{error.get('ErrorMessage') or ''} ({error.get('ErrorCode') or 'no code'})" for error in _errors(answer)
        )

    def refusal(self, answer: Answer, words: str) -> ProviderError:
        if any(error.get("ErrorCode") == "send-0008" for error in _errors(answer)):
            # "… is not an authorized sender email address for your account"
            return Unsupported(scrub(words, self.secrets), code="sender_not_verified", status_code=answer.status)
        return super().refusal(answer, words)

    def blamed(self, answer: Answer, words: str, addressing: Addressing) -> Collection[str] | None:  # noqa: ARG002
        if answer.status != 400:
            return None
        related = [str(field) for error in _errors(answer) for field in _list(error.get("ErrorRelatedTo"))]
        matches = [match for field in related if (match := _RECIPIENT_FIELD.search(field))]
        if not matches:
            return None
        lists = {"To": addressing.to, "Cc": addressing.cc, "Bcc": addressing.bcc}
        return [box.address for match in matches for box in lists[match[1]][int(match[2]) : int(match[2]) + 1]]


def _errors(answer: Answer) -> list[dict[str, Any]]:
    """The errors of the one message of the call, or the one of the whole call."""
    body = answer.json()
    if not isinstance(body, dict):
        return []
    if "ErrorMessage" in body:
        return [body]
    return [
        error
        for message in _list(body.get("Messages"))
        if isinstance(message, dict)
        for error in _list(message.get("Errors"))
        if isinstance(error, dict)
    ]


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
