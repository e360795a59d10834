"""Content-Transfer-Encodings to octets (RFC 2045 §6, uuencode): never raises, linear, nothing dropped in silence."""

import binascii
import re

from delivery.mime.limits import ENCODING_BROKEN, ENCODING_UNKNOWN, MAX_PARTS, MAX_REPAIRS, MAX_UU_LINES, Findings

_BASE64 = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_BLANK = b" \t\r\n"
_NOT_BASE64 = bytes(set(range(256)) - set(_BASE64 + b"="))
_SOFT_BREAK = re.compile(rb"=[ \t]++(?=\r?\n)")
_TRAILING_BLANKS = re.compile(rb"(?<![ \t])[ \t]++(?=\r?\n|\Z)")
_BARE_CR_BREAK = re.compile(rb"=\r(?!\n)")
_PROSE = re.compile(rb"[A-Za-z0-9+/][.,:;!?-]*[ \t]++[A-Za-z0-9+/]")
_QP_ERROR = re.compile(rb"=(?![0-9A-Fa-f]{2}|[ \t]*+(?:\r?\n|\Z))")
_UU_BEGIN = re.compile(rb"^begin [0-7]{3,4} +([^\r\n]+?)[ \t]*\r?\n", re.MULTILINE)
_UU_END = re.compile(rb"(?:[` ]?[ \t]*\r?\n)?end[ \t]*(?:\r?\n|\Z)")

_NAMES = {
    "7bit": "", "8bit": "", "binary": "", "": "", "7bits": "", "8bits": "",
    "base64": "base64", "b64": "base64",
    "quotedprintable": "quoted-printable", "quoted": "quoted-printable", "qp": "quoted-printable",
    "xuuencode": "uuencode", "uuencode": "uuencode", "xuue": "uuencode", "uue": "uuencode", "xuu": "uuencode",
}  # fmt: skip


def canonical(name: str) -> str | None:
    """`base64`, `quoted-printable`, `uuencode`, "" for identity, None for a name nobody knows."""
    letters = re.sub(r"[^a-z0-9]", "", name.lower().partition(";")[0].partition("(")[0])
    return _NAMES.get(letters)


def decode(data: bytes, encoding: str, findings: Findings) -> bytes:
    """Octets of a body under the Content-Transfer-Encoding `encoding`. An unknown one is taken for identity."""
    known = canonical(encoding)
    if known is None:
        findings.note(ENCODING_UNKNOWN)
    if known == "base64":
        return _decode_base64(data, findings)
    if known == "quoted-printable":
        return decode_quoted_printable(data, findings)
    if known == "uuencode":
        blocks, rest = split_uuencode(data, findings)
        if blocks and not rest.strip():
            return b"".join([content for _, content in blocks])
        if data.strip():
            findings.note(ENCODING_BROKEN, uncertain=True)
    return data


def _decode_base64(data: bytes, findings: Findings) -> bytes:
    """Base64 with line ends, blanks and stray octets passed over, missing padding added."""
    clean = data.translate(None, _NOT_BASE64)
    body = clean.rstrip(b"=")
    first_pad = body.find(b"=")
    if first_pad >= 0:
        return _decode_pieces(data, clean, findings)
    if data.translate(None, _BASE64 + b"=" + _BLANK) or len(clean) % 4:
        # Stray octets are to be passed over (RFC 2045 §6.8); prose among them is somebody's text.
        findings.note(ENCODING_BROKEN, uncertain=bool(_PROSE.search(data)) and len(clean) % 4 > 0)
    return _group(body)


def _group(body: bytes) -> bytes:
    """Decode letters of the alphabet only; a single letter left over holds no octet."""
    if len(body) % 4 == 1:
        body = body[:-1]
    return binascii.a2b_base64(body + b"=" * (-len(body) % 4))


