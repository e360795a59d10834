"""From the octets after DATA to the message: end marker, transparency and line ends (RFC 5321 §4.5.2, SMTP-8, SMTP-9).

Pure: octets in, octets out. Works on whole chunks, since a look at every line of a 500 KB message costs five times the
processor time of everything else the listener does with it.
"""

from __future__ import annotations

from enum import Enum

_MARKER = b"\r\n.\r\n"
_DOT_LINE = b"\r\n."


class Fault(Enum):
    """Why the message is not taken; known for certain only when its end has come."""

    TOO_BIG = "message_too_big"
    NUL = "nul_octet"
    BARE_CR = "bare_cr"
    BARE_LF = "bare_lf"
    NOT_KEPT = "not_kept"  # set from outside: we could not keep it


class DataDecoder:
    """Finds the one thing that ends a message, CR LF . CR LF, wherever the chunks are cut, and undoes dot-stuffing.

    `feed` gives back the message's octets; `finished` says that the end has come, and `rest` is what came after it.
    After a fault nothing more is given back, but the end is still looked for.
    """

    def __init__(self, max_size: int, *, normalise_bare_lf: bool) -> None:
        self._max_size = max_size
        self._normalise = normalise_bare_lf
        # The CR LF that ended the DATA command begins the marker of an empty message; it is no part of the message.
        self._held = b"\r\n"
        self._not_ours = 2
        self.size = 0
        self.received = 0
        self.finished = False
        self.rest = b""
        self.fault: Fault | None = None

    def feed(self, chunk: bytes) -> bytes:
        """Take the next octets; gives the message's octets that are certain by now, decoded."""
        self.received += len(chunk)
        data = self._held + chunk if self._held else chunk
        dot = data.find(_DOT_LINE)  # one search for the marker and for doubled dots: most chunks hold neither
        end = data.find(_MARKER, dot) if dot >= 0 else -1
        if end >= 0:
            self.finished = True
            self.rest = data[end + len(_MARKER) :]
            piece, self._held = data[: end + 2], b""
        else:
            keep = len(data) - _possible_marker(data)
            piece, self._held = data[:keep], data[keep:]
        return self._decode(piece, stuffed=dot >= 0)

    def _decode(self, piece: bytes, *, stuffed: bool) -> bytes:
        if not piece or self.fault:
            return b""
        decoded = piece.replace(_DOT_LINE, b"\r\n") if stuffed else piece
        if self._not_ours:
            decoded = decoded[self._not_ours :]
            self._not_ours = 0
        decoded = self._mend_line_ends(decoded)
        self.size += len(decoded)
        if self.size > self._max_size:
            self.fault = Fault.TOO_BIG
        return b"" if self.fault else decoded

    def _mend_line_ends(self, data: bytes) -> bytes:
        """CR LF everywhere. A piece never begins or ends between CR and LF: `feed` holds a last CR back."""
        line_ends = data.count(b"\r\n")
        if data.count(b"\r") != line_ends:
            self.fault = Fault.BARE_CR
        elif b"\0" in data:
            self.fault = Fault.NUL
        elif data.count(b"\n") != line_ends:
            if not self._normalise:
                self.fault = Fault.BARE_LF
            return data.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
        return data


def _possible_marker(data: bytes) -> int:
    """How many octets at the end of `data` could be the beginning of the marker."""
    for length in range(min(len(data), len(_MARKER) - 1), 0, -1):
        if _MARKER.startswith(data[-length:]):
            return length
    return 0
