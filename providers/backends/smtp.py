"""Any SMTP server as smarthost (RFC 5321, RFC 6409): the bytes received are the bytes sent."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from providers import destinations
from providers.backends.smtp_session import Gone, Session, Target
from providers.backends.smtp_settings import check_login, tls_context
from providers.backends.smtp_wire import Reply, own_name
from providers.base import Backend, ConfigField, OutboundMessage, RecipientResult, RecipientStatus, SendResult
from providers.envelope import ascii_address
from providers.exceptions import (
    Misconfigured,
    PermanentFailure,
    ProviderError,
    TemporaryFailure,
    TooLarge,
    Unsupported,
)
from providers.fidelity import LOSSLESS, Fidelity, Verdict
from providers.sevenbit import REENCODED, seven_bit
from providers.wire import needs_smtputf8

MAX_IDLE_SESSIONS = 16
MAX_TRANSACTIONS = 100
"""Messages in one session; many servers begin to refuse or to delay soon after."""

_LOGIN_WANTED = frozenset({530, 534, 535, 538})
_RELAY = re.compile(r"\brelay", re.IGNORECASE)
_QUEUE_ID = re.compile(r"\b(?:queued as|queue id|id[=:])\s*<?([\w.@+/=-]+)", re.IGNORECASE)


class SmtpBackend(Backend):
    """Sessions are kept between messages; a kept one that has ended meanwhile is replaced without a word."""

    type = "smtp"
    config_fields = (
        ConfigField("host", "Host", required=True, check=destinations.host),
        ConfigField("port", "Port", kind="int", default=587, low=1, high=65535),
        ConfigField("security", "Security", kind="choice", choices=("starttls", "tls", "none"), default="starttls"),
        ConfigField("username", "User name", help="Empty: no AUTH."),
        ConfigField("password", "Password", kind="secret"),
        ConfigField(
            "allow_plaintext",
            "Send the password without encryption",
            kind="bool",
            default=False,
            help="For security none: whoever sees the traffic can read the password.",
        ),
        ConfigField("verify_certificate", "Verify the certificate", kind="bool", default=True),
        ConfigField(
            "ca_certificate",
            "CA certificate",
            kind="text",
            help="PEM text (-----BEGIN CERTIFICATE-----) to trust instead of the system's certificate authorities.",
        ),
        ConfigField("ehlo_name", "Name for EHLO", help="Empty: this host's name.", check=destinations.ehlo_name),
        ConfigField(
            "idle_seconds",
            "Keep sessions, seconds",
            kind="int",
            default=30,
            low=0,
            high=300,
            help="0 to 300; 0: a new session for each message.",
        ),
        ConfigField(
            "data_timeout",
            "Wait for the reply to a message, seconds",
            kind="int",
            default=120,
            low=30,
            high=300,
            help="30 to 300. Giving up early makes duplicates.",
        ),
    )
    takes_raw = True
    max_recipients = 100  # what every server must take (RFC 5321 §4.5.3.1.8)

    def __init__(self, config: Mapping[str, Any], *, timeout: float = 30.0) -> None:
        super().__init__(config, timeout=timeout)
        settings = self.config
        host = destinations.host(settings["host"])
        check_login(settings, host)
        self._target = Target(
            host=host,
            port=settings["port"],
            security=settings["security"],
            context=tls_context(settings["verify_certificate"], settings["ca_certificate"]),
            timeout=timeout,
            ehlo_name=destinations.ehlo_name(settings["ehlo_name"]) if settings["ehlo_name"] else own_name(),
            username=settings["username"] or "",
            password=settings["password"] or "",
        )
        self._idle: list[Session] = []
        self._lock = threading.Lock()
        self._seven_bit = False

    def verdict(self, message: OutboundMessage) -> Verdict:
        # What a server can do is known after it was met for the first time.
        if self._seven_bit and not message.raw.isascii():
            return Verdict(Fidelity.MAPPED, (REENCODED,))
        return LOSSLESS

    def send(self, message: OutboundMessage) -> SendResult:
        _check_lines(message.raw)
        session, reused = self._take()
        usable = False
        try:
            try:
                begun, addresses = self._begin(session, message)
            except Gone:
                if not reused:
                    raise
                session.close()
                session = Session(self._target)
                begun, addresses = self._begin(session, message)
            result = self._transfer(session, begun, addresses)
            usable = True
            return result
        except Gone as error:
            code = "timeout" if error.timed_out else "connection_lost"
            raise TemporaryFailure(str(error), code=code) from error
        except ProviderError:
            usable = session.reset()
            raise
        except ValueError as error:
            usable = session.reset()
            raise PermanentFailure(f"The envelope holds {error}.", code="bad_address") from error
        finally:
            if usable:
                self._give_back(session)
            else:
                session.close()

    def check_connection(self) -> str:
        session = Session(self._target)
        try:
            return session.told()
        finally:
            session.close()

    def close(self) -> None:
        with self._lock:
            sessions, self._idle = self._idle, []
        for session in sessions:
            session.close()

    # Sessions

    def _take(self) -> tuple[Session, bool]:
        """A session, and whether it was used before."""
        while True:
            with self._lock:
                session = self._idle.pop() if self._idle else None
            if session is None:
                return Session(self._target), False
            if time.monotonic() - session.last_used <= self.config["idle_seconds"]:
                return session, True
            session.close()

    def _give_back(self, session: Session) -> None:
        with self._lock:
            keep = len(self._idle) < MAX_IDLE_SESSIONS and session.transactions < MAX_TRANSACTIONS
            if keep:
                self._idle.append(session)
        if not keep:
            session.close()

    # A transaction

    def _begin(self, session: Session, message: OutboundMessage) -> tuple[OutboundMessage, tuple[str, ...]]:
        """MAIL; returns the message and the recipients as this server can be told them."""
        self._seven_bit = not session.offers("8bitmime")
        if self._seven_bit:
            # RFC 6152 §3: 8-bit content must not be sent there as it is.
            _check_smtputf8(session, message)
            message = replace(message, raw=seven_bit(message.raw))
        sender, recipients, parameters = _envelope(session, message)
        reply = session.mail(sender, parameters)
        if not reply.positive:
            raise _refused_sender(reply)
        return message, recipients

    def _unknown_here(self, reply: Reply) -> bool:
        """The server takes nothing from us, whoever the recipient is: it wants a login, or does not relay for us."""
        relay_denied = 500 <= reply.code < 600 and bool(_RELAY.search(reply.text))
        return reply.code in _LOGIN_WANTED or (relay_denied and not self._target.username)

    def _transfer(self, session: Session, message: OutboundMessage, addresses: tuple[str, ...]) -> SendResult:
        replies = dict(zip(message.recipients, session.rcpt(addresses), strict=True))
        taken = any(reply.positive for reply in replies.values())
        if not taken:
            if all(self._unknown_here(reply) for reply in replies.values()):
                first = next(iter(replies.values()))
                raise Misconfigured(str(first), code="relay_denied", status_code=first.code)
            session.reset()
            results = {r: _refused_recipient(reply, others_taken=False) for r, reply in replies.items()}
            first = next(iter(replies.values()))
            return SendResult(results, status_code=first.code, text=str(first))
        reply = session.data()
        if reply.code != 354:
            raise _refused_content(reply)
        session.content(message.raw)
        try:
            verdict = session.verdict(self.config["data_timeout"])
        except Gone as error:
            code = "timeout" if error.timed_out else "connection_lost"
            raise TemporaryFailure(
                "No reply after the message was sent in full.", code=code, outcome_unknown=True
            ) from error
        if not verdict.positive:
            raise _refused_content(verdict)
        match = _QUEUE_ID.search(verdict.text)
        done = RecipientResult(
            RecipientStatus.DELIVERED, match[1] if match else "", code=str(verdict.code), text=verdict.text
        )
        results = {
            r: done if reply.positive else _refused_recipient(reply, others_taken=True) for r, reply in replies.items()
        }
        return SendResult(results, done.provider_message_id, verdict.code, str(verdict))


def _check_lines(raw: bytes) -> None:
    """Only CRLF ends a line on the wire; anything else is read differently by different servers (SMTP smuggling)."""
    pairs = raw.count(b"\r\n")
    if raw.count(b"\n") != pairs or raw.count(b"\r") != pairs:
        raise Unsupported("The message has bare CR or LF characters, which SMTP cannot carry.", code="bare_newline")


def _envelope(session: Session, message: OutboundMessage) -> tuple[str, tuple[str, ...], list[str]]:
    """Sender, recipients and MAIL parameters for this server. Raises what it cannot take, before anything is sent."""
    sender, recipients = message.mail_from, message.recipients
    parameters: list[str] = []
    size = len(message.raw)
    if session.offers("size"):
        if session.size_limit is not None and size > session.size_limit:
            raise TooLarge(f"The server takes {session.size_limit} octets, not {size}.", code="too_large")
        parameters.append(f"SIZE={size}")
    if not message.raw.isascii():
        parameters.append("BODY=8BITMIME")
    if not all(address.isascii() for address in (sender, *recipients)) or message.smtputf8:
        if session.offers("smtputf8"):
            parameters.append("SMTPUTF8")
        else:
            _check_smtputf8(session, message)
            sender, recipients = ascii_address(sender), tuple(map(ascii_address, recipients))
    return sender, recipients, parameters


def _check_smtputf8(session: Session, message: OutboundMessage) -> None:
    if not session.offers("smtputf8") and needs_smtputf8(message):
        raise Unsupported("The server does not offer SMTPUTF8.", code="smtputf8_required")


def _refused_recipient(reply: Reply, *, others_taken: bool) -> RecipientResult:
    # RFC 5321 §4.5.3.1.10: after others were taken, 552 without more means "too many", which is temporary.
    too_many = reply.code == 552 and others_taken and reply.enhanced in {"", "5.5.3"}
    status = RecipientStatus.DEFERRED if reply.temporary or too_many else RecipientStatus.FAILED
    return RecipientResult(status, code=str(reply.code), text=reply.text)


def _refused_sender(reply: Reply) -> ProviderError:
    text, code = str(reply), reply.code
    if code in _LOGIN_WANTED:
        return Misconfigured(text, code="bad_credentials", status_code=code)
    if code == 552 or reply.enhanced in {"5.3.4", "5.2.3"}:
        return TooLarge(text, code="too_large", status_code=code)
    if reply.temporary or code == 503:
        return TemporaryFailure(text, code="deferred", status_code=code)
    return Unsupported(text, code="sender_refused", status_code=code)


def _refused_content(reply: Reply) -> ProviderError:
    text, code = str(reply), reply.code
    if code in _LOGIN_WANTED:
        return Misconfigured(text, code="bad_credentials", status_code=code)
    if code == 552 or reply.enhanced in {"5.3.4", "5.2.3"}:
        return TooLarge(text, code="too_large", status_code=code)
    if reply.temporary:
        return TemporaryFailure(text, code="deferred", status_code=code)
    return PermanentFailure(text, code="refused", status_code=code)
