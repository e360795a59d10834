"""Delivery status notifications: a message to a sender that says which recipients it did not reach (RFC 3464).

Three parts (RFC 6522): text for people, fields for machines, the header of the original. Where the sender's own address
needs SMTPUTF8 the parts are those of RFC 6533. Pure: octets out of what it is given, nothing is asked or stored.
"""

from __future__ import annotations

import quopri
import re
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from email.header import Header
from email.message import MIMEPart
from email.policy import SMTP
from email.utils import format_datetime

from providers.envelope import ascii_address, has_utf8_local_part
from providers.exceptions import Unsupported
from providers.scrub import scrub

MOST_IN_TEXT = 100
"""Recipients named in the text for people; the fields for machines name all."""
LONGEST_HEADER = 16 * 1024
"""Octets of the original's header that are returned."""
_LONGEST_LINE = 998  # RFC 5322 §2.1.1
_ENHANCED = re.compile(r"(?<![\d.])[45]\.\d{1,3}\.\d{1,3}(?![\d.]*\d)")
_REPLY = re.compile(r"[45]\d\d(?!\d)")
_MESSAGE_ID = re.compile(r"<[!-;=?-~]{1,500}>")
_LINE_END = re.compile(rb"\r\n|\r|\n")
# What our own words for a failure mean in those of RFC 3463.
_STATUSES = {
    "bad_recipient": "5.1.1",
    "bad_address": "5.1.3",
    "bad_domain": "5.1.2",
    "mailbox_full": "5.2.2",
    "too_large": "5.3.4",
    "poison": "5.3.0",
    "storage_error": "5.3.0",
    "timeout": "4.4.1",
    "too_old": "4.4.7",
    "retries_exhausted": "4.4.7",
    "smtputf8_required": "5.6.7",
    "parse_timeout": "5.6.0",
    "rejected_by_rule": "5.7.1",
    "on_suppression_list": "5.7.1",
    "sender_not_verified": "5.7.1",
    "sender_refused": "5.7.1",
}


