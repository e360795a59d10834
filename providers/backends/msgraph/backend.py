"""Microsoft Graph: mail through mailboxes of Exchange Online (PRV-6).

Small messages go by sendMail, as MIME where the header names exactly the recipients of the call and in the structured
form otherwise; large ones by a draft to which the attachments are uploaded.
https://learn.microsoft.com/en-us/graph/api/user-sendmail
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from django.conf import settings

from providers import destinations
from providers.backends.msgraph import errors, mailboxes, mime
from providers.backends.msgraph.api import AT_ONCE, JSON, MIME, Api, unreadable
from providers.backends.msgraph.draft import Draft, not_found, take_away
from providers.backends.msgraph.letters import ABILITIES, letter_of, marked, payload, precious
from providers.backends.msgraph.settings import FIELDS, application
from providers.backends.msgraph.token import Tokens, login_url, scope_of
from providers.backends.msgraph.upload import SMALL
from providers.backends.structured import NOT_SENT
from providers.base import Attachment, Backend, OutboundMessage, RecipientResult, RecipientStatus, SendResult, Slot
from providers.envelope import groups, same
from providers.exceptions import BadSettings, PermanentFailure, ProviderError, TemporaryFailure, TooLarge
from providers.fidelity import LOSSLESS, Verdict
from providers.http import Answer, HttpClient
from providers.scrub import scrub

MAX_REQUEST = 4_000_000 - 20_000
"""Octets of a request body: "4 MB" (https://learn.microsoft.com/en-us/graph/api/user-post-messages), headers apart."""
MAX_FILE = 150 * 1024 * 1024
"""Octets of one attachment (https://learn.microsoft.com/en-us/graph/outlook-large-attachments)."""
_MB = 1024 * 1024
_DENIED = frozenset({"ErrorAccessDenied", "Authorization_RequestDenied"})


@dataclass(frozen=True, slots=True)
class _Form:
    """How a message goes: the request body with its content type, and what must be attached one by one."""

    body: bytes
    content_type: str
    files: tuple[Attachment, ...] = ()


class MsGraphBackend(Backend):
    """One application of one directory. What a send of several requests has done is kept, so that it goes on."""

    type = "msgraph"
    config_fields = FIELDS
    max_recipients = ABILITIES.limits.total
    resumes = True

    def __init__(self, config: Mapping[str, Any], *, timeout: float = 30.0) -> None:
        super().__init__(config, timeout=timeout)
        self.mailboxes = mailboxes.Mailboxes(self.config["mailbox"] or "", self.config["mailboxes"] or "")
        self.idempotent = bool(self.config["exactly_once"])
        self.keeps_sent = bool(self.config["save_to_sent_items"])
        # Of the raw message, in which files are base64 in lines of 76: 39 octets for every 28.5.
        self.max_size = round(self.config["max_message_mb"] * _MB * 1.37) + _MB
        base_url = _graph(_url("base_url", self.config["base_url"]))
        login = login_url(self.config["login_url"] or "", base_url, self.config["tenant_id"])
        self._login = HttpClient(_url("login_url", login), timeout=timeout)
        tokens = Tokens(application(self.config), self._login, scope_of(base_url), self.secrets)
        self.api = Api(base_url, tokens, timeout=timeout, secrets=self.secrets, mailbox_of_row=self.mailboxes.one)

    # Before sending

    def split(self, message: OutboundMessage) -> list[tuple[str, ...]]:
        content = message.content
        return groups(content.to, content.cc, message.recipients, ABILITIES.limits)

    def verdict(self, message: OutboundMessage) -> Verdict:
        try:
            if self._mime(message) is not None:
                return LOSSLESS
            letter = letter_of(message)
        except ProviderError:
            return Verdict.mapped(())  # nothing will be sent; `send` says why
        return Verdict.mapped(letter.lost, broken=letter.broken)

    def check_size(self, message: OutboundMessage) -> None:
        """The limit of the mailbox is for the message as Exchange keeps it, with its files not encoded."""
        limit = self.config["max_message_mb"] * _MB
        if len(message.raw) <= limit:
            return
        super().check_size(message)
        content = message.content
        files = [len(file.content) for file in content.attachments]
        size = sum(files) + sum(len(body.encode("utf-8", "replace")) for body in (content.text, content.html) if body)
        if size > limit or max(files, default=0) > MAX_FILE:
            raise TooLarge(f"The message has {size:,} octets; the mailbox takes {limit:,}.", code="too_large")

    def slots(self, message: OutboundMessage) -> tuple[Slot, ...]:
        try:
            return (Slot(self.mailboxes.of(message).lower(), AT_ONCE),)
        except ProviderError:
            return ()

    # Sending

    def send(self, message: OutboundMessage) -> SendResult:
        self.check_size(message)
        mailbox = self.mailboxes.of(message)
        form = self._form(message)
        if form.files or self.idempotent or message.progress.state.get("step"):
            return self._by_draft(message, mailbox, form)
        body = form.body
        if form.content_type == JSON:
            body = self._order(body)
        answer = self.api.call("POST", mailbox, "sendMail", body, form.content_type)
        if not 200 <= answer.status < 300:
            return self._refused(answer, message)
        if answer.headers.get("Content-Type", "").startswith("text/html"):
            # Graph's own answer is empty. This is somebody else's: a proxy, or a wrong base URL.
            raise TemporaryFailure(
                f"{answer.reason}, but not an answer of this service.",
                code="bad_answer",
                status_code=answer.status,
                outcome_unknown=True,
            )
        return self._sent(message, "", answer)

    def discard(self, state: Mapping[str, Any]) -> None:
        take_away(self.api, state)

    def _by_draft(self, message: OutboundMessage, mailbox: str, form: _Form) -> SendResult:
        draft = Draft(
            self.api,
            mailbox,
            message.progress,
            message.idempotency_key,
            create=self._draft_of(form, message),
            files=form.files,
            seconds=settings.DELIVERY_LEASE / 2,
        )
        id_, answer = draft.send()
        return self._sent(message, id_, answer)

    def _form(self, message: OutboundMessage) -> _Form:
        raw = self._mime(message)
        if raw is not None:
            return _Form(base64.b64encode(raw), MIME)
        letter = letter_of(message)
        if sum(len(file.content) for file in letter.attachments) < SMALL:
            whole = json.dumps(payload(letter, letter.attachments)).encode()
            if len(whole) <= MAX_REQUEST:
                return _Form(whole, JSON)
        body = json.dumps(payload(letter, ())).encode()
        if len(body) > MAX_REQUEST:
            raise TooLarge("The text of the message is too long for one request.", code="too_large")
        return _Form(body, JSON, letter.attachments)

    def _mime(self, message: OutboundMessage) -> bytes | None:
        """The bytes, where they may go as they are: sendMail with MIME cannot leave the copy in Sent Items out."""
        if len(message.raw) * 4 / 3 > MAX_REQUEST - 100_000:
            return None
        raw = mime.as_it_is(message, blind=self.config["bcc_header"])
        if raw is not None and not self.config["save_to_sent_items"] and not precious(letter_of(message)):
            return None
        return raw

    def _order(self, body: bytes) -> bytes:
        order: dict[str, Any] = {"Message": json.loads(body)}
        if not self.config["save_to_sent_items"]:
            order["SaveToSentItems"] = False
        return json.dumps(order).encode()

    def _draft_of(self, form: _Form, message: OutboundMessage) -> tuple[bytes, str]:
        if form.content_type == MIME:
            return form.body, MIME
        save = self.config["save_to_sent_items"]
        written = marked(json.loads(form.body), message.idempotency_key, save_to_sent_items=save)
        return json.dumps(written).encode(), JSON

    # Answers

    def _sent(self, message: OutboundMessage, id_: str, answer: Answer | None) -> SendResult:
        if answer is None:
            return SendResult.all_delivered(message.recipients, id_, text="Had been sent before.")
        request = scrub(answer.headers.get("request-id", ""))
        text = f"{answer.reason}, request-id {request}" if request else answer.reason
        return SendResult.all_delivered(message.recipients, id_, status_code=answer.status, text=text)

    def _refused(self, answer: Answer, message: OutboundMessage) -> SendResult:
        """Fail the recipients that Graph names, and put off the others; raise whatever else it is."""
        if not any(code in errors.BAD_RECIPIENT for code in errors.codes(answer)):
            raise self.api.failure(answer)
        said = errors.words(answer)
        text = scrub(f"{answer.reason}: {said}", self.secrets)
        bad = _named_in(said, message.recipients)
        if not bad:
            raise PermanentFailure(text, code="bad_recipient", status_code=answer.status)
        failed = RecipientResult(RecipientStatus.FAILED, code="bad_recipient", text=text)
        results = {recipient: failed if recipient in bad else NOT_SENT for recipient in message.recipients}
        return SendResult(results, status_code=answer.status, text=text)

    # Besides

    def fetch_sent(self, message: OutboundMessage, provider_message_id: str) -> bytes | None:
        """https://learn.microsoft.com/en-us/graph/outlook-get-mime-message"""
        path = f"messages/{quote(provider_message_id, safe='')}/$value"
        most = round(self.config["max_message_mb"] * _MB * 1.5) + _MB
        answer = self.api.whole(self.mailboxes.of(message), path, most)
        if not_found(answer):
            return None
        body = self.api.expect(answer).body
        if len(body) >= most:
            raise TooLarge("The message the service keeps is larger than it may be.", code="too_large")
        return body

    def check_connection(self) -> str:
        """Sign in and look at a mailbox, for which Mail.ReadWrite is enough; that Graph knows us but lets us look at
        nothing is what Mail.Send alone gives."""
        mailbox = self.mailboxes.example
        answer = self.api.glance(mailbox)
        if answer.status == 403 and _DENIED.intersection(errors.codes(answer)) and not (mailbox and self.idempotent):
            known = scrub(f"Signed in; {errors.words(answer)}. ", self.secrets)
            return known + "Small messages need Mail.Send, which cannot be asked about; large ones Mail.ReadWrite too."
        told = self.api.expect(answer).json()
        if not isinstance(told, Mapping) or not isinstance(told.get("value"), list):
            raise unreadable(answer)
        return f"Signed in; {mailbox or 'the directory'} can be read ({answer.reason})."

    def close(self) -> None:
        self.api.close()
        self._login.close()


def _url(name: str, text: str) -> str:
    try:
        return destinations.base_url(text)
    except ValueError as error:
        raise BadSettings({name: str(error)}) from error


def _graph(base_url: str) -> str:
    """With the version of the API, which people may leave out."""
    return base_url if base_url.endswith("/beta") else destinations.api_url(base_url, "v1.0")


def _named_in(words: str, recipients: Sequence[str]) -> set[str]:
    """The recipients named in an explanation; the only one there is, if there is only one."""
    if len({same(recipient) for recipient in recipients}) == 1:
        return set(recipients)
    said = words.lower()
    return {recipient for recipient in recipients if recipient.lower() in said or same(recipient) in said}
