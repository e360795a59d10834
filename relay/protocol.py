"""The SMTP conversation: lines in order, commands by name, replies in order."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from relay import replies
from relay.commands import auth, data, envelope, session
from relay.conversation import Conversation
from relay.lines import LineTooLong

Command = Callable[[Conversation, str], Awaitable[None]]

COMMANDS: dict[bytes, Command] = {
    b"EHLO": session.ehlo,
    b"HELO": session.helo,
    b"STARTTLS": session.starttls,
    b"AUTH": auth.auth,
    b"MAIL": envelope.mail,
    b"RCPT": envelope.rcpt,
    b"DATA": data.data,
    b"RSET": session.rset,
    b"NOOP": session.noop,
    b"HELP": session.help_,
    b"VRFY": session.vrfy,
    b"QUIT": session.quit_,
    **dict.fromkeys((b"EXPN", b"BDAT", b"ETRN", b"TURN", b"ATRN", b"SEND", b"SOML", b"SAML"), session.not_implemented),
    **dict.fromkeys((b"GET", b"POST", b"HEAD", b"PUT", b"CONNECT", b"OPTIONS"), session.not_smtp),
}
LINE_LIMIT = 512  # octets with CR LF (RFC 5321 §4.5.3.1.4)
LINE_LIMITS = {b"MAIL": 1100, b"RCPT": 1100, b"AUTH": 12_288}  # with their parameters (RFC 1870, 4954, 6152, 6531)
MAX_ERRORS = 20
MAX_COMMANDS_OF_STRANGERS = 100
TURN = 50  # commands one client may have answered before others get their turn


class SMTPProtocol(Conversation):
    """Obeys commands one after the other until somebody hangs up."""

    async def run(self) -> None:
        """The whole conversation, from the greeting to the lost connection. Raises nothing."""
        structlog.contextvars.bind_contextvars(session_id=self.session.session_id)
        try:
            self.reply(replies.greeting(self.site.config.hostname))
            await self._converse()
        except (EOFError, ConnectionError):
            self.log.debug("client went away", receiving=self.receiving)
        except Exception:
            self.log.exception("conversation failed")
            self.hang_up(replies.TRY_LATER_CLOSING)
        finally:
            self.hang_up()
            await self.lost
            self.let_go()

    async def _converse(self) -> None:
        in_turn = 0
        while not self.over:
            if self.stopping:
                self.hang_up(replies.SHUTTING_DOWN)
                return
            try:
                line = self.line_at_hand()
            except LineTooLong:
                self.refuse(replies.LINE_TOO_LONG)
            else:
                if line is None:
                    in_turn = 0
                    await self.wait_for_input()
                    continue
                await self._obey(line)
            if self._tiresome():
                self.log.warning("too many errors")
                self.hang_up(replies.TOO_MANY_ERRORS)
                return
            in_turn += 1
            if in_turn >= TURN:
                in_turn = 0
                await self.flush()
                await asyncio.sleep(0)

    def _tiresome(self) -> bool:
        """Whether the client sends nothing but nonsense, or passes the time without saying who it is."""
        session = self.session
        session.commands += 1
        return session.errors >= MAX_ERRORS or (session.commands >= MAX_COMMANDS_OF_STRANGERS and not session.known)

    async def _obey(self, line: bytes) -> None:
        verb, _, argument = line.partition(b" ")
        verb = verb.upper()
        if b"\n" in line or b"\r" in line or b"\0" in line:
            self.refuse(replies.BAD_LINE)
            return
        if len(line) + 2 > LINE_LIMITS.get(verb, LINE_LIMIT):
            self.refuse(replies.LINE_TOO_LONG)
            return
        command = COMMANDS.get(verb)
        if command is None:
            self.refuse(replies.UNKNOWN_COMMAND)
            return
        try:
            await command(self, argument.decode("utf-8", "surrogateescape").strip(" "))
        except (EOFError, ConnectionError):
            raise
        except Exception:
            if self.receiving:
                raise  # what follows is part of a message and must not be taken for commands
            self.log.exception("command failed", command=verb.decode("ascii", "replace"))
            self.reset_transaction()
            self.reply(replies.TRY_LATER)
