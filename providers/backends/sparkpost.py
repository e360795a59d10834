"""SparkPost, now Bird (https://developers.sparkpost.com/api/transmissions/): the message as RFC 822 content."""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from email.errors import MessageError
from email.header import decode_header, make_header
from typing import Any

from providers import http
from providers.backends.structured import Request, StructuredBackend
from providers.base import (
    Backend,
    ConfigField,
    Mailbox,
    OutboundMessage,
    RecipientResult,
    RecipientStatus,
    SendResult,
)
from providers.envelope import Addressing, ascii_address, same
from providers.exceptions import Misconfigured, ProviderError, TemporaryFailure, Unsupported
from providers.fidelity import LOSSLESS, Fidelity, Verdict
from providers.http import Answer
from providers.scrub import scrub
from providers.sevenbit import REENCODED, seven_bit
from providers.webhooks import fields
from providers.wire import header_of, is_signed, needs_smtputf8

TEMPLATE = "header: braces written in the service's template language"

_BRACES = re.compile(rb"\{{2,}|\}{2,}")
_NO_MACRO = re.compile(rb"(?<!\{)\{\}{2}|\{{2}\}(?!\})")
"""A single brace beside a macro would be read as part of it, and there is no macro for a single brace."""
# https://developers.sparkpost.com/api/template-language/#header-braces-macros
_MACROS = {
    b"{{": b"{{opening_double_curly()}}",
    b"}}": b"{{closing_double_curly()}}",
    b"{{{": b"{{opening_triple_curly()}}",
    b"}}}": b"{{closing_triple_curly()}}",
}
_ENCODED_WORD = re.compile(rb"=\?[^?\s]+\?[bq]\?[^?]*\?=", re.IGNORECASE)

# https://support.sparkpost.com/docs/tech-resources/extended-error-codes
_MEANINGS: dict[str, tuple[type[ProviderError], str]] = {
    "1303": (Misconfigured, "bad_credentials"),
    "1304": (Misconfigured, "bad_credentials"),
    "1601": (Misconfigured, "account_limit"),  # no licence
    "1902": (Unsupported, "refused"),  # message generation rejected
    "3000": (Unsupported, "template_syntax"),
    "3001": (Unsupported, "template_syntax"),
    "3002": (Unsupported, "bad_mime"),  # invalid header
    "3010": (Unsupported, "bad_mime"),
    "3020": (Unsupported, "bad_mime"),  # "rejected if SparkPost cannot parse the contents into a MIME tree"
    "3040": (Unsupported, "bad_mime"),
    "3050": (Unsupported, "bad_mime"),
    "7000": (Unsupported, "sender_refused"),  # sending domain blocked
    "7001": (Unsupported, "sender_not_verified"),
}
_TEMPORARY = frozenset({"1500", "1501", "1502", "1900"})
_NO_RECIPIENT = frozenset({"5002"})
_RECIPIENT = re.compile(r"\brecipient|address\.email|suppress", re.IGNORECASE)


