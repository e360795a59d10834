"""AUTH PLAIN and AUTH LOGIN (RFC 4954, RFC 4616), with initial response or challenge."""

from __future__ import annotations

from base64 import b64decode
from dataclasses import dataclass, field

from accounts import changes
from accounts.credentials import AuthenticationFailed
from relay import replies
from relay.conversation import Conversation
from relay.lines import LineTooLong
from relay.threads import Unavailable


@dataclass(frozen=True, slots=True)
class Credentials:
    """What the client says it is. `authzid` is who it wants to act for."""

    authzid: str
    username: str
    password: str = field(repr=False)


class Abandoned(Exception):
    """The exchange ended without credentials; `reply` says why."""

    def __init__(self, reply: bytes) -> None:
        super().__init__(reply)
        self.reply = reply


async def auth(talk: Conversation, argument: str) -> None:
    problem = _not_now(talk)
    if problem:
        if problem == replies.ENCRYPTION_REQUIRED:
            talk.note_refusal(reply=problem)
        talk.refuse(problem)
        return
    words = argument.split()
    if not 1 <= len(words) <= 2:
        talk.refuse(replies.SYNTAX_AUTH)
        return
    exchange = {"PLAIN": _plain, "LOGIN": _login}.get(words[0].upper())
    if exchange is None:
        talk.note_refusal(reply=replies.UNKNOWN_MECHANISM)
        talk.refuse(replies.UNKNOWN_MECHANISM)
        return
    try:
        credentials = await exchange(talk, words[1] if len(words) == 2 else None)
    except Abandoned as end:
        talk.note_refusal(reply=end.reply)
        talk.refuse(end.reply)
    except LineTooLong:
        talk.refuse(replies.AUTH_LINE_TOO_LONG)
    else:
        await _sign_in(talk, credentials)


def _not_now(talk: Conversation) -> bytes:
    if not talk.session.extended_smtp:
        return replies.NEED_EHLO
    if talk.site.tls is not None and not talk.session.tls_description:
        return replies.ENCRYPTION_REQUIRED
    if talk.session.authenticated:
        return replies.ALREADY_AUTHENTICATED
    if talk.envelope.mail_from is not None:
        return replies.AUTH_IN_TRANSACTION
    return b""


async def _plain(talk: Conversation, initial: str | None) -> Credentials:
    answer = await _ask(talk, replies.AUTH_EMPTY_CHALLENGE) if initial is None else _decode(initial)
    parts = answer.split(b"\0")
    if len(parts) != 3:
        raise Abandoned(replies.BAD_CREDENTIALS_FORM)
    return Credentials(*(_text(part) for part in parts))


async def _login(talk: Conversation, initial: str | None) -> Credentials:
    username = await _ask(talk, replies.AUTH_USERNAME_CHALLENGE) if initial is None else _decode(initial)
    password = await _ask(talk, replies.AUTH_PASSWORD_CHALLENGE)
    return Credentials("", _text(username), _text(password))


async def _ask(talk: Conversation, challenge: bytes) -> bytes:
    talk.reply(challenge)
    answer = await talk.line()
    if answer == b"*":
        raise Abandoned(replies.AUTH_CANCELLED)
    return _decode(answer.decode("ascii", "replace"))


def _decode(word: str) -> bytes:
    if word == "=":  # an empty initial response (RFC 4954 §4)
        return b""
    try:
        return b64decode(word, validate=True)
    except ValueError as error:  # also for what is not ASCII
        raise Abandoned(replies.BAD_BASE64) from error


def _text(part: bytes) -> str:
    try:
        return part.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Abandoned(replies.BAD_CREDENTIALS_FORM) from error


async def _sign_in(talk: Conversation, given: Credentials) -> None:
    client_ip, failures = talk.session.client_ip, talk.site.auth_failures
    if failures.address_blocked(client_ip):
        _log_refusal(talk, given, "too_many_failures_of_address", replies.TOO_MANY_AUTH_FAILURES)
        talk.hang_up(replies.TOO_MANY_AUTH_FAILURES)
        return
    if failures.username_blocked(given.username, client_ip):
        _log_refusal(talk, given, "too_many_failures_of_username", replies.AUTH_TEMPORARILY_REFUSED)
        talk.refuse(replies.AUTH_TEMPORARILY_REFUSED)
        return
    await talk.flush()
    talk.deadline.suspend()
    now, mark = talk.loop.time(), changes.mark()
    try:
        if given.authzid not in ("", given.username):
            raise AuthenticationFailed("acts_for_another")
        identity = await talk.site.handler.authenticate(given.username, given.password, client_ip)
    except AuthenticationFailed as failure:
        failures.failed(given.username, client_ip)
        _log_refusal(talk, given, failure.code, replies.CREDENTIALS_INVALID)
        talk.refuse(replies.CREDENTIALS_INVALID)
    except Unavailable as problem:
        talk.log.error("login deferred", reason=str(problem))
        talk.reply(replies.AUTH_UNAVAILABLE)
    except Exception:
        talk.log.exception("login deferred", reason="internal")
        talk.reply(replies.AUTH_UNAVAILABLE)
    else:
        failures.succeeded(given.username, client_ip)
        talk.session.identity = identity
        talk.session.identified(now, mark)
        talk.session.authenticated = True
        talk.log = talk.log.bind(account_id=str(identity.account_id), tenant_id=str(identity.tenant_id))
        talk.log.info("login accepted", username=identity.username)
        talk.reply(replies.AUTHENTICATED)


def _log_refusal(talk: Conversation, given: Credentials, reason: str, reply: bytes) -> None:
    """One stable line; deploy/fail2ban reads it. The username is a field of its own, so that it can forge nothing."""
    talk.log.warning(f"login refused [{talk.session.client_ip}]", reason=reason, username=given.username[:128])
    talk.note_refusal(reason, reply, username=given.username)