def _decode_pieces(data: bytes, clean: bytes, findings: Findings) -> bytes:
    """Padding in the middle: several encoded runs, one after the other, or prose after the end (a list's footer)."""
    findings.note(ENCODING_BROKEN)
    end = re.compile(rb"[A-Za-z0-9+/]=+").search(data)
    rest = data[end.end() :] if end else b""
    if rest.translate(None, _BASE64 + b"=" + _BLANK) or len(rest.translate(None, _BLANK)) % 4:
        findings.note(ENCODING_BROKEN, uncertain=True)
        return _group(clean[: clean.find(b"=")])
    pieces = clean.split(b"=", MAX_REPAIRS)
    if b"=" in pieces[-1].rstrip(b"="):
        findings.note(ENCODING_BROKEN, uncertain=True)
    pieces[-1] = pieces[-1].replace(b"=", b"")
    return b"".join([_group(piece) for piece in pieces])


def decode_quoted_printable(data: bytes, findings: Findings) -> bytes:
    """Quoted-printable; what is no escape stays as it is. Blanks at line ends were added on the way (RFC 2045 §6.7)."""
    if _QP_ERROR.search(data):
        findings.note(ENCODING_BROKEN)
    data, repairs = _TRAILING_BLANKS.subn(b"", data, count=MAX_REPAIRS)
    if repairs >= MAX_REPAIRS:
        # Too many for one pass to stay cheap: only the soft breaks matter.
        data, repairs = _SOFT_BREAK.subn(b"=", data, count=MAX_REPAIRS)
        if repairs >= MAX_REPAIRS:
            findings.note(ENCODING_BROKEN, uncertain=True)
    # Two ways in which binascii loses text: "==" and "=" before a lone CR.
    if b"==" in data:
        data = data.replace(b"==", b"=3D=").replace(b"==", b"=3D=")
    if _BARE_CR_BREAK.search(data):
        data = data.replace(b"=\r\n", b"=\n").replace(b"=\r", b"=\n")
    return binascii.a2b_qp(data)


def split_uuencode(data: bytes, findings: Findings) -> tuple[list[tuple[bytes, bytes]], bytes]:
    """Take the uuencoded files out of a text: (name, content) of each, and the text without them.

    What only begins like such a file stays in the text.
    """
    if b"begin " not in data:
        return [], data
    files: list[tuple[bytes, bytes]] = []
    rest: list[bytes] = []
    done = 0
    lines_left = MAX_UU_LINES
    for tries, begin in enumerate(_UU_BEGIN.finditer(data)):
        if begin.start() < done:
            continue
        content, end, used = _uu_lines(data, begin.end(), lines_left)
        lines_left -= used
        if lines_left <= 0 or len(files) >= MAX_PARTS or tries >= MAX_REPAIRS:
            findings.note(ENCODING_BROKEN, uncertain=True)
            break
        if end:
            files.append((begin.group(1), content))
            rest.append(data[done : begin.start()])
            done = end
    rest.append(data[done:])
    return files, b"".join(rest)


def _uu_lines(data: bytes, pos: int, most: int) -> tuple[bytes, int, int]:
    """Content, offset after `end` (0 when this is no uuencoded file) and the lines looked at."""
    out: list[bytes] = []
    for used in range(most):
        end = _UU_END.match(data, pos)
        if end:
            return b"".join(out), end.end(), used + 1
        line_end = data.find(b"\n", pos)
        line = data[pos : line_end if line_end >= 0 else len(data)].rstrip(b"\r")
        decoded = _uu_line(line)
        if decoded is None or line_end < 0:
            return b"", 0, used + 1
        out.append(decoded)
        pos = line_end + 1
    return b"", 0, most


def _uu_line(line: bytes) -> bytes | None:
    if not line:
        return None
    length = (line[0] - 32) & 0x3F
    if line[0] < 32 or line[0] > 96 or len(line) > 90:
        return None
    # Whole groups are decoded: encoders leave junk in the octets after the data, and mailers cut off blanks.
    groups = (length + 2) // 3
    try:
        return binascii.a2b_uu(bytes((32 + groups * 3,)) + line[1 : 1 + groups * 4].ljust(groups * 4))[:length]
    except binascii.Error:
        return None
