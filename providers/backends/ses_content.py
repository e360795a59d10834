"""What is said to Amazon SES: the bytes received, or their parts where those say it all (PRV-4, PRV-5)."""

from __future__ import annotations

import re
from dataclasses import replace
from email.utils import formataddr
from typing import Any

from providers import sevenbit
from providers.backends.letter import Abilities, Letter, compose
from providers.base import Mailbox, OutboundMessage
from providers.envelope import Limits, ascii_address
from providers.exceptions import PermanentFailure, Unsupported
from providers.fidelity import Fidelity, Verdict
from providers.wire import header_of, needs_smtputf8

MAX_RECIPIENTS = 50  # https://docs.aws.amazon.com/ses/latest/dg/quotas.html
MAX_LINE = 998  # octets without CRLF
MAX_HEADERS, MAX_VALUE, MAX_HEADER = 15, 995, 996  # …/APIReference-V2/API_MessageHeader.html
MAX_ADDRESS = 320

ABILITIES = Abilities(
    limits=Limits(total=MAX_RECIPIENTS, to_required=False),
    # https://docs.aws.amazon.com/ses/latest/dg/header-fields.html: what SES sets itself
    refused_headers=frozenset({"message-id", "return-path"}),
    reply_tos=MAX_RECIPIENTS,
)
OWN_ID = "header Message-ID"

_PLAIN = frozenset({"text/plain", "text/html", "multipart/alternative"})
_PARTS_SAY_MORE = re.compile(
    rb"\bformat\s*=\s*\"?flowed|^content-(?:language|disposition|id|location)\s*:", re.I | re.M
)
_UNSAID = frozenset({"return-path", "delivered-to", "sender"})
_TOO_LONG = re.compile(rb"[^\r\n]{%d}" % (MAX_LINE + 1))
_REWRITTEN = ("message-id", "date", "return-path", "bounces-to")
_SIGNED_HEADERS = re.compile(
    rb"(?:\A|\r\n)dkim-signature:(?:[^\r]|\r\n[ \t])*?(?<=[;:\s])h\s*=((?:[^;\r]|\r\n[ \t])*)", re.I
)


def simple(message: OutboundMessage) -> Letter:
    """The letter for the service's simple format. Raises Unsupported or PermanentFailure for what cannot be said."""
    letter = compose(message, ABILITIES)
    kept: dict[str, str] = {}
    lost = list(letter.lost)
    for name, value in letter.headers.items():
        if len(kept) < MAX_HEADERS and len(value) <= MAX_VALUE and len(name) + len(value) <= MAX_HEADER:
            kept[name] = value
        else:
            lost.append(f"header {name}")
    return replace(letter, headers=kept, lost=tuple(lost))


def says_all(letter: Letter, message: OutboundMessage) -> bool:
    """Whether nothing of the message is missing in its letter, save for the Message-ID, which SES always replaces."""
    content = message.content
    names = [name.lower() for name, _ in content.headers]
    described = {name for name in names if name.startswith(("content-", "arc-"))}
    types = [value for name, value in content.headers if name.lower() == "content-type"]
    type_, _, parameters = (types[0] if types else "text/plain").partition(";")
    listed = [value for name, value in content.headers if name.lower() in {"to", "cc", "reply-to"}]
    return (
        not set(letter.lost) - {OWN_ID}
        and not content.attachments
        and not content.defects
        and type_.strip().lower() in _PLAIN
        and {p.partition("=")[0].strip().lower() for p in parameters.split(";")} <= {"", "charset", "boundary"}
        and described <= {"content-type", "content-transfer-encoding"}
        and not _UNSAID & set(names)
        and names.count("received") <= 1  # ours
        and not any(";" in value for value in listed)  # a group (RFC 5322 §3.4)
        and not _PARTS_SAY_MORE.search(message.raw)
    )


def simple_parameters(letter: Letter) -> dict[str, Any]:
    """A letter as parameters of SendEmail."""
    bodies = {"Text": letter.text, "Html": letter.html}
    said: dict[str, Any] = {
        "Subject": _utf8(letter.subject),
        "Body": {name: _utf8(body) for name, body in bodies.items() if body is not None},
    }
    if letter.headers:
        said["Headers"] = [{"Name": name, "Value": value} for name, value in letter.headers.items()]
    if letter.attachments:
        said["Attachments"] = [
            {
                "FileName": part.filename[-255:],
                "RawContent": part.content,
                "ContentType": part.content_type[:78],
                "ContentDisposition": "INLINE" if part.inline else "ATTACHMENT",
                "ContentTransferEncoding": "BASE64",
                **({"ContentId": part.content_id[:78]} if part.inline else {}),
            }
            for part in letter.attachments
        ]
    addressing = letter.addressing
    lists = {"ToAddresses": addressing.to, "CcAddresses": addressing.cc, "BccAddresses": addressing.bcc}
    parameters: dict[str, Any] = {
        "FromEmailAddress": _written(letter.sender),
        "Destination": {name: [_written(box) for box in boxes] for name, boxes in lists.items() if boxes},
        "Content": {"Simple": said},
    }
    if letter.reply_to:
        parameters["ReplyToAddresses"] = [_written(box) for box in letter.reply_to]
    return parameters


