"""MAIL and RCPT: who sends, to whom (RFC 5321 §4.1.1.2, §4.1.1.3)."""

from __future__ import annotations

import re
from functools import lru_cache

from accounts import changes
from accounts.credentials import AuthenticationFailed, Identity
from delivery import mailbox
from relay import addresses, metrics, parameters, replies
from relay.conversation import Conversation
from relay.decoder import Fault
from relay.threads import Unavailable

# A space after the colon is against the grammar and common.
_FROM = re.compile(r"FROM: *(.*)\Z", re.IGNORECASE | re.DOTALL)
_TO = re.compile(r"TO: *(.*)\Z", re.IGNORECASE | re.DOTALL)
RECIPIENT_COMMANDS_PER_RECIPIENT = 10


async def mail(talk: Conversation, argument: str) -> None:
    if not talk.session.host_name:
        talk.refuse(replies.NEED_HELO)
        return
    if talk.envelope.mail_from is not None:
        talk.refuse(replies.NESTED_MAIL)
        return
    try:
        sender, options = _mail_argument(argument)
    except _Refused as refusal:
        talk.note_refusal(reply=refusal.reply)
        talk.refuse(refusal.reply)
        return
    if talk.session.messages >= talk.site.config.max_messages_per_connection:
        talk.hang_up(replies.TOO_MANY_MESSAGES)
        return
    identity = await _identity(talk, sender)
    if identity is None:
        return
    if options.size is not None and options.size > talk.site.config.max_message_size:
        talk.log.info("message refused", reason="announced_size", size=options.size)
        metrics.refused(Fault.TOO_BIG.value)
        talk.note_refusal(Fault.TOO_BIG.value, replies.MESSAGE_TOO_BIG, mail_from=sender, size=options.size)
        talk.refuse(replies.MESSAGE_TOO_BIG)
    elif not talk.site.handler.sender_allowed(identity, sender):
        talk.log.info("message refused", reason="sender_not_allowed", mail_from=sender)
        metrics.refused("sender_not_allowed")
        talk.note_refusal("sender_not_allowed", replies.SENDER_NOT_ALLOWED, mail_from=sender)
        talk.refuse(replies.SENDER_NOT_ALLOWED)
    elif options.size is not None and (too_large := await _too_large(talk, identity, sender, options.size)):
        talk.refuse(too_large)
    else:
        talk.envelope.identity = identity
        talk.envelope.mail_from = sender
        talk.envelope.smtp_utf8 = options.smtputf8
        talk.reply(replies.SENDER_OK)


async def _too_large(talk: Conversation, identity: Identity, sender: str, size: int) -> bytes:
    """The reply to a size that none of the account's providers takes; b"" when one may (PRV-8)."""
    talk.deadline.suspend()
    refusal = await talk.site.handler.size_refusal(identity, size)
    if refusal is None:
        return b""
    talk.log.info("message refused", reason=refusal.code, size=size)
    metrics.refused(refusal.code)
    reply = replies.refused(refusal)
    talk.note_refusal(refusal.code, reply, mail_from=sender, size=size)
    return reply


async def rcpt(talk: Conversation, argument: str) -> None:
    envelope, limit = talk.envelope, talk.site.config.max_recipients
    if envelope.mail_from is None:
        talk.refuse(replies.NEED_MAIL)
        return
    envelope.recipient_commands += 1
    if envelope.recipient_commands > limit * RECIPIENT_COMMANDS_PER_RECIPIENT:
        talk.hang_up(replies.TOO_MANY_RECIPIENT_COMMANDS)
        return
    try:
        recipient = _rcpt_argument(argument, smtputf8=envelope.smtp_utf8)
    except _Refused as refusal:
        # One bad address of many must not end a connection, so these are not counted as errors.
        talk.note_refusal(reply=refusal.reply, recipient=argument.partition(":")[2].strip())
        talk.reply(refusal.reply)
        return
    if len(envelope.rcpt_tos) >= limit:
        talk.note_refusal(reply=replies.TOO_MANY_RECIPIENTS)
        talk.reply(replies.TOO_MANY_RECIPIENTS)
        return
    envelope.rcpt_tos.append(recipient)
    talk.reply(replies.RECIPIENT_OK)


class _Refused(Exception):
    def __init__(self, reply: bytes) -> None:
        super().__init__(reply)
        self.reply = reply


@lru_cache(maxsize=1024)  # an application sends as the same few senders; what it may not say raises and is not kept
def _mail_argument(argument: str) -> tuple[str, parameters.MailParameters]:
    match = _FROM.match(argument)
    if match is None:
        raise _Refused(replies.SYNTAX_MAIL)
    try:
        path = addresses.split_path(match[1])
        options = parameters.for_mail(path.parameters)
        if path.address:
            mailbox.check_mailbox(path.address)
    except mailbox.MalformedAddress as error:
        raise _Refused(replies.BAD_SENDER_SYNTAX) from error
    except parameters.BadParameter as error:
        raise _Refused(replies.BAD_PARAMETER) from error
    except parameters.UnknownParameter as error:
        raise _Refused(replies.UNKNOWN_PARAMETER) from error
    if not options.smtputf8 and not path.address.isascii():
        raise _Refused(replies.SMTPUTF8_REQUIRED)
    return path.address, options


def _rcpt_argument(argument: str, *, smtputf8: bool) -> str:
    match = _TO.match(argument)
    if match is None:
        raise _Refused(replies.SYNTAX_RCPT)
    try:
        path = addresses.split_path(match[1])
        if path.parameters:
            parameters.split(path.parameters)
            raise _Refused(replies.UNKNOWN_PARAMETER)
        if path.address.lower() == "postmaster":
            raise _Refused(replies.UNQUALIFIED_POSTMASTER)
        mailbox.check_mailbox(path.address)
    except mailbox.MalformedAddress as error:
        raise _Refused(replies.BAD_RECIPIENT_SYNTAX) from error
    except parameters.BadParameter as error:
        raise _Refused(replies.BAD_PARAMETER) from error
    if not smtputf8 and not path.address.isascii():
        raise _Refused(replies.SMTPUTF8_REQUIRED)
    return path.address


async def _identity(talk: Conversation, sender: str) -> Identity | None:
    """Who sends: by AUTH, or by the client's address alone (SMTP-13). None when that was answered already."""
    session = talk.session
    if not session.must_ask(talk.loop.time()):
        return session.identity or session.network_identity
    talk.deadline.suspend()
    now, mark = talk.loop.time(), changes.mark()
    try:
        if session.identity is not None:
            session.identity = await talk.site.handler.authenticated_still(session.identity, session.client_ip)
        else:
            session.network_identity = await talk.site.handler.identify(session.client_ip)
    except AuthenticationFailed as failure:
        talk.log.warning("login ended", reason=failure.code)
        talk.note_refusal(failure.code, replies.LOGIN_ENDED, mail_from=sender)
        talk.hang_up(replies.LOGIN_ENDED)
        return None
    except Unavailable as problem:
        talk.log.error("client not identified", reason=str(problem))
        talk.reply(replies.TRY_LATER)
        return None
    except Exception:
        talk.log.exception("client not identified", reason="internal")
        talk.reply(replies.TRY_LATER)
        return None
    identity = session.identity or session.network_identity
    if identity is None:
        encrypted = talk.site.tls is None or session.tls_description
        reply = replies.AUTHENTICATION_REQUIRED if encrypted else replies.STARTTLS_REQUIRED
        talk.note_refusal(reply=reply, mail_from=sender)
        talk.refuse(reply)
        return None
    session.identified(now, mark)
    return identity
