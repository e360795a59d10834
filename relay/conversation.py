"""One connection: reading lines, gathering replies, deadlines, TLS and the end. What the commands stand on."""

from __future__ import annotations

import asyncio
import ssl

import structlog
from aiosmtpd.smtp import SMTP

from delivery.refusals import Refusal
from relay import replies
from relay.deadline import Deadline
from relay.lines import Input, LineTooLong
from relay.session import ClientSession, Transaction
from relay.site import Site

log = structlog.get_logger(__name__)

BUFFERED = 128 * 1024  # octets; asyncio stops reading from a client at twice this
LINGER = 3.0  # seconds a closing connection has to take our last words


class Conversation(SMTP):
    """aiosmtpd's stream protocol and its session and envelope classes, with the reading and writing done our way.

    Its constructor is passed over: it looks through both classes for hooks by name, for every connection. None of its
    commands can be reached, since `protocol.py` names the ones that exist.
    """

    session: ClientSession
    envelope: Transaction

    def __init__(self, site: Site, client_ip: str, *, loop: asyncio.AbstractEventLoop) -> None:
        reader = asyncio.StreamReader(limit=BUFFERED, loop=loop)
        asyncio.StreamReaderProtocol.__init__(self, reader, self._cb_client_connected, loop)
        self.loop = loop
        self.site = site
        self.session = ClientSession(loop, client_ip)
        self.envelope = Transaction()
        self.input = Input(reader)
        self.deadline = Deadline(loop, self._expired)
        self.lost = loop.create_future()
        self.stopping = False
        self.receiving = False  # inside DATA, where what comes in is not commands
        self.log = log.bind(session_id=self.session.session_id, client_ip=client_ip)
        self._replies: list[bytes] = []
        self._waiting = False
        self._line_begun = False
        self._hung_up = False
        self._cut_off: asyncio.TimerHandle | None = None

    # --- Called by the event loop ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        asyncio.StreamReaderProtocol.connection_made(self, transport)
        self.session.peer = transport.get_extra_info("peername")
        self.session.describe_tls(transport.get_extra_info("ssl_object"))

    def connection_lost(self, error: Exception | None) -> None:
        asyncio.StreamReaderProtocol.connection_lost(self, error)
        self.deadline.cancel()
        self._hung_up = True
        if self._cut_off is not None:
            self._cut_off.cancel()
        if not self.lost.done():
            self.lost.set_result(None)

    def eof_received(self) -> bool | None:
        """A client that only stops sending still gets its replies; over TLS there is no such half."""
        return asyncio.StreamReaderProtocol.eof_received(self)

    # --- Reading ---

    async def wait_for_input(self) -> None:
        """Send what has been gathered, then wait for more octets, for as long as an idle client may take."""
        await self.flush()
        if not self._line_begun:  # one octet now and then buys no more time
            self._line_begun = True
            self.deadline.set(self._patience())
        self._waiting = True
        try:
            await self.input.fill()
        finally:
            self._waiting = False

    async def line(self) -> bytes:
        """The next line, for a command that asks for one. Raises LineTooLong."""
        while (line := self.line_at_hand()) is None:
            await self.wait_for_input()
        return line

    def line_at_hand(self) -> bytes | None:
        """The next line if all of it has come. Raises LineTooLong."""
        try:
            line = self.input.line()
        except LineTooLong:
            self._line_begun = False
            raise
        if line is not None:
            self._line_begun = False
        return line

    # --- Writing ---

    def reply(self, reply: bytes) -> None:
        """Gather a reply; it goes out with the next flush."""
        self._replies.append(reply)

    def refuse(self, reply: bytes) -> None:
        """A reply to what a client should not have sent: so many of these end the connection."""
        self.session.errors += 1
        self._replies.append(reply)

    def note_refusal(
        self,
        reason: str = "",
        reply: bytes = b"",
        *,
        detail: str = "",
        username: str = "",
        mail_from: str = "",
        recipient: str = "",
        size: int | None = None,
    ) -> None:
        """Keep a row of what was refused (SMTP-18); costs no time. Without a reason it is called as the reply is."""
        session, envelope = self.session, self.envelope
        identity = envelope.identity or session.identity or session.network_identity
        sent_to = envelope.rcpt_tos
        self.site.refusals.note(
            Refusal(
                source="smtp",
                reason=reason or replies.reason(reply),
                reply=replies.told(reply) or detail,
                client_ip=session.client_ip,
                username=username or (identity.username if identity else ""),
                account_id=identity.account_id if identity else None,
                tenant_id=identity.tenant_id if identity else None,
                session_id=session.session_id,
                helo=session.host_name or "",
                tls=session.tls_description or "",
                mail_from=mail_from or envelope.mail_from or "",
                recipient=recipient or (sent_to[0] if sent_to else ""),
                recipient_count=len(sent_to),
                size=size,
            )
        )

    async def flush(self) -> None:
        """Send the gathered replies in one write; waits while the client does not read, as long as it may be idle."""
        if self._replies and not self._hung_up:
            self.deadline.set(self._patience())
            self._writer.write(b"\r\n".join([*self._replies, b""]))
            self._replies.clear()
            await self._writer.drain()

    # --- State ---

    def _patience(self) -> float:
        config = self.site.config
        return config.idle_timeout if self.session.known else config.idle_timeout_before_auth

    @property
    def over(self) -> bool:
        return self._hung_up

    def reset_transaction(self) -> None:
        self.envelope = Transaction()

    async def start_tls(self, context: ssl.SSLContext) -> None:
        """Encrypt from here on and begin anew (RFC 3207 §4.2). Raises OSError when the handshake fails."""
        await self.flush()
        self.deadline.suspend()
        self.input.discard()
        await self._writer.start_tls(context, ssl_handshake_timeout=self.site.config.idle_timeout_before_auth)
        self.session.forget_client()
        self.session.describe_tls(self._writer.get_extra_info("ssl_object"))
        self.reset_transaction()

    # --- The end ---

    def stop(self) -> None:
        """The listener goes down: an idle client is told now, another when its command has been answered."""
        self.stopping = True
        if self._waiting:
            self.hang_up(replies.SHUTTING_DOWN)

    def hang_up(self, last_words: bytes = b"") -> None:
        """Send what is gathered and `last_words`, then close; a client that does not take them is cut off soon."""
        if self._hung_up:
            return
        self._hung_up = True
        if last_words:
            self._replies.append(last_words)
        transport = self._writer.transport
        if self._replies and not transport.is_closing():
            self._writer.write(b"\r\n".join([*self._replies, b""]))
        self._replies.clear()
        self.deadline.cancel()
        self._writer.close()
        self._cut_off = self.loop.call_later(LINGER, transport.abort)

    def abort(self) -> None:
        """Cut the connection now."""
        self._hung_up = True
        if not self.lost.done():
            self._writer.transport.abort()

    def let_go(self) -> None:
        """Undo the references in a circle, so that an ended connection's memory does not wait for the collector."""
        self.deadline.forget()
        self._client_connected_cb = None
        del self._writer, self._reader, self.input

    def _expired(self) -> None:
        if self.receiving:
            words = replies.DATA_TOO_SLOW
        elif self.input.holds_bare_lf:
            words = replies.IDLE_WITHOUT_CRLF
        else:
            words = replies.IDLE_TOO_LONG
        self.log.info("client timed out", reply=words.decode())
        self.hang_up(words)
