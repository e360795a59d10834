"""The adapter for services that django-anymail speaks: it writes the requests and reads the answers.

The requests go through our own HTTP client, so that connections, timeouts and failures are the same for all types.
Every setting is given explicitly: nothing of `settings.ANYMAIL` is used, and two rows keep their own credentials.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any, ClassVar

import requests
import urllib3
from anymail.backends.base_requests import AnymailRequestsBackend, RequestsPayload
from anymail.exceptions import AnymailError, AnymailInvalidAddress, AnymailUnsupportedFeature
from anymail.message import AnymailMessage, AnymailRecipientStatus
from anymail.utils import Attachment as AnymailAttachment
from anymail.utils import EmailAddress, parse_address_list
from requests.structures import CaseInsensitiveDict

from providers.backends.letter import Letter, Types
from providers.backends.structured import Request, StructuredBackend
from providers.base import Attachment, Mailbox, OutboundMessage, RecipientResult, RecipientStatus, SendResult
from providers.envelope import same
from providers.exceptions import PermanentFailure, Unsupported
from providers.http import Answer
from providers.scrub import scrub

_EXPLICIT = {
    "ignore_unsupported_features": False,
    "ignore_recipient_status": True,
    "debug_api_requests": False,
    "send_defaults": {},
    "idna_encoder": "idna2008",
}
_MISSING = RecipientResult(RecipientStatus.DEFERRED, code="no_result", text="The service's answer does not mention it.")


class ExactAttachment(AnymailAttachment):
    """An attachment whose bytes are sent as they are: Anymail would decode text and encode it again as UTF-8."""

    def __init__(self, attachment: Attachment, content_type: str) -> None:
        self.name = attachment.filename
        self.content = attachment.content
        self.mimetype = attachment.content_type
        self.maintype, _, self.subtype = attachment.content_type.partition("/")
        self.charset = None
        self.content_type = content_type
        self.inline = attachment.inline
        self.content_id = f"<{attachment.content_id}>" if attachment.inline else None
        self.cid = attachment.content_id


class ExactParts:
    """Mixed into the payload class of a service: takes attachments that are ready."""

    def prepped_attachments(self, attachments: list[ExactAttachment]) -> list[ExactAttachment]:
        return attachments


class AnymailBackend(StructuredBackend):
    """Subclasses name Anymail's classes for the service, and which of our settings its backend is given."""

    esp: ClassVar[type[AnymailRequestsBackend]]
    payload: ClassVar[type[RequestsPayload]]
    credentials: ClassVar[tuple[str, ...]]
    """Names of settings, the same as the arguments of the Anymail backend."""
    options: ClassVar[Mapping[str, Any]] = {}
    """Further arguments of the Anymail backend."""

    def __init__(self, config: Mapping[str, Any], *, timeout: float = 30.0) -> None:
        super().__init__(config, timeout=timeout)
        arguments = {name: self.config[name] for name in self.credentials}
        # The object holds settings only; it opens no connection and is shared by all threads.
        self._esp = self.esp(api_url=self.client.base_url, timeout=timeout, **_EXPLICIT, **self.options, **arguments)

    def request(self, letter: Letter, message: OutboundMessage) -> Request:
        try:
            payload = self._payload(letter, message)
            written = payload.get_request_params(self._esp.api_url)
        except AnymailUnsupportedFeature as error:
            raise Unsupported(scrub(str(error.args[0]), self.secrets), code="unsupported") from None
        except AnymailInvalidAddress as error:
            raise PermanentFailure(scrub(str(error.args[0]), self.secrets), code="bad_address") from None
        headers = {"Content-Type": "application/json", **(written["headers"] or {}), **self.http_headers(message)}
        if written["auth"]:
            headers.update(urllib3.make_headers(basic_auth=":".join(written["auth"])))
        return Request(written["url"], written["data"].encode(), headers, payload)

    def accepted(self, answer: Answer, request: Request, message: OutboundMessage) -> SendResult:
        payload = request.origin
        try:
            statuses = self._esp.parse_recipient_status(_as_response(answer), payload, payload.message)
            reasons = self.reasons(answer)
            by_key = {
                same(address): self._result(status, reasons.get(same(address), ""))
                for address, status in statuses.items()
            }
        except (AnymailError, LookupError, TypeError, ValueError, AttributeError, RecursionError):
            raise self.unreadable(answer) from None
        results = {recipient: by_key.get(same(recipient), _MISSING) for recipient in message.recipients}
        first = next((result.provider_message_id for result in results.values() if result.provider_message_id), "")
        if not by_key or (not first and any(result.status is RecipientStatus.DELIVERED for result in results.values())):
            raise self.unreadable(answer)  # every service names what it takes
        return SendResult(results, first, answer.status, answer.reason)

    def _result(self, status: AnymailRecipientStatus, reason: str) -> RecipientResult:
        if status.status in {"rejected", "invalid", "failed"}:
            return RecipientResult(
                RecipientStatus.FAILED,
                code=status.status,
                text=scrub(f"{self._esp.esp_name}: {status.status}" + (f" ({reason})" if reason else ""), self.secrets),
            )
        return RecipientResult(RecipientStatus.DELIVERED, scrub(str(status.message_id or "")), code=status.status or "")

    def reasons(self, answer: Answer) -> Mapping[str, str]:  # noqa: ARG002
        """Why recipients were refused in a 2xx answer, by `same(address)`, where the service says so."""
        return {}

    def _payload(self, letter: Letter, message: OutboundMessage) -> RequestsPayload:
        email = AnymailMessage(
            subject=letter.subject,
            body=letter.text or letter.html,
            from_email=format_box(letter.sender),
            to=[format_box(box) for box in letter.addressing.to],
            cc=[format_box(box) for box in letter.addressing.cc],
            bcc=[format_box(box) for box in letter.addressing.bcc],
            reply_to=[format_box(box) for box in letter.reply_to],
            headers=dict(self.mail_headers(letter, message)),
        )
        if letter.text is None:
            email.content_subtype = "html"
        elif letter.html is not None:
            email.attach_alternative(letter.html, "text/html")
        email.attachments = [ExactAttachment(part, self.content_type(part)) for part in letter.attachments]
        if additions := self.esp_extra(letter):
            email.esp_extra = additions
        return self.payload(email, {}, self._esp)

    def http_headers(self, message: OutboundMessage) -> Mapping[str, str]:  # noqa: ARG002
        """Further headers of the request."""
        return {}

    def mail_headers(self, letter: Letter, message: OutboundMessage) -> Mapping[str, str]:  # noqa: ARG002
        """Headers of the message; some services are also told things there."""
        return letter.headers

    def esp_extra(self, letter: Letter) -> Mapping[str, Any]:  # noqa: ARG002
        """What Anymail has no name for, merged into the request."""
        return {}

    def content_type(self, attachment: Attachment) -> str:
        """The type as the service is told it."""
        if self.abilities.types not in {Types.FULL, Types.AGREEING}:
            return attachment.content_type
        return "; ".join((attachment.content_type, *(f'{k}="{v}"' for k, v in attachment.parameters.items())))


def format_box(box: Mailbox) -> str:
    """A header mailbox that Anymail reads back as the same name and address; the name is left out when it cannot."""
    for name in (box.name, box.name.replace("\\", "").replace('"', "'")):
        try:
            text = str(EmailAddress(name, box.address))
            read = [(found.display_name, found.addr_spec) for found in parse_address_list([text])]
        except AnymailInvalidAddress:
            continue
        if read == [(name, box.address)]:
            return text
    return box.address


def _as_response(answer: Answer) -> requests.Response:
    """What Anymail's parsers expect."""
    response = requests.Response()
    response.status_code = answer.status
    response.headers = CaseInsensitiveDict(answer.headers)
    response.headers["Content-Type"] = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    response.encoding = "utf-8"
    response.raw = io.BytesIO(answer.body)
    return response
