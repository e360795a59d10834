"""Bounds that keep reading a message linear in its size (MIM-3), and the names of what was found broken.

Real mail stays far below every bound. Where one is hit the message is read as far as the bound goes and the original is
attached, so that nothing is lost.
"""

from typing import Final

MAX_DEPTH: Final = 30
"""Multiparts inside each other."""
MAX_PARTS: Final = 1000
"""Parts of one message, multiparts included."""
MAX_HEADER_BYTES: Final = 1 << 20
"""Octets of header fields that are read, in all parts of a message together."""
MAX_FIELDS: Final = 5000
"""Fields read from one header block."""
MAX_FIELD_BYTES: Final = 1 << 19
"""Octets of one header field that are read."""
MAX_ADDRESSES: Final = 20_000
"""Addresses read from one value."""
MAX_TOKENS: Final = 200_000
"""Tokens (words, quoted strings, separators) read from one address list."""
MAX_ORIGINATOR_BYTES: Final = 1 << 14
"""Octets of all From and Sender fields together that are worth reading."""
MAX_PARAMETERS: Final = 25_000
"""Parameters (RFC 2231 continuations counted singly) read from one field."""
MAX_FALSE_BOUNDARIES: Final = 20_000
"""Lines that begin like a boundary and are none."""
MAX_REPAIRS: Final = 10_000
"""Places mended in one quoted-printable or base64 body before it is left as it is."""
MAX_UU_LINES: Final = 1_000_000
"""Lines of uuencoded data decoded in one body."""

FAULTS: Final = (ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)
"""What a mistake of ours or of a codec raises. Alarms and deadlines of the caller are none of these and pass."""

ORIGINAL_ATTACHED: Final = "original-attached"
HEADER_TOO_LARGE: Final = "header-too-large"
HEADER_GARBAGE: Final = "header-garbage"
TOO_DEEP: Final = "too-deep"
TOO_MANY_PARTS: Final = "too-many-parts"
BOUNDARY_MISSING: Final = "boundary-missing"
BOUNDARY_GUESSED: Final = "boundary-guessed"
BOUNDARY_UNCERTAIN: Final = "boundary-uncertain"
NOT_CLOSED: Final = "multipart-not-closed"
TYPE_INVALID: Final = "content-type-invalid"
ENCODING_UNKNOWN: Final = "transfer-encoding-unknown"
ENCODING_BROKEN: Final = "transfer-encoding-broken"
CHARSET_UNKNOWN: Final = "charset-unknown"
CHARSET_WRONG: Final = "charset-wrong"
UNREADABLE: Final = "unreadable"


class Findings:
    """What was broken in one message. `uncertain` is True when a reader cannot be sure to have all of it."""

    def __init__(self) -> None:
        self._defects: dict[str, None] = {}
        self.uncertain = False
        self.header_bytes_left = MAX_HEADER_BYTES
        self.parts_left = MAX_PARTS
        self.false_boundaries_left = MAX_FALSE_BOUNDARIES

    def note(self, defect: str, *, uncertain: bool = False) -> None:
        """Remember a defect once, in the order found."""
        self._defects[defect] = None
        self.uncertain = self.uncertain or uncertain

    @property
    def defects(self) -> tuple[str, ...]:
        return tuple(self._defects)
