"""Messages that mean something else, or nothing, once they are taken apart and written anew (PRV-4)."""

from collections.abc import Iterator
from typing import Final

import re2

from delivery.mime.fields import skip_blank_lines
from delivery.mime.limits import FAULTS, Findings
from delivery.mime.structure import Part, read_part

SIGNED: Final = "signed"
ENCRYPTED: Final = "encrypted"
CALENDAR: Final = "calendar"
REPORT: Final = "report"

# RE2 passes over 500 megabytes a second where `re` manages 50; most mail has none of these and is not looked at again.
_HINT = re2.compile(
    rb"(?im)^DKIM-Signature[ \t]*:|multipart/(?:signed|encrypted|report)|application/(?:x-)?(?:pkcs7|pgp)"
    rb"|text/calendar|^-----BEGIN PGP (?:SIGNED )?MESSAGE-----"
)
_KINDS: Final = {
    "multipart/signed": SIGNED,  # RFC 1847, RFC 8551, RFC 3156
    "multipart/encrypted": ENCRYPTED,
    "multipart/report": REPORT,  # RFC 6522
    "text/calendar": CALENDAR,  # RFC 6047
    "application/pkcs7-mime": ENCRYPTED,  # or signed, which only opening it would tell
    "application/x-pkcs7-mime": ENCRYPTED,
    "application/pkcs7-signature": SIGNED,
    "application/x-pkcs7-signature": SIGNED,
    "application/pgp-signature": SIGNED,
    "application/pgp-encrypted": ENCRYPTED,
}
_INLINE: Final = ((b"\n-----BEGIN PGP SIGNED MESSAGE-----", SIGNED), (b"\n-----BEGIN PGP MESSAGE-----", ENCRYPTED))


def special_kind(raw: bytes) -> str:
    """What makes a message one that should travel byte for byte: signed, encrypted, calendar or report; "" nothing.

    A DKIM signature (RFC 6376) counts as one, and so does an OpenPGP text in the body (RFC 9580 §6.2). Messages within
    attached messages do not count: attachments keep their bytes everywhere. Never raises, and takes time linear in
    the length of `raw`.
    """
    if not _HINT.search(raw):
        return ""
    try:
        root = read_part(raw, skip_blank_lines(raw), len(raw), Findings())
        return _kind(raw, root)
    except FAULTS:  # a mistake of ours (MIM-3); what could not be read is better left as it is
        return SIGNED


def _kind(raw: bytes, root: Part) -> str:
    for part in _parts(root):
        if part.content_type in _KINDS:
            return _KINDS[part.content_type]
        if part.content_type.startswith("text/") and not part.filename():
            for mark, kind in _INLINE:
                if raw.find(mark, max(0, part.start - 1), part.end) >= 0:
                    return kind
    return SIGNED if any(field.key == b"dkim-signature" for field in root.fields) else ""


def _parts(part: Part) -> Iterator[Part]:
    yield part
    for child in part.children:
        yield from _parts(child)