@dataclass(frozen=True, slots=True)
class Failed:
    """A recipient, the machine's word and people's words for why, and the type of the provider that said so."""

    address: str
    code: str
    text: str
    provider: str = ""

    @property
    def status(self) -> str:
        """An enhanced status code (RFC 3463): the provider's own where it gave one."""
        if found := _ENHANCED.search(self.text):
            return found.group()
        if _REPLY.match(self.code) or _REPLY.match(self.text):
            return f"{(self.code if _REPLY.match(self.code) else self.text)[0]}.0.0"
        return _STATUSES.get(self.code, "5.0.0")


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a notification says. `key` is the id of the message it becomes, `from_` and `to` are addresses,
    `reporting_mta` our host name; the rest is of the original, `header` its header block as far as it is known."""

    key: str
    from_: str
    to: str
    date: datetime
    reporting_mta: str
    original_key: str
    subject: str
    message_id: str
    arrived_at: datetime
    failed: Sequence[Failed]
    header: bytes = b""

    @property
    def utf8(self) -> bool:
        """Whether only a route with SMTPUTF8 can carry it (RFC 6531)."""
        return has_utf8_local_part(self.to)

    @property
    def own_message_id(self) -> str:
        return f"<{self.key}@{self.from_.rpartition('@')[2]}>"

    @property
    def title(self) -> str:
        subject = _line(self.subject)[:150]
        return f"Undelivered: {subject}" if subject else "Undelivered mail"


def compose(report: Report) -> bytes:
    """The octets of the notification, CRLF line ends."""
    boundary = f"=_{report.key}"
    kind = "global-delivery-status" if report.utf8 else "delivery-status"
    parts = [_text(report), _fields(report, kind)]
    if report.header:
        parts.append(_original(report))
    head = _header(report, f'multipart/report; report-type={kind};\r\n boundary="{boundary}"')
    mark = f"--{boundary}".encode()
    body = b"".join(b"\r\n" + mark + b"\r\n" + part for part in parts)
    return head + b"\r\n" + body.removeprefix(b"\r\n") + b"\r\n" + mark + b"--\r\n"


def bounded(header: bytes) -> bytes:
    """A header block with CRLF line ends, cut after a whole field where it is too large."""
    whole = _LINE_END.sub(b"\r\n", header).rstrip(b"\r\n")
    whole = whole + b"\r\n" if whole else b""
    if len(whole) <= LONGEST_HEADER:
        return whole
    cut = whole[:LONGEST_HEADER]
    # The last field may not be whole, and is one with its folded lines.
    ends = [found.end() for found in re.finditer(rb"\r\n(?![ \t])", cut)]
    return cut[: ends[-1]] if ends and ends[-1] < len(cut) else cut[: ends[-2]] if len(ends) > 1 else b""


def _header(report: Report, content_type: str) -> bytes:
    lines = [
        f"From: Mail Delivery System <{report.from_}>",
        f"To: <{report.to}>",
        f"Subject: {_encoded(report.title)}",
        f"Date: {format_datetime(report.date)}",
        f"Message-ID: {report.own_message_id}",
        "Auto-Submitted: auto-replied",  # RFC 3834 §5
        "MIME-Version: 1.0",
        f"Content-Type: {content_type}",
    ]
    if _MESSAGE_ID.fullmatch(report.message_id):
        lines[5:5] = [f"In-Reply-To: {report.message_id}", f"References: {report.message_id}"]
    return ("\r\n".join(lines) + "\r\n").encode()


def _encoded(text: str) -> str:
    if text.isascii():
        return text
    return Header(text, "utf-8", header_name="Subject", maxlinelen=75).encode(linesep="\r\n")


def _text(report: Report) -> bytes:
    part = MIMEPart(policy=SMTP if report.utf8 else SMTP.clone(cte_type="7bit"))
    part.set_content("\n".join(_in_words(report)) + "\n")
    return part.as_bytes()


def _in_words(report: Report) -> Iterator[str]:
    count = len(report.failed)
    who = "one recipient" if count == 1 else f"{count:,} recipients"
    yield f"This is the mail gateway {report.reporting_mta}."
    yield ""
    yield f"Your message was not delivered to {who}, and will not be tried again:"
    yield ""
    yield f"    Subject: {_line(report.subject)[:150] or '(none)'}"
    yield f"    Accepted: {report.arrived_at:%Y-%m-%d %H:%M:%S} UTC"
    if report.message_id:
        yield f"    Message-ID: {_line(report.message_id)[:300]}"
    yield f"    Our id: {report.original_key}"
    for one in report.failed[:MOST_IN_TEXT]:
        yield ""
        yield f"<{_line(one.address)}>"
        reason = scrub(one.text) or "No reason was given."
        yield from textwrap.wrap(reason, 72, initial_indent="    ", subsequent_indent="    ")
    if count > MOST_IN_TEXT:
        yield ""
        yield f"... and {count - MOST_IN_TEXT:,} more recipients, which the next part of this message lists."
    yield ""
    yield "What you can do: check the address, mend what the reason names, and send"
    yield "the message to these recipients again. Recipients who are not listed here"
    yield "are not concerned. If the reason is not clear, give the id above to whoever"
    yield "runs your mail gateway."


def _fields(report: Report, kind: str) -> bytes:
    """RFC 3464 §2.1: a group of fields about the message, then one for each recipient, empty lines between."""
    groups = [
        [
            _field("Reporting-MTA", f"dns; {report.reporting_mta}", report),
            _field("Arrival-Date", format_datetime(report.arrived_at), report),
        ]
    ]
    groups += [_recipient(one, report) for one in report.failed]
    encoding = "8bit" if report.utf8 else "7bit"
    head = f"Content-Type: message/{kind}\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n"
    return (head + "\r\n".join("".join(group) for group in groups)).encode()


def _recipient(one: Failed, report: Report) -> list[str]:
    fields = [
        _field("Final-Recipient", _address(one.address, utf8=report.utf8), report),
        _field("Action", "failed", report),
        _field("Status", one.status, report),
    ]
    if one.provider:
        # Not the name of a host, which is not known of a service that is asked by HTTP.
        fields.append(_field("Remote-MTA", f"x-provider; {one.provider}", report))
    if one.text:
        of_smtp = _REPLY.match(one.text)
        code = f"{one.code} " if _REPLY.fullmatch(one.code) and not of_smtp else ""
        kind = "smtp" if of_smtp or code else "x-provider"
        fields.append(_field("Diagnostic-Code", f"{kind}; {code}{scrub(one.text)}", report))
    return fields


def _address(address: str, *, utf8: bool) -> str:
    """With its type: `rfc822` where it has an ASCII form, else `utf-8` as RFC 6533 §3 writes it."""
    try:
        plain = ascii_address(address)
    except Unsupported:
        plain = address
    if plain.isascii():
        return f"rfc822; {plain}"
    return f"utf-8; {address if utf8 else _embedded(address)}"


def _embedded(address: str) -> str:
    """RFC 6533 §3, `utf-8-addr-xtext`: what 7 bits cannot say as `\\x{hexadecimal}`."""
    plain = "".join(map(chr, range(0x21, 0x7F))).translate(dict.fromkeys(map(ord, "+=\\")))
    return "".join(letter if letter in plain else f"\\x{{{ord(letter):X}}}" for letter in address)


def _field(name: str, value: str, report: Report) -> str:
    text = _line(value)
    if not report.utf8:
        text = text.encode("ascii", "replace").decode()
    if name != "Diagnostic-Code":
        return f"{name}: {text}\r\n"  # legal to fold as well, and then misread by simple readers
    # Of words in ASCII the longest there are fit into a line; of others a letter has up to four octets.
    lines = textwrap.wrap(f"{name}: {text}", 76, break_long_words=not text.isascii(), break_on_hyphens=False)
    return "\r\n ".join(lines) + "\r\n"


def _line(text: str) -> str:
    """One line without control characters, and with no more room in it than it needs."""
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())


def _original(report: Report) -> bytes:
    header = bounded(report.header)
    if not header.isascii():
        header = header.decode("utf-8", "replace").encode()
    plain = max(map(len, header.split(b"\r\n"))) <= _LONGEST_LINE and b"\x00" not in header
    if header.isascii() and plain:
        return b"Content-Type: text/rfc822-headers\r\nContent-Transfer-Encoding: 7bit\r\n\r\n" + header
    if report.utf8 and plain:
        return b"Content-Type: message/global-headers\r\nContent-Transfer-Encoding: 8bit\r\n\r\n" + header
    encoded = quopri.encodestring(header.replace(b"\r\n", b"\n")).replace(b"\n", b"\r\n")
    kind = b"Content-Type: text/rfc822-headers; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n"
    return kind + encoded
