"""Mailtrap, Email API (https://docs.mailtrap.io/developers/email-sending/transactional)."""

from __future__ import annotations

import re
from collections.abc import Collection

from anymail.backends.mailtrap import EmailBackend, MailtrapPayload

from providers.backends.anymail import AnymailBackend, ExactParts
from providers.backends.letter import Abilities, Types
from providers.base import ConfigField
from providers.envelope import Addressing, Limits
from providers.exceptions import Misconfigured, PermanentFailure, ProviderError, Unsupported
from providers.http import Answer
from providers.scrub import scrub
from providers.webhooks import fields

_BAD_RECIPIENT = re.compile(r"'(?:to|cc|bcc)'.*\binvalid\b", re.IGNORECASE)
_SENDER = re.compile(r"\bdomain\b|'from'.*\b(?:allowed|verified)", re.IGNORECASE)


class _Payload(ExactParts, MailtrapPayload):
    pass


class MailtrapBackend(AnymailBackend):
    """At most 1,000 recipients and 10 MB; a subject and a body are required, To is not."""

    type = "mailtrap"
    config_fields = (
        ConfigField("api_token", "API token", kind="secret", required=True, help="With access to the sending domain."),
        ConfigField(
            "base_url",
            "Base URL",
            default="https://send.api.mailtrap.io/api",
            help="https://bulk.api.mailtrap.io/api for the bulk stream.",
        ),
        *fields.MAILTRAP,
    )
    root = "api"
    # "The maximum allowed size of each email message, including attachments, is 10 MB":
    # https://help.mailtrap.io/article/100-sending-limits
    max_size = 10 * 1024 * 1024
    abilities = Abilities(
        limits=Limits(total=1000, to_required=False), reply_tos=1000, subject_required=True, types=Types.FULL
    )
    esp = EmailBackend
    payload = _Payload
    credentials = ("api_token",)

    def check_connection(self) -> str:
        try:
            return super().check_connection()
        except PermanentFailure as error:
            if error.status_code != 400:
                raise
            return f"The token is known. {error.text}"

    def ask(self) -> Answer:
        # The hosts that send know no other call. An empty message is refused, after the token was looked at.
        headers = {"Api-Token": self.config["api_token"], "Content-Type": "application/json"}
        return self.client.post("send", b"{}", headers)

    def words(self, answer: Answer) -> str:
        body = answer.json()
        errors = body.get("errors") if isinstance(body, dict) else None
        return "; ".join(map(str, errors)) if isinstance(errors, list) else str(errors or "")

    def refusal(self, answer: Answer, words: str) -> ProviderError:
        if answer.status in {400, 401, 403} and _SENDER.search(words):
            return Unsupported(scrub(words, self.secrets), code="sender_not_verified", status_code=answer.status)
        if answer.status == 403 and "suspended" in words.lower():
            return Misconfigured(scrub(words, self.secrets), code="account_blocked", status_code=403)
        return super().refusal(answer, words)

    def blamed(self, answer: Answer, words: str, addressing: Addressing) -> Collection[str] | None:  # noqa: ARG002
        return [] if answer.status == 400 and _BAD_RECIPIENT.search(words) else None