def raw(message: OutboundMessage, *, seven_bit: bool) -> tuple[dict[str, Any], Verdict]:
    """The bytes received as parameters of SendEmail, the recipients apart, and what becomes of them.

    No FromEmailAddress and no ReplyToAddresses: the service would write them over the header's. The recipients are
    all blind copies, so that whatever the service does with the lists, none is shown.

    With `seven_bit` what has 8 bits is encoded anew: "you should encode that content", says
    https://docs.aws.amazon.com/ses/latest/APIReference-V2/API_RawMessage.html, but SES takes it as it is.

    Raises Unsupported for what the service cannot carry.
    """
    check_raw(message)
    verdict, data = raw_verdict(message.raw), message.raw
    if seven_bit and not data.isascii():
        data = sevenbit.seven_bit(data)
        verdict = max(verdict, Verdict(Fidelity.MAPPED, (*verdict.lost, sevenbit.REENCODED)), key=_rank)
    unique = dict.fromkeys(map(ascii_address, message.recipients))
    parameters: dict[str, Any] = {
        "Destination": {"BccAddresses": list(unique)},
        "Content": {"Raw": {"Data": data}},
    }
    if not _has_from(message.raw):
        parameters["FromEmailAddress"] = ascii_address(message.mail_from)
    return parameters, verdict


def check_raw(message: OutboundMessage) -> None:
    """Raise Unsupported or PermanentFailure for what the raw format cannot carry.

    https://docs.aws.amazon.com/ses/latest/APIReference-V2/API_RawMessage.html
    """
    if needs_smtputf8(message):
        # https://docs.aws.amazon.com/ses/latest/APIReference-V2/API_Destination.html
        raise Unsupported("Amazon SES does not support SMTPUTF8.", code="smtputf8_required")
    if b"\r\n\r\n" not in message.raw:
        raise Unsupported("Amazon SES needs an empty line between header and body.", code="bad_mime")
    if not message.mail_from and not _has_from(message.raw):
        raise PermanentFailure("The message names no sender.", code="no_sender")
    if _TOO_LONG.search(message.raw):
        raise Unsupported(f"A line is longer than the {MAX_LINE} octets Amazon SES takes.", code="line_too_long")


def raw_verdict(raw: bytes) -> Verdict:
    """The bytes go as they are; the service then writes a Message-ID and a Date of its own, and a From where none is.

    A DKIM signature that covers them does not survive that:
    https://docs.aws.amazon.com/ses/latest/dg/send-email-authentication-dkim-manual.html
    """
    header = header_of(raw)
    for match in _SIGNED_HEADERS.finditer(header):
        signed = {name.strip().decode("ascii", "replace").lower() for name in match[1].split(b":")}
        if covered := [name for name in _REWRITTEN if name in signed]:
            return Verdict(Fidelity.BROKEN, (f"DKIM signature: covers {', '.join(covered)}, which SES rewrites",))
    if not _has_from(raw):
        return Verdict(Fidelity.LOSSY, ("From: missing, the envelope sender is shown",))
    has_id = re.search(rb"(?:\A|\r\n)message-id[ \t]*:", header, re.I)
    return Verdict(Fidelity.LOSSLESS, ("Message-ID: replaced by the service's own",) if has_id else ())


def _rank(verdict: Verdict) -> int:
    return verdict.fidelity.rank


def simple_verdict(letter: Letter) -> Verdict:
    """Lossy when more is lost than the Message-ID, which the service replaces whatever it is given."""
    if set(letter.lost) <= {OWN_ID}:
        return Verdict(Fidelity.MAPPED, letter.lost)
    return Verdict.mapped(letter.lost, broken=letter.broken)


def _has_from(raw: bytes) -> bool:
    return bool(re.search(rb"(?:\A|\r\n)from[ \t]*:", header_of(raw), re.I))


def _utf8(text: str) -> dict[str, str]:
    return {"Data": text, "Charset": "UTF-8"}


def _written(box: Mailbox) -> str:
    text = formataddr((box.name, box.address), charset="utf-8") if box.name else box.address
    return text if len(text) <= MAX_ADDRESS else box.address
