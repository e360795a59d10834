"""Commands about the session itself: EHLO, HELO, STARTTLS, RSET, NOOP, HELP, VRFY, QUIT."""

from __future__ import annotations

import ssl

from relay import replies
from relay.conversation import Conversation


async def ehlo(talk: Conversation, argument: str) -> None:
    if not argument:
        talk.refuse(replies.SYNTAX_EHLO)
        return
    _introduce(talk, argument, extended=True)
    talk.reply(replies.ehlo(talk.site.config.hostname, extensions(talk)))


async def helo(talk: Conversation, argument: str) -> None:
    if not argument:
        talk.refuse(replies.SYNTAX_HELO)
        return
    _introduce(talk, argument, extended=False)
    talk.reply(replies.helo(talk.site.config.hostname))


def _introduce(talk: Conversation, name: str, *, extended: bool) -> None:
    talk.session.host_name = name
    talk.session.extended_smtp = extended
    talk.reset_transaction()


def extensions(talk: Conversation) -> list[str]:
    """What this connection can do at this moment (SMTP-2)."""
    offered = [f"SIZE {talk.site.config.max_message_size}", "8BITMIME", "SMTPUTF8", "PIPELINING", "ENHANCEDSTATUSCODES"]
    if talk.site.tls is not None and not talk.session.tls_description:
        offered.append("STARTTLS")
    else:
        offered.append("AUTH PLAIN LOGIN")
    return offered


async def starttls(talk: Conversation, argument: str) -> None:
    context = talk.site.tls
    if argument:
        talk.refuse(replies.NO_PARAMETERS_ALLOWED)
    elif talk.session.tls_description:
        talk.refuse(replies.TLS_ALREADY_ACTIVE)
    elif context is None:
        talk.refuse(replies.NOT_IMPLEMENTED)
    elif not talk.session.extended_smtp:
        talk.refuse(replies.NEED_EHLO)
    else:
        talk.reply(replies.READY_FOR_TLS)
        try:
            await talk.start_tls(context)
        except OSError as error:  # ssl.SSLError and lost connections
            reason = getattr(error, "reason", None) or type(error).__name__
            talk.log.info("TLS handshake failed", error=reason)
            if isinstance(error, ssl.SSLError):  # a connection that went away tells nobody anything
                talk.note_refusal("tls_failed", detail=reason)
            talk.abort()


async def rset(talk: Conversation, argument: str) -> None:
    if argument:
        talk.refuse(replies.NO_PARAMETERS_ALLOWED)
        return
    talk.reset_transaction()
    talk.reply(replies.RESET)


async def noop(talk: Conversation, argument: str) -> None:  # noqa: ARG001 - NOOP takes anything
    talk.reply(replies.OK)


async def help_(talk: Conversation, argument: str) -> None:  # noqa: ARG001 - one text for all topics
    talk.reply(replies.HELP)


async def vrfy(talk: Conversation, argument: str) -> None:
    """Discloses nothing, whoever asks (SMTP-10)."""
    if argument:
        talk.reply(replies.CANNOT_VERIFY)
    else:
        talk.refuse(replies.SYNTAX_VRFY)


async def not_implemented(talk: Conversation, argument: str) -> None:  # noqa: ARG001
    talk.refuse(replies.NOT_IMPLEMENTED)


async def quit_(talk: Conversation, argument: str) -> None:
    if argument:
        talk.refuse(replies.NO_PARAMETERS_ALLOWED)
    else:
        talk.hang_up(replies.BYE)


async def not_smtp(talk: Conversation, argument: str) -> None:  # noqa: ARG001
    """A web browser, or a page that makes one talk to us: nothing that follows is meant as mail."""
    talk.log.info("not an SMTP client")
    talk.hang_up(replies.NOT_SMTP)
