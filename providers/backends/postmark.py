"""Postmark (https://postmarkapp.com/developer/api/email-api)."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from urllib.parse import quote

from anymail.backends.postmark import EmailBackend, PostmarkPayload

from providers import http
from providers.backends.anymail import AnymailBackend, ExactParts
from providers.backends.letter import Abilities, Letter, Types
from providers.base import ConfigField, OutboundMessage
from providers.envelope import Addressing, Limits
from providers.exceptions import Misconfigured, ProviderError, TooLarge, Unsupported
from providers.http import Answer
from providers.scrub import scrub
from providers.webhooks import fields

# https://postmarkapp.com/developer/api/overview#error-codes
_MEANINGS: dict[int, tuple[type[ProviderError], str]] = {
    10: (Misconfigured, "bad_credentials"),
    400: (Unsupported, "sender_not_verified"),  # sender signature not found
    401: (Unsupported, "sender_not_verified"),  # sender signature not confirmed
    405: (Misconfigured, "account_limit"),  # no credits
    411: (Unsupported, "attachment_refused"),  # forbidden file type; other services have other lists
    412: (Misconfigured, "account_pending"),
    413: (Misconfigured, "account_blocked"),
    1235: (Misconfigured, "bad_stream"),  # no such message stream
    1236: (Misconfigured, "bad_stream"),  # archived
}
_BAD_RECIPIENT = re.compile(r"(?:Invalid|Error\s+parsing)\s+'(?:To|Cc|Bcc)'", re.IGNORECASE)
_NAMED = re.compile(r"address:?\s*'([^']*)'")
_INACTIVE = re.compile(r"inactive addresses:\s*(.*?)\.?\s*(?:Inactive recipients|$)", re.IGNORECASE | re.DOTALL)


class _Payload(ExactParts, PostmarkPayload):
    pass


class PostmarkBackend(AnymailBackend):
    """At most 50 recipients and 10 MB after base64; a body is required, To is not."""

    type = "postmark"
    config_fields = (
        ConfigField("server_token", "Server API token", kind="secret", required=True),
        ConfigField("message_stream", "Message stream", help="Empty: the server's default transactional stream."),
        ConfigField("base_url", "Base URL", default="https://api.postmarkapp.com"),
        *fields.SHARED_SECRET,
    )
    # https://postmarkapp.com/support/article/1056-what-are-the-attachment-and-email-size-limits
    max_size = 10 * 1024 * 1024
    max_body = 5 * 1024 * 1024  # of text and of HTML each
    abilities = Abilities(limits=Limits(total=50, to_required=False), reply_tos=50, types=Types.FULL)
    esp = EmailBackend
    payload = _Payload
    credentials = ("server_token", "message_stream")
    options = {"use_bulk_api": False, "generate_message_id": False}

    def check_size(self, message: OutboundMessage) -> None:
        super().check_size(message)
        for body in (message.content.text, message.content.html):
            size = len((body or "").encode("utf-8", "replace"))
            if size > self.max_body:
                text = f"A body of the message has {size:,} octets; Postmark takes {self.max_body:,}."
                raise TooLarge(text, code="too_large")

    def mail_headers(self, letter: Letter, message: OutboundMessage) -> Mapping[str, str]:  # noqa: ARG002
        if any(name.lower() == "message-id" for name in letter.headers):
            # https://postmarkapp.com/support/article/1008: without it Postmark writes a Message-ID of its own.
            return {**letter.headers, "X-PM-KeepID": "true"}
        return letter.headers

    def ask(self) -> Answer:
        # https://postmarkapp.com/developer/api/server-api#get-server
        return self.client.get("server", self._headers)

    def told(self, answer: Answer) -> str:
        body = answer.json()
        if not isinstance(body, dict) or "Name" not in body:
            return ""
        stream = self.config["message_stream"]
        if stream:
            # https://postmarkapp.com/developer/api/message-streams-api#get-stream
            found = self.client.get(f"message-streams/{quote(stream, safe='')}", self._headers)
            if not 200 <= found.status < 300:
                text = scrub(f"Message stream {stream!r}: {self.words(found) or found.reason}", self.secrets)
                raise Misconfigured(text, code="bad_stream", status_code=found.status)
        told = f"Server {body['Name']!r}"
        if body.get("DeliveryType") == "Sandbox":
            return f"{told}: a sandbox, it delivers to nobody."
        return f"{told}, message stream {stream!r}." if stream else f"{told}."

    @property
    def _headers(self) -> dict[str, str]:
        return {"X-Postmark-Server-Token": self.config["server_token"], "Accept": "application/json"}

    def words(self, answer: Answer) -> str:
        code, text = _error(answer)
        return f"{text} (error {code})" if code else text

    def refusal(self, answer: Answer, words: str) -> ProviderError:
        code, _ = _error(answer)
        if code == 100:  # maintenance
            return http.temporary(answer, words, code="server_error", secrets=self.secrets)
        if code == 300 and re.search(r"'From'.*(?:verified|signature)", words, re.DOTALL):
            return Unsupported(scrub(words, self.secrets), code="sender_not_verified", status_code=answer.status)
        if code in _MEANINGS:
            kind, name = _MEANINGS[code]
            return kind(scrub(words, self.secrets), code=name, status_code=answer.status)
        return super().refusal(answer, words)

    def blamed(self, answer: Answer, words: str, addressing: Addressing) -> Collection[str] | None:  # noqa: ARG002
        code, text = _error(answer)
        if code == 300 and _BAD_RECIPIENT.match(text):
            return _NAMED.findall(text)
        if code == 406:  # every recipient bounced or complained before
            match = _INACTIVE.search(text)
            return [address.strip() for address in match[1].split(",")] if match else []
        return None


def _error(answer: Answer) -> tuple[int, str]:
    """Postmark's own error code, 0 when there is none, and its text."""
    body = answer.json()
    if not isinstance(body, dict):
        return 0, ""
    code = body.get("ErrorCode")
    return code if isinstance(code, int) else 0, str(body.get("Message") or "")
