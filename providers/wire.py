"""What the octets of a message ask of the route that carries them unchanged (PRV-4)."""

from __future__ import annotations

import re

from providers.base import OutboundMessage
from providers.envelope import has_utf8_local_part

_SIGNED = re.compile(
    rb"^dkim-signature:"
    rb"|^content-type:[ \t\r\n]*(?:multipart/(?:signed|encrypted)|application/(?:x-)?pkcs7-mime)\b",
    re.IGNORECASE | re.MULTILINE,
)


def header_of(raw: bytes) -> bytes:
    """The top-level header fields, with the last line end."""
    return raw.partition(b"\r\n\r\n")[0] + b"\r\n"


def is_signed(raw: bytes) -> bool:
    """Whether a changed octet may break a signature or an encryption: S/MIME, OpenPGP, DKIM."""
    return bool(_SIGNED.search(header_of(raw)))


def needs_smtputf8(message: OutboundMessage) -> bool:
    """Whether only a route with SMTPUTF8 can carry the message (RFC 6531).

    False when domains as A-labels are enough; clients often say SMTPUTF8 without need (RFC 6531 §3.6).
    """
    if message.smtputf8 and not header_of(message.raw).isascii():
        return True
    return any(has_utf8_local_part(address) for address in (message.mail_from, *message.recipients))
