"""Trying one provider out while a person waits: its settings, or a small real message (PRV-13).

Neither goes through routing, limits or health: what is asked for is done, whatever is known of the provider.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotDone
from dataclasses import dataclass, field, replace
from datetime import datetime
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime

import structlog
from django.utils import timezone

from accounts import shared_state
from accounts.api_keys import KeyIdentity
from accounts.ids import uuid7
from accounts.tenancy import Person
from providers import connections
from providers.base import Backend, Content, Mailbox, OutboundMessage, RecipientStatus, SendResult
from providers.exceptions import ProviderError, TemporaryFailure
from providers.models import Provider
from providers.scrub import scrub

log = structlog.get_logger(__name__)

LONGEST = 30.0
"""Seconds a person waits for a trial; each wait for the network is shorter."""
NETWORK_WAIT = 10.0
PER_MINUTE = 10
"""Trials one person may make."""

_COUNT = shared_state.Script(
    "local n = redis.call('INCR', KEYS[1]) if n == 1 then redis.call('EXPIRE', KEYS[1], 60) end return n"
)


@dataclass(frozen=True, slots=True)
class Letter:
    """What is handed to a provider past the queue: plain text to one recipient."""

    sender: str
    recipient: str
    subject: str
    text: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Trial:
    """What came of one; `text` is in the provider's own words, scrubbed. `code` is the provider's or our short name
    for what went wrong, `status_code` its reply code. `verdict` tells what it does to a message, "" when none was
    sent."""

    good: bool
    text: str
    code: str = ""
    status_code: int | None = None
    duration_ms: int = 0
    verdict: str = ""
    provider_message_id: str = ""


def may_try(person: Person) -> bool:
    """Whether this person, or key, has not made too many trials in this minute; counts this one. Raises
    shared_state.Unavailable."""
    who = person.key_id if isinstance(person, KeyIdentity) else person.pk
    return int(_COUNT([shared_state.key("trial", who)])) <= PER_MINUTE


def check(provider: Provider) -> Trial:
    """Ask the service whether the settings work; nothing is sent."""
    return _tried(provider, lambda backend: Trial(True, backend.check_connection()))


def send(provider: Provider, sender: str, recipient: str, asked_by: str) -> Trial:
    """Send a small message to one recipient; its text names who asked for it and which provider it came through."""
    message = _message(provider, sender, recipient, asked_by, timezone.now())

    def run(backend: Backend) -> Trial:
        verdict = str(backend.verdict(message))
        try:
            backend.check_size(message)
            return replace(_told(backend.send(message), recipient), verdict=verdict)
        except ProviderError as failure:
            return replace(_failed(failure), verdict=verdict)

    return _tried(provider, run)


def send_letter(provider: Provider, letter: Letter) -> Trial:
    """Hand over a letter of the platform's own that must not lie in the store; no log tells what the service said, for
    it may quote the letter."""
    message = _outbound(letter, timezone.now())

    def run(backend: Backend) -> Trial:
        backend.check_size(message)
        return _told(backend.send(message), letter.recipient)

    return _tried(provider, run, quotable=False)


def _tried(provider: Provider, run: Callable[[Backend], Trial], *, quotable: bool = True) -> Trial:
    started = time.monotonic()
    try:
        backend = connections.connect(provider, timeout=NETWORK_WAIT)
    except ProviderError as failure:
        return _failed(failure)
    threads = ThreadPoolExecutor(1, thread_name_prefix="trial")
    try:
        trial = threads.submit(_run, backend, run).result(timeout=LONGEST)
    except NotDone:
        text = f"Not done after {LONGEST:.0f} seconds. A message may still arrive."
        trial = Trial(False, text, code="timeout")
    finally:
        threads.shutdown(wait=False)  # a call that is still waiting ends by its own timeouts
    trial = replace(trial, duration_ms=round((time.monotonic() - started) * 1000))
    log.info(
        "provider tried",
        provider_id=str(provider.pk),
        provider=provider.name,
        provider_type=provider.type,
        good=trial.good,
        code=trial.code,
        text=trial.text if quotable else None,
        duration_ms=trial.duration_ms,
    )
    return trial


def _run(backend: Backend, run: Callable[[Backend], Trial]) -> Trial:
    """Runs in a thread that uses no database."""
    try:
        return run(backend)
    except ProviderError as failure:
        return _failed(failure)
    except Exception as error:
        log.exception("provider backend failed", provider_type=backend.type)
        return Trial(False, f"The {backend.type} backend failed ({type(error).__name__}).", code="internal")
    finally:
        backend.close()


def _failed(failure: ProviderError) -> Trial:
    text = scrub(failure.text)
    if isinstance(failure, TemporaryFailure) and failure.outcome_unknown:
        text += " It may have taken the message all the same."
    return Trial(False, text, failure.code, failure.status_code)


def _told(result: SendResult, recipient: str) -> Trial:
    one = result.recipients.get(recipient)
    if one is None:
        return Trial(False, "No result was reported.", "no_result", result.status_code)
    good = one.status is RecipientStatus.DELIVERED
    text = scrub(one.text or result.text) or ("Taken." if good else "Not taken.")
    return Trial(good, text, one.code, result.status_code, provider_message_id=one.provider_message_id)


def _message(provider: Provider, sender: str, recipient: str, asked_by: str, now: datetime) -> OutboundMessage:
    owner = provider.tenant.name if provider.tenant else "the platform"
    text = (
        f"This is a test message of smtpproxy.\n\n{asked_by} asked for it to see whether the provider "
        f"{provider.name!r} ({provider.type}) of {owner} works. It was handed to that provider directly, without "
        f"routing rules, on {now:%Y-%m-%d at %H:%M:%S} UTC.\n\nNobody needs to answer.\n"
    )
    return _outbound(Letter(sender, recipient, f"Test of the provider {provider.name}", text), now)


def _outbound(letter: Letter, now: datetime) -> OutboundMessage:
    identifier = uuid7()
    headers = {
        "From": letter.sender,
        "To": letter.recipient,
        "Subject": letter.subject,
        "Date": format_datetime(now),
        "Message-ID": f"<{identifier}@{letter.sender.rpartition('@')[2]}>",
        "Auto-Submitted": "auto-generated",  # RFC 3834: nobody's machine answers
    }
    utf8 = not f"{letter.sender}{letter.recipient}".isascii()
    message = EmailMessage(policy=SMTP.clone(utf8=utf8))
    for name, value in headers.items():
        message[name] = value
    message.set_content(letter.text, cte="quoted-printable")
    content = Content(
        subject=headers["Subject"],
        from_=(Mailbox("", letter.sender),),
        sender=None,
        reply_to=(),
        to=(Mailbox("", letter.recipient),),
        cc=(),
        text=letter.text,
        html=None,
        attachments=(),
        headers=tuple((name, str(value)) for name, value in message.items()),
    )
    return OutboundMessage(
        message_id=str(identifier),
        idempotency_key=str(uuid.uuid4()),
        mail_from=letter.sender,
        recipients=(letter.recipient,),
        envelope_recipients=(letter.recipient,),
        raw=message.as_bytes(),
        smtputf8=utf8,
        parse=lambda _: content,
    )