class SparkPostBackend(StructuredBackend):
    """Recipients are given apart; no To header is built for RFC 822 content
    (https://developers.sparkpost.com/api/recipient-lists/#header-address-object).

    The content is a JSON string, and 8-bit parts are encoded anew by the service, so that this is a 7-bit route.
    Substitutions in the body are turned off; those in top-level header fields cannot be.
    """

    type = "sparkpost"
    config_fields = (
        ConfigField("api_key", "API key", kind="secret", required=True, help="Needs Transmissions: Read/Write."),
        ConfigField(
            "base_url",
            "Base URL",
            default="https://api.sparkpost.com",
            help="https://api.eu.sparkpost.com for accounts in the EU.",
        ),
        ConfigField(
            "return_path",
            "Return path",
            help="Envelope sender, at a verified bounce domain. Empty: the account's default.",
        ),
        ConfigField(
            "tracking",
            "Let SparkPost track opens and clicks",
            kind="bool",
            default=False,
            help="Tracking rewrites links and adds an image, so that messages do not arrive as they were written.",
        ),
        *fields.SHARED_SECRET,
    )
    root = "api/v1"
    takes_raw = True
    max_recipients = 1000
    max_size = 20 * 1024 * 1024  # "The transmission content … is limited to 20 MBs."

    def split(self, message: OutboundMessage) -> list[tuple[str, ...]]:
        return Backend.split(self, message)

    def verdict(self, message: OutboundMessage) -> Verdict:
        if self.config["tracking"]:
            return Verdict.mapped(("links: rewritten by tracking",), broken=is_signed(message.raw))
        changed = []
        if not message.raw.isascii():
            changed.append(REENCODED)
        if _BRACES.search(header_of(message.raw)):
            changed.append(TEMPLATE)
        return Verdict(Fidelity.MAPPED, tuple(changed)) if changed else LOSSLESS

    def send(self, message: OutboundMessage) -> SendResult:
        if needs_smtputf8(message):
            raise Unsupported("SparkPost does not offer SMTPUTF8.", code="smtputf8_required")
        boxes = tuple(Mailbox("", ascii_address(recipient)) for recipient in message.recipients)
        tracking = self.config["tracking"]
        payload: dict[str, Any] = {
            "options": {
                "open_tracking": tracking,
                "click_tracking": tracking,
                "transactional": True,  # others get a List-Unsubscribe field
                "perform_substitutions": False,
            },
            "recipients": [{"address": {"email": box.address}} for box in boxes],
            "content": {"email_rfc822": _content(message.raw)},
        }
        if self.config["return_path"]:
            payload["return_path"] = self.config["return_path"]
        headers = {**self._login(), "Content-Type": "application/json"}
        request = Request("transmissions", json.dumps(payload).encode("ascii"), headers)
        return self.exchange(request, Addressing(boxes), message)

    def ask(self) -> Answer:
        # https://developers.sparkpost.com/api/account/#account-get-retrieve-account-information
        return self.client.get("account", self._login())

    def told(self, answer: Answer) -> str:
        results = _results(answer)
        if "status" not in results:
            return ""
        told = f"Account {results.get('company_name') or ''}: {results['status']}."
        if results["status"] in {"suspended", "terminated"}:
            raise Misconfigured(scrub(told, self.secrets), code="account_blocked", status_code=answer.status)
        return told

    def accepted(self, answer: Answer, request: Request, message: OutboundMessage) -> SendResult:  # noqa: ARG002
        results = _results(answer)
        id_, refused = results.get("id"), results.get("total_rejected_recipients", 0)
        taken = results.get("total_accepted_recipients", len(message.recipients))
        if not isinstance(id_, str) or not id_ or not isinstance(taken, int) or not isinstance(refused, int):
            raise self.unreadable(answer)
        id_ = scrub(id_, self.secrets)
        if not refused:
            return SendResult.all_delivered(message.recipients, id_, status_code=answer.status, text=answer.reason)
        words = "; ".join(_told(error) for error in _list(results.get("rcpt_to_errors")))
        named = {r for r in message.recipients if same(r) in words.lower()}
        if not taken:
            named = set(message.recipients)
        if len(named) != refused:
            raise TemporaryFailure(
                f"SparkPost refused {refused} of {len(message.recipients)} recipients and does not say which.",
                code="partial",
                status_code=answer.status,
                outcome_unknown=True,
            )
        done = RecipientResult(RecipientStatus.DELIVERED, id_)
        bad = RecipientResult(RecipientStatus.FAILED, code="bad_recipient", text=scrub(words, self.secrets))
        return SendResult({r: bad if r in named else done for r in message.recipients}, id_, answer.status)

    def words(self, answer: Answer) -> str:
        return "; ".join(f"{_told(error)} ({error.get('code')})" for error in _errors(answer))

    def refusal(self, answer: Answer, words: str) -> ProviderError:
        if answer.status == 420:  # https://developers.sparkpost.com/api/transmissions/#header-sending-limits
            return http.temporary(answer, words, code="quota", secrets=self.secrets)
        codes = [str(error.get("code")) for error in _errors(answer)]
        if _TEMPORARY.intersection(codes):
            return http.temporary(answer, words, code="server_error", secrets=self.secrets)
        if answer.status == 403 and "suspend" in words.lower():
            return Misconfigured(scrub(words, self.secrets), code="account_blocked", status_code=403)
        for code in codes:
            if code in _MEANINGS and answer.status < 500:
                kind, name = _MEANINGS[code]
                return kind(scrub(words, self.secrets), code=name, status_code=answer.status)
        return super().refusal(answer, words)

    def blamed(self, answer: Answer, words: str, addressing: Addressing) -> Collection[str] | None:  # noqa: ARG002
        codes = {str(error.get("code")) for error in _errors(answer)}
        if codes & _NO_RECIPIENT or (codes & {"1300", "1400", "1902"} and _RECIPIENT.search(words)):
            return []
        return None

    def _login(self) -> dict[str, str]:
        return {"Authorization": self.config["api_key"]}


def _content(raw: bytes) -> str:
    """The message in ASCII, its header so that template expressions come out as they were written."""
    raw = seven_bit(raw)
    header = header_of(raw)
    if any(_BRACES.search(found) for found in _decoded(header)):
        # They are looked for in encoded words, too; what becomes of these is not documented.
        raise Unsupported("SparkPost would read an encoded header field as a template.", code="template_syntax")
    if _BRACES.search(header):
        if is_signed(raw) or _NO_MACRO.search(header):
            raise Unsupported("SparkPost would read a header field as a template.", code="template_syntax")
        raw = _BRACES.sub(_macros, header) + raw[len(header) :]
    return raw.decode("ascii")


def _macros(braces: re.Match[bytes]) -> bytes:
    """A run of braces as macros: twos, and a three where the number is odd."""
    run = braces[0]
    first = run[: 2 + len(run) % 2]
    return _MACROS[first] + _MACROS[run[:2]] * ((len(run) - len(first)) // 2)


def _decoded(header: bytes) -> list[bytes]:
    """What the encoded words of a header say."""
    found = []
    for word in _ENCODED_WORD.findall(header):
        try:
            found.append(str(make_header(decode_header(word.decode("ascii")))).encode("utf-8", "replace"))
        except (LookupError, ValueError, MessageError):
            continue  # the service cannot read it either
    return found


def _results(answer: Answer) -> dict[str, Any]:
    body = answer.json()
    results = body.get("results") if isinstance(body, dict) else None
    return results if isinstance(results, dict) else {}


def _errors(answer: Answer) -> list[dict[str, Any]]:
    body = answer.json()
    return _list(body.get("errors")) if isinstance(body, dict) else []


def _list(value: Any) -> list[dict[str, Any]]:
    return [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []


def _told(error: dict[str, Any]) -> str:
    return ": ".join(str(error[name]) for name in ("message", "description") if error.get(name))
