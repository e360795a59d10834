"""DATA: the message, from 354 to its 250 (RFC 5321 §4.1.1.4)."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime

from accounts.ids import uuid7
from delivery import mime
from delivery.exceptions import Rejected
from delivery.spool import Spool
from delivery.submission import Accepted, Submission
from relay import metrics, replies
from relay.conversation import Conversation
from relay.decoder import DataDecoder, Fault

GRACE = 0.1  # the part of DATA_TIMEOUT a message may take before its rate counts
DISCARDED_AT_MOST = 2  # times the size limit; a client that does not stop then is cut off

_FAULT_REPLIES = {
    Fault.TOO_BIG: replies.MESSAGE_TOO_BIG,
    Fault.NUL: replies.NUL_IN_MESSAGE,
    Fault.BARE_CR: replies.BARE_LINE_END,
    Fault.BARE_LF: replies.BARE_LINE_END,
    Fault.NOT_KEPT: replies.TRY_LATER,
}


async def data(talk: Conversation, argument: str) -> None:
    problem = _not_now(talk, argument)
    if problem:
        talk.refuse(problem)
        return
    reception = Reception(talk)
    try:
        reply = await reception.run()
    finally:
        reception.close()
    talk.reset_transaction()
    talk.reply(reply)


def _not_now(talk: Conversation, argument: str) -> bytes:
    if talk.envelope.mail_from is None:
        return replies.NEED_MAIL
    if not talk.envelope.rcpt_tos:
        return replies.NO_VALID_RECIPIENTS if talk.envelope.recipient_commands else replies.NEED_RCPT
    return replies.NO_PARAMETERS_ALLOWED if argument else b""


class Reception:
    """One message on its way in."""

    def __init__(self, talk: Conversation) -> None:
        config = talk.site.config
        self._talk = talk
        self._message_id = uuid7()
        self._received_at = datetime.now(UTC)
        self._began = talk.loop.time()
        self._decoder = DataDecoder(config.max_message_size, normalise_bare_lf=config.bare_lf == "normalise")
        self._spool = Spool(config.spool_threshold, config.spool_path)
        self._handed_over = False

    async def run(self) -> bytes:
        """Receive the message and have it accepted; the reply to give. Raises when the client goes away."""
        talk = self._talk
        talk.reply(replies.START_MAIL_INPUT)
        self._spool.write(self._trace_field())
        talk.receiving = True
        await self._receive()
        talk.receiving = False
        talk.deadline.suspend()
        reply = await self._judge()
        if reply is None:
            return await self._accept()
        talk.log.info("message refused", reason=reply.decode(), size=self._decoder.size)
        fault = self._decoder.fault
        reason = "loop" if fault is None else fault.value
        metrics.refused(reason)
        talk.note_refusal(reason, reply, size=self._decoder.size)
        talk.session.errors += reply.startswith(b"5")
        return reply

    def close(self) -> None:
        """Let go of the body, unless acceptance has it, which then does so itself."""
        if not self._handed_over:
            self._spool.close()

    def _trace_field(self) -> bytes:
        talk, session, envelope = self._talk, self._talk.session, self._talk.envelope
        return mime.received_line(
            helo=session.host_name or "",
            client_ip=session.client_ip,
            hostname=talk.site.config.hostname,
            protocol=session.protocol_keyword(smtputf8=envelope.smtp_utf8),
            message_id=str(self._message_id),
            now=self._received_at,
            tls_description=session.tls_description,
            for_address=envelope.rcpt_tos[0] if len(envelope.rcpt_tos) == 1 else None,
        )

    async def _receive(self) -> None:
        talk, decoder, spool = self._talk, self._decoder, self._spool
        most = talk.site.config.max_message_size * DISCARDED_AT_MOST + talk.site.config.spool_threshold
        chunk = talk.input.take()  # sent ahead together with DATA
        while True:
            if chunk:
                piece = decoder.feed(chunk)
                if piece:
                    spool.write(piece)
                if decoder.fault is not None:
                    spool.close()
                elif spool.overfull:
                    await self._to_disk(spool.spill)
                if decoder.finished:
                    break
                if decoder.received > most:
                    talk.log.warning("message refused", reason="does_not_end", size=decoder.received)
                    metrics.refused(Fault.TOO_BIG.value)
                    talk.note_refusal(Fault.TOO_BIG.value, replies.MESSAGE_TOO_BIG, size=decoder.received)
                    talk.hang_up(replies.MESSAGE_TOO_BIG)
                    raise EOFError
            await talk.flush()
            self._set_deadline()
            chunk = await talk.input.chunk()
        talk.input.give_back(decoder.rest)
        if spool.on_disk and decoder.fault is None:
            await self._to_disk(spool.spill)

    async def _to_disk(self, work: Callable[[], object]) -> None:
        """A full disk is our failure; the rest of the message is read and thrown away (SMTP-16)."""
        self._talk.deadline.suspend()
        try:
            await self._talk.site.threads.on_disk(work)
        except OSError as error:
            self._talk.log.error("message not spooled", error=error.strerror)
            self._decoder.fault = Fault.NOT_KEPT
            self._spool.close()

    def _set_deadline(self) -> None:
        """Whole time, silence and least rate in one deadline (SMTP-11)."""
        config, now = self._talk.site.config, self._talk.loop.time()
        moment = min(self._began + config.data_timeout, now + config.idle_timeout)
        if config.data_min_rate:
            earned = self._decoder.received / config.data_min_rate
            moment = min(moment, self._began + config.data_timeout * GRACE + earned)
        self._talk.deadline.set_at(moment)

    async def _judge(self) -> bytes | None:
        """The reply to a message that is not even offered for acceptance."""
        if self._decoder.fault is not None:
            return _FAULT_REPLIES[self._decoder.fault]
        if self._spool.on_disk:
            header = await self._talk.site.threads.on_disk(self._spool.header_block)
        else:
            header = self._spool.header_block()
        most = self._talk.site.config.max_received_headers + 1  # ours is one of them
        # Counting fields costs fifty times as much as finding out that there cannot be so many.
        if header.lower().count(b"received") > most and mime.received_count(header) > most:
            return replies.LOOP_DETECTED
        return None

    async def _accept(self) -> bytes:
        talk, envelope, identity = self._talk, self._talk.envelope, self._talk.envelope.identity
        if identity is None or envelope.mail_from is None:
            raise RuntimeError("DATA without MAIL")
        submission = Submission(
            message_id=self._message_id,
            account_id=identity.account_id,
            source="smtp",
            mail_from=envelope.mail_from,
            recipients=tuple(envelope.rcpt_tos),
            body=self._spool,
            received_at=self._received_at,
            smtputf8=envelope.smtp_utf8,
            client_ip=talk.session.client_ip,
            session_id=talk.session.session_id,
        )
        started = time.monotonic()
        self._handed_over = True
        answer = await talk.site.handler.accept(submission, self._spool.close)
        facts = {
            "message_id": str(self._message_id),
            "account_id": str(identity.account_id),
            "tenant_id": str(identity.tenant_id),
            "size": self._spool.size,
            "recipients": len(submission.recipients),
            "elapsed_ms": round((time.monotonic() - started) * 1000),
        }
        talk.session.messages += 1
        if isinstance(answer, Accepted):
            talk.session.errors = 0
            talk.log.info("message accepted", **facts)
            metrics.ENQUEUED.inc()
            return replies.queued(answer.message_id)
        talk.session.errors += isinstance(answer, Rejected)
        talk.log.info("message not accepted", reason=answer.code, **facts)
        metrics.refused(answer.code)
        reply = replies.refused(answer)
        talk.note_refusal(answer.code, reply, size=self._spool.size)
        return reply
