"""Postal, a mail server people run themselves (https://docs.postalserver.io/developer/api)."""

from __future__ import annotations

from anymail.backends.postal import EmailBackend, PostalPayload

from providers import http
from providers.backends.anymail import AnymailBackend, ExactParts
from providers.backends.letter import Abilities, Inline, Types
from providers.backends.structured import Request
from providers.base import ConfigField, OutboundMessage, SendResult
from providers.envelope import Addressing, Limits
from providers.exceptions import Misconfigured, PermanentFailure, ProviderError, Unsupported
from providers.http import Answer
from providers.scrub import scrub
from providers.webhooks import fields

# https://apiv1.postalserver.io/controllers/send/message.html
_MEANINGS: dict[str, tuple[type[ProviderError], str]] = {
    "AccessDenied": (Misconfigured, "bad_credentials"),
    "InvalidServerAPIKey": (Misconfigured, "bad_credentials"),
    "ServerSuspended": (Misconfigured, "account_blocked"),
    "UnauthenticatedFromAddress": (Unsupported, "sender_not_verified"),
    "FromAddressMissing": (PermanentFailure, "bad_request"),
    "NoRecipients": (PermanentFailure, "bad_request"),
    "NoContent": (PermanentFailure, "bad_request"),
    "TooManyToAddresses": (PermanentFailure, "bad_request"),
    "TooManyCCAddresses": (PermanentFailure, "bad_request"),
    "TooManyBCCAddresses": (PermanentFailure, "bad_request"),
    "AttachmentMissingName": (PermanentFailure, "bad_request"),
    "AttachmentMissingData": (PermanentFailure, "bad_request"),
    "parameter-error": (PermanentFailure, "bad_request"),
}


class _Payload(ExactParts, PostalPayload):
    pass


class PostalBackend(AnymailBackend):
    """50 recipients in each list; the server writes a Message-ID of its own. Errors are told with HTTP status 200."""

    type = "postal"
    config_fields = (
        ConfigField("api_key", "API key", kind="secret", required=True, help="A credential of the mail server."),
        ConfigField("base_url", "Base URL", required=True, help="Where your Postal is, https://postal.example.com"),
        *fields.POSTAL,
    )
    # The API names none; 50 MB is what the web server of its installation guide lets through:
    # https://github.com/postalserver/install/blob/main/examples/nginx.conf
    max_size = 50 * 1024 * 1024
    abilities = Abilities(
        limits=Limits(total=150, to=50, cc=50, bcc=50, to_required=False),
        refused_headers=frozenset({"message-id"}),
        inline=Inline.NONE,
        types=Types.FULL,
    )
    esp = EmailBackend
    payload = _Payload
    credentials = ("api_key",)

    def api_url(self, base_url: str) -> str:
        return base_url.strip().rstrip("/").removesuffix("/api/v1")

    def exchange(self, request: Request, addressing: Addressing, message: OutboundMessage) -> SendResult:
        answer = self.client.post(request.path, request.body, request.headers)
        if 200 <= answer.status < 300 and not _error(answer):
            return self.accepted(answer, request, message)
        return self.refused(answer, addressing, message)

    def ask(self) -> Answer:
        # https://apiv1.postalserver.io/controllers/messages/message.html: without an id it finds nothing.
        return self.client.get("api/v1/messages/message", {"X-Server-API-Key": self.config["api_key"]})

    def told(self, answer: Answer) -> str:
        code = _error(answer)
        if code in {"parameter-error", "MessageNotFound"}:
            return "The key is known."
        if code:
            raise self.refusal(answer, self.words(answer))
        return ""

    def words(self, answer: Answer) -> str:
        body = answer.json()
        data = body.get("data") if isinstance(body, dict) else None
        told = str(data.get("message") or "") if isinstance(data, dict) else ""
        return ": ".join(filter(None, (_error(answer), told)))

    def refusal(self, answer: Answer, words: str) -> ProviderError:
        code = _error(answer)
        if code in _MEANINGS:
            kind, name = _MEANINGS[code]
            return kind(scrub(words, self.secrets), code=name, status_code=answer.status)
        if code:  # one we do not know
            return http.temporary(answer, words, code="server_error", secrets=self.secrets)
        return super().refusal(answer, words)


def _error(answer: Answer) -> str:
    """The code of an error, `parameter-error` where it has none; "" for what is none of this service's."""
    body = answer.json()
    if not isinstance(body, dict) or body.get("status") not in {"error", "parameter-error"}:
        return ""
    data = body.get("data")
    code = data.get("code") if isinstance(data, dict) else None
    return str(code or "") or str(body["status"])
