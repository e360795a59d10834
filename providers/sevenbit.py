"""8-bit mail for routes that carry 7 bits: parts encoded anew, no octet of their content lost (RFC 6152, PRV-4)."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator
from email.header import Header
from email.utils import formataddr, getaddresses
from urllib.parse import quote

from providers.envelope import ascii_address, has_utf8_local_part
from providers.exceptions import Unsupported
from providers.wire import is_signed

REENCODED = "8-bit content: encoded anew for a 7-bit route"

_MAX_DEPTH = 30
_FIELD = re.compile(rb"[^\r\n]+(?:\r\n[ \t][^\r\n]*)*(?:\r\n|\Z)")
_MEDIA_TYPE = re.compile(r"\s*([\w.+-]+)/([\w.+-]+)")
_BOUNDARY = re.compile(r';\s*boundary\s*=\s*(?:"((?:[^"\\]|\\.)+)"|([^\s;"]+))', re.IGNORECASE)
_PARAMETER = re.compile(r'(;\s*)([\w-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s;"]+))')
_NOT_ASCII = re.compile(rb"[\x80-\xff]")
_ADDRESSES = frozenset(
    {"from", "sender", "reply-to", "to", "cc", "resent-from", "resent-sender", "resent-to", "resent-cc"}
)


def seven_bit(raw: bytes) -> bytes:
    """The message with nothing but ASCII in it: the same text, files and header values for whoever reads it.

    Raises Unsupported for a signed or encrypted message, which must not be changed, and for what cannot be said in
    ASCII: a local part of an address, a structure that cannot be told apart.
    """
    return raw if raw.isascii() else _entity(raw, top=True, depth=0)


def _refusal(what: str) -> Unsupported:
    return Unsupported(f"This route carries 7 bits, and the message {what}.", code="8bitmime_required")


def _entity(raw: bytes, *, top: bool, depth: int) -> bytes:
    """A message or a body part, header and body."""
    if raw.isascii():
        return raw
    if is_signed(raw):
        raise _refusal("has 8-bit content under a signature or an encryption")
    if depth > _MAX_DEPTH:
        raise _refusal("is nested too deeply to be encoded anew")
    fields, rest = _split(raw)
    content_type = _value(fields, "content-type")
    match = _MEDIA_TYPE.match(content_type)
    maintype, subtype = (match[1].lower(), match[2].lower()) if match else ("text", "plain")
    encoding = _value(fields, "content-transfer-encoding").strip().lower()
    separator, body = rest[:2], rest[2:]
    if not body.isascii():
        if maintype == "multipart":
            body, encoding = _multipart(body, content_type, depth), ""
        elif (maintype, subtype) == ("message", "rfc822"):
            body, encoding = _entity(body, top=True, depth=depth + 1), ""
        else:
            octets = body
            body, encoding = _leaf(body, maintype, encoding)
            if top and not match:
                fields = _named(fields, octets)
        fields = _with_encoding(fields, encoding)
    return b"".join(_field(field) for field in fields) + separator + body


def _split(raw: bytes) -> tuple[list[bytes], bytes]:
    """The header fields, and what follows them: an empty line and the body, or nothing."""
    fields, position = [], 0
    while match := _FIELD.match(raw, position):
        fields.append(match[0])
        position = match.end()
    rest = raw[position:]
    if rest and not rest.startswith(b"\r\n"):
        raise _refusal("has a header that cannot be told from the body")
    return fields, rest


def _name(field: bytes) -> str:
    return field.partition(b":")[0].strip().decode("ascii", "replace").lower()


def _value(fields: list[bytes], name: str) -> str:
    found = next((field for field in fields if _name(field) == name), b":")
    return _text(found.partition(b":")[2].replace(b"\r\n", b""))


def _text(octets: bytes) -> str:
    try:
        return octets.decode("utf-8")
    except UnicodeDecodeError:
        return octets.decode("latin-1")


def _with_encoding(fields: list[bytes], encoding: str) -> list[bytes]:
    """The fields with this Content-Transfer-Encoding, without one when it is "" (which means 7bit)."""
    kept = [field for field in fields if _name(field) != "content-transfer-encoding"]
    return [*kept, b"Content-Transfer-Encoding: " + encoding.encode("ascii") + b"\r\n"] if encoding else kept


def _named(fields: list[bytes], body: bytes) -> list[bytes]:
    """A message that is not MIME becomes one, or nobody would decode it. Of its charset no more is said than is known
    (RFC 1428 §3)."""
    try:
        body.decode("utf-8")
        charset = b"utf-8"
    except UnicodeDecodeError:
        charset = b"unknown-8bit"
    kept = [field for field in fields if _name(field) not in {"mime-version", "content-type"}]
    return [*kept, b"MIME-Version: 1.0\r\n", b"Content-Type: text/plain; charset=" + charset + b"\r\n"]


def _multipart(body: bytes, content_type: str, depth: int) -> bytes:
    match = _BOUNDARY.search(content_type)
    if not match:
        raise _refusal("has parts without a boundary")
    boundary = re.escape(re.sub(r"\\(.)", r"\1", match[1]) if match[1] else match[2]).encode()
    # The line end before a delimiter belongs to it (RFC 2046 §5.1.1).
    delimiter = re.compile(rb"(?:\r\n|\A)--" + boundary + rb"(--)?[ \t]*(?=\r\n|\Z)")
    return b"".join(_pieces(body, delimiter, depth))


def _pieces(body: bytes, delimiter: re.Pattern[bytes], depth: int) -> Iterator[bytes]:
    """Delimiters as they are, parts encoded, what stands before and after them (which nobody reads) in ASCII."""
    position, inside, found = 0, False, False
    for match in delimiter.finditer(body):
        yield _piece(body[position : match.start()], inside=inside, depth=depth)
        yield match[0]
        position, inside, found = match.end(), match[1] is None, True
    if not found:
        raise _refusal("has parts whose boundary is nowhere")
    yield _piece(body[position:], inside=inside, depth=depth)


def _piece(piece: bytes, *, inside: bool, depth: int) -> bytes:
    if inside:  # it begins with the line end of its delimiter
        return piece[:2] + _entity(piece[2:], top=False, depth=depth + 1)
    return _NOT_ASCII.sub(b"?", piece)


def _leaf(body: bytes, maintype: str, encoding: str) -> tuple[bytes, str]:
    """Body and encoding of a part that is not ASCII."""
    if encoding == "base64":
        return _NOT_ASCII.sub(b"", body), encoding  # not of its alphabet: every reader passes them over
    if encoding == "quoted-printable":
        return _NOT_ASCII.sub(lambda octet: b"=%02X" % octet[0][0], body), encoding
    if maintype == "text":
        return _quoted_printable(body), "quoted-printable"
    return base64.encodebytes(body).replace(b"\n", b"\r\n"), "base64"


def _quoted_printable(body: bytes) -> bytes:
    lines = (binascii.b2a_qp(line, istext=False, quotetabs=False) for line in body.split(b"\r\n"))
    return b"\r\n".join(line.replace(b"\n", b"\r\n") for line in lines)


def _field(field: bytes) -> bytes:
    """A header field in ASCII: encoded words (RFC 2047), parameters by RFC 2231, domains as A-labels."""
    if field.isascii():
        return field
    name, _, value = field.partition(b":")
    if not name.isascii():
        raise _refusal("has a header field whose name is not ASCII")
    text = _text(re.sub(rb"\r\n(?=[ \t])", b"", value)).strip()
    key = _name(field)
    if key in _ADDRESSES:
        written = ",\r\n ".join(_boxes(text))
    elif key.startswith("content-"):
        written = _PARAMETER.sub(_parameter, text)
    else:
        written = Header(text, "utf-8", maxlinelen=76, header_name=name.decode("ascii")).encode(linesep="\r\n")
    if not written.isascii():
        raise _refusal(f"has a header field {name.decode('ascii')} that cannot be written in ASCII")
    return name + b": " + written.encode("ascii") + b"\r\n"


def _boxes(text: str) -> Iterator[str]:
    for display, address in getaddresses([text]):
        if not address or has_utf8_local_part(address):
            raise Unsupported("An address of the header needs SMTPUTF8.", code="smtputf8_required")
        yield formataddr((display, ascii_address(address)), "utf-8")


def _parameter(match: re.Match[str]) -> str:
    value = match[3] if match[3] is not None else match[4]
    if value.isascii():
        return match[0]
    return f"{match[1]}{match[2]}*=utf-8''{quote(value)}"
