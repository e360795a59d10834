"""A message as raw MIME: kept as it was written, with one Received field in front, as by SMTP (API-2, SMTP-8)."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from delivery import mailbox, mime
from delivery import strict_json as given
from delivery.exceptions import Rejected
from delivery.letter import Limits
from delivery.mime import HeaderBlock
from delivery.spool import Spool

MOST_HEADER = 1024 * 1024
"""Octets of header looked at; a mail with more is refused rather than read in part."""


@dataclass(frozen=True, slots=True)
class Envelope:
    """Who sends, and to whom, as the request says beside the message; None where it does not."""

    mail_from: str | None = None
    recipients: list[str] | None = None

    def __post_init__(self) -> None:
        """Raises Rejected."""
        if self.mail_from:
            check("X-Mail-From", self.mail_from)
        for number, address in enumerate(self.recipients or ()):
            check(f"X-Rcpt-To[{number}]", address)


def check(where: str, address: str) -> None:
    """Raises Rejected for what is no address."""
    try:
        mailbox.check_mailbox(address)
    except mailbox.MalformedAddress:
        given.refuse("bad_address", f"{where} is no e-mail address.", where)


class Lines:
    """CR LF at the end of every line, wherever the chunks are cut. As in SMTP a lone LF becomes one, or is refused
    (`SMTP_BARE_LF`), and a lone CR or a NUL never is part of a message (SMTP-9, SMTP-10)."""

    def __init__(self, *, mends: bool) -> None:
        self._mends = mends
        self._held = b""

    def feed(self, chunk: bytes) -> bytes:
        """What is certain by now; raises Rejected."""
        data = self._held + chunk
        self._held = b"\r" if data.endswith(b"\r") else b""
        if self._held:
            data = data[:-1]
        ends = data.count(b"\r\n")
        if data.count(b"\r") != ends:
            given.refuse("bare_cr", "The message holds a CR that no LF follows.")
        if b"\0" in data:
            given.refuse("nul_octet", "The message holds a NUL octet.")
        if data.count(b"\n") == ends:
            return data
        if not self._mends:
            given.refuse("bare_lf", "The message holds an LF that no CR comes before.")
        return data.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")

    def end(self) -> None:
        """Raises Rejected when it ended with a CR."""
        if self._held:
            given.refuse("bare_cr", "The message holds a CR that no LF follows.")


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a request came from, for the Received field."""

    message_id: uuid.UUID
    client_ip: str
    hostname: str
    received_at: datetime

    def trace(self, recipients: list[str] | None) -> bytes:
        return mime.received_line(
            helo="",
            client_ip=self.client_ip,
            hostname=self.hostname,
            protocol="HTTP",
            message_id=str(self.message_id),
            now=self.received_at,
            for_address=recipients[0] if recipients is not None and len(recipients) == 1 else None,
        )


def spool(chunks: Iterable[bytes], limits: Limits, envelope: Envelope, origin: Origin, *, mends: bool) -> Received:
    """The message that comes in these chunks, on disk where it is large. Whoever gets it closes its body; raises
    Rejected and OSError, with nothing left open."""
    body, lines, hashed = limits.spool(), Lines(mends=mends), hashlib.sha256()
    try:
        body.write(origin.trace(envelope.recipients))
        before = body.size
        for chunk in chunks:
            hashed.update(chunk)
            body.write(lines.feed(chunk))
            limits.check_size(body.size - before)
            if body.overfull:
                body.spill()
        lines.end()
        if body.size == before:
            given.refuse("malformed", "There is no message.")
        if body.on_disk:
            body.spill()
        return Received(body, hashed.hexdigest(), envelope)
    except BaseException:
        body.close()
        raise


class Received:
    """A whole message and its envelope, which its header tells where the request does not."""

    def __init__(self, body: Spool, digest: str, envelope: Envelope) -> None:
        header = body.header_block()
        if len(header) > MOST_HEADER:
            given.refuse("header_too_large", f"The header has more than {MOST_HEADER:,} octets.")
        self.body = body
        self.header = mime.read_header(header)
        self.hops = mime.received_count(header) if header.lower().count(b"received") > 1 else 1
        self._digest = digest
        self._envelope = envelope

    @property
    def fingerprint(self) -> str:
        """The same for the same octets and the same envelope."""
        told = (self._digest, self._envelope.mail_from, *(self._envelope.recipients or ()))
        return hashlib.sha256(repr(told).encode()).hexdigest()

    @property
    def mail_from(self) -> str:
        """The address of Sender, or the first of From, where the request says nothing."""
        if self._envelope.mail_from is not None:
            return self._envelope.mail_from
        found = self._addresses("sender") or self._addresses("from")
        if not found:
            raise Rejected("From has no address that can be read.", code="no_from", status="5.6.0")
        return found[0]

    @property
    def recipients(self) -> list[str]:
        """Those of To, Cc and Bcc, where the request says nothing."""
        if self._envelope.recipients is not None:
            return self._envelope.recipients
        return [address for name in ("to", "cc", "bcc") for address in self._addresses(name)]

    def _addresses(self, name: str) -> list[str]:
        found = [one.address for value in _raw(self.header, name) for one in mime.addresses(value)]
        for address in found:
            check(name.capitalize(), address)
        return found


def _raw(header: HeaderBlock, name: str) -> list[bytes]:
    """Not decoded: an encoded word may hold a comma."""
    key = name.encode()
    return [field.value for field in header.fields if field.key == key]
