"""Mailgun (https://documentation.mailgun.com/docs/mailgun/api-reference/send/mailgun/messages)."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any
from urllib.parse import quote

import urllib3

from providers import destinations, http
from providers.backends.form import Upload, encode
from providers.backends.letter import Abilities, Letter, Types
from providers.backends.structured import Request, StructuredBackend
from providers.base import Attachment, Backend, ConfigField, Mailbox, OutboundMessage, SendResult
from providers.envelope import Addressing, Limits, ascii_address
from providers.exceptions import Misconfigured, ProviderError, TooLarge, Unsupported
from providers.fidelity import Fidelity, Verdict
from providers.http import Answer
from providers.scrub import scrub
from providers.webhooks import fields
from providers.wire import is_signed, needs_smtputf8

MAX_OPTIONS = 16 * 1024
"""Octets of all fields that begin with `o:`, `h:` or `v:` together."""

_BAD_RECIPIENT = re.compile(r"'?\b(?:to|cc|bcc)\b'? parameter is not a valid address", re.IGNORECASE)
_LIMITED = re.compile(r"limit exceeded|try again (?:after|in|later)|too many requests", re.IGNORECASE)
_PAUSE = re.compile(r"try again (?:after|in) (\d{1,6}) seconds?", re.IGNORECASE)
_TESTING = re.compile(r"authorized recipients|for test purposes only", re.IGNORECASE)
_UNVERIFIED = re.compile(r"unverified|requires DNS|not verified", re.IGNORECASE)
_LARGE = re.compile(r"\b(?:message|body|request)\b.*\b(?:too large|too big|exceeds)", re.IGNORECASE)


class MailgunBackend(StructuredBackend):
    """The message as it is (`messages.mime`), or taken apart (`messages`).

    `to` of `messages.mime` is the envelope alone: the header fields of the MIME stay as they are, and who is named
    in `to` only is a blind copy (https://github.com/mailgun/mailgun-php/issues/81).
    """

    type = "mailgun"
    config_fields = (
        ConfigField("api_key", "API key", kind="secret", required=True, help="A sending key of the domain is enough."),
        ConfigField("domain", "Domain", required=True, check=destinations.host, help="The sending domain at Mailgun."),
        ConfigField(
            "base_url",
            "Base URL",
            default="https://api.mailgun.net",
            help="https://api.eu.mailgun.net for domains in the EU region.",
        ),
        ConfigField(
            "format",
            "Format",
            kind="choice",
            choices=("mime", "structured"),
            default="mime",
            help="mime: every message byte for byte. structured: taken apart into text, HTML and files.",
        ),
        ConfigField(
            "tracking",
            "Let Mailgun track opens and clicks",
            kind="bool",
            default=False,
            help="Tracking rewrites links and adds an image, so that messages do not arrive as they were written.",
        ),
        *fields.MAILGUN,
    )
    # "The maximum message size Mailgun supports is 25MB":
    # https://documentation.mailgun.com/docs/mailgun/user-manual/sending-messages/send-http
    max_size = 25 * 1024 * 1024
    abilities = Abilities(
        limits=Limits(total=1000),  # 400 "Too many recipients; max is 1000"
        reply_tos=1000,
        types=Types.FULL,
        forbidden_in_filename='"/\\',  # lost or misread in a form's file name
        forbidden_in_content_id='"/\\',  # which is a file name here
    )

    def __init__(self, config: Mapping[str, Any], *, timeout: float = 30.0) -> None:
        super().__init__(config, timeout=timeout)
        self.takes_raw = self.config["format"] == "mime"
        self._domain = quote(destinations.host(self.config["domain"]), safe="")
        self._login = urllib3.make_headers(basic_auth=f"api:{self.config['api_key']}")

    def api_url(self, base_url: str) -> str:
        # Both versions of the API lie below it. Mailgun shows its users https://api.mailgun.net/v3/mg.example.com.
        url = base_url.strip().rstrip("/").removesuffix(f"/{self.config['domain']}")
        return url.removesuffix("/v3").removesuffix("/v4")

    def split(self, message: OutboundMessage) -> list[tuple[str, ...]]:
        return Backend.split(self, message) if self.takes_raw else super().split(message)

    def verdict(self, message: OutboundMessage) -> Verdict:
        if not self.takes_raw:
            return super().verdict(message)
        if not self.config["tracking"]:
            return Verdict(Fidelity.LOSSLESS)
        return Verdict.mapped(("links: rewritten by tracking",), broken=is_signed(message.raw))

    def send(self, message: OutboundMessage) -> SendResult:
        if not self.takes_raw:
            return super().send(message)
        if needs_smtputf8(message):
            raise Unsupported("Mailgun does not offer SMTPUTF8.", code="smtputf8_required")
        boxes = tuple(Mailbox("", ascii_address(recipient)) for recipient in message.recipients)
        fields: list[tuple[str, str | Upload]] = [("to", box.address) for box in boxes]
        fields += self._options()
        fields.append(("message", Upload("message.eml", message.raw, "message/rfc822")))
        return self.exchange(self._form("messages.mime", fields), Addressing(boxes), message)

    def request(self, letter: Letter, message: OutboundMessage) -> Request:  # noqa: ARG002
        fields: list[tuple[str, str | Upload]] = [("from", _written(letter.sender))]
        for name, boxes in (("to", letter.addressing.to), ("cc", letter.addressing.cc), ("bcc", letter.addressing.bcc)):
            fields += [(name, _written(box)) for box in boxes]
        fields.append(("subject", letter.subject))
        fields += [(name, body) for name, body in (("text", letter.text), ("html", letter.html)) if body]
        options = self._options()
        if letter.reply_to:
            options.append(("h:Reply-To", ", ".join(map(_written, letter.reply_to))))
        options += [(f"h:{name}", value) for name, value in letter.headers.items()]
        if sum(len(name) + len(value.encode()) for name, value in options) > MAX_OPTIONS:
            raise Unsupported("Mailgun takes 16 KB of header fields.", code="headers_too_large")
        fields += options
        fields += [_file(attachment) for attachment in letter.attachments]
        return self._form("messages", fields)

    def ask(self) -> Answer:
        # https://documentation.mailgun.com/docs/mailgun/api-reference/send/mailgun/domains/get-v4-domains--name-
        return self.client.get(f"v4/domains/{self._domain}", self._login)

    def told(self, answer: Answer) -> str:
        body = answer.json()
        domain = body.get("domain") if isinstance(body, dict) else None
        if not isinstance(domain, dict):
            return ""
        told = f"Domain {domain.get('name')}: {domain.get('state')}."
        if domain.get("state") == "disabled":
            raise Misconfigured(scrub(told, self.secrets), code="account_blocked", status_code=answer.status)
        return told

    def accepted(self, answer: Answer, request: Request, message: OutboundMessage) -> SendResult:  # noqa: ARG002
        body = answer.json()
        message_id = body.get("id") if isinstance(body, dict) else None
        if not isinstance(message_id, str) or not message_id:
            if b"Mailgun Magnificent API" in answer.body:  # the greeting of a path that is none
                raise Misconfigured(
                    "Not a path of the API: wrong base URL or domain.", code="wrong_url", status_code=200
                )
            raise self.unreadable(answer)
        return SendResult.all_delivered(
            message.recipients,
            scrub(message_id, self.secrets),
            status_code=answer.status,
            text=scrub(self.words(answer) or answer.reason, self.secrets),
        )

    def words(self, answer: Answer) -> str:
        body = answer.json()
        return str(body.get("message") or "") if isinstance(body, dict) else ""

    def refusal(self, answer: Answer, words: str) -> ProviderError:
        # https://documentation.mailgun.com/docs/mailgun/quickstart-guide/responses
        status, text = answer.status, scrub(f"{answer.reason}: {words}", self.secrets)
        if status in {403, 420, 429} and (status != 403 or _LIMITED.search(words)):
            error = http.temporary(answer, words, code="throttled", secrets=self.secrets)
            pause = _PAUSE.search(words)
            if error.retry_after is None:
                error.retry_after = float(pause[1]) if pause else http.until(answer.headers.get("X-RateLimit-Reset"))
            return error
        if status in {400, 403} and _TESTING.search(words):
            return Unsupported(text, code="recipient_not_allowed", status_code=status)
        if status in {400, 403} and _UNVERIFIED.search(words):
            return Misconfigured(text, code="domain_not_verified", status_code=status)
        if status == 404 and "domain" in words.lower():
            return Misconfigured(text, code="domain_not_found", status_code=status)
        if status == 400 and _LARGE.search(words):
            return TooLarge(text, code="too_large", status_code=status)
        return super().refusal(answer, words)

    def blamed(self, answer: Answer, words: str, addressing: Addressing) -> Collection[str] | None:  # noqa: ARG002
        return [] if answer.status == 400 and _BAD_RECIPIENT.search(words) else None

    def _options(self) -> list[tuple[str, str]]:
        tracking = "yes" if self.config["tracking"] else "no"
        return [(name, tracking) for name in ("o:tracking", "o:tracking-clicks", "o:tracking-opens")]

    def _form(self, endpoint: str, fields: Iterable[tuple[str, str | Upload]]) -> Request:
        body, content_type = encode(fields)
        return Request(f"v3/{self._domain}/{endpoint}", body, {"Content-Type": content_type, **self._login})


def _written(box: Mailbox) -> str:
    """A mailbox as RFC 5322 writes it, the name in UTF-8."""
    if not box.name:
        return box.address
    name = box.name.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{name}" <{box.address}>'


def _file(attachment: Attachment) -> tuple[str, Upload]:
    parameters = [f'{name}="{value}"' for name, value in attachment.parameters.items()]
    content_type = "; ".join((attachment.content_type, *parameters))
    if attachment.inline:  # the HTML refers to it by the name of the file
        return "inline", Upload(attachment.content_id, attachment.content, content_type)
    return "attachment", Upload(attachment.filename, attachment.content, content_type)
