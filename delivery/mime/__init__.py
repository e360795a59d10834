"""The MIME room: octets to parts, byte-exact header editing, header access that never raises.

Pure Python without models or settings. `limits.py` holds every bound, `structure.py` finds the parts, `bodies.py`
decides what is text, HTML and attachment.
"""

from delivery.mime.addresses import addresses
from delivery.mime.compose import compose
from delivery.mime.edit import REMOVED_AT_DELIVERY, strip_headers
from delivery.mime.headers import (
    first_values,
    header_block,
    header_items,
    header_values,
    is_multipart,
    looks_multipart,
    read_header,
    received_count,
)
from delivery.mime.kinds import special_kind
from delivery.mime.message import parse
from delivery.mime.originators import Originators, originators
from delivery.mime.trace import received_line

__all__ = [
    "REMOVED_AT_DELIVERY",
    "Originators",
    "addresses",
    "compose",
    "first_values",
    "header_block",
    "header_items",
    "header_values",
    "is_multipart",
    "looks_multipart",
    "originators",
    "parse",
    "read_header",
    "received_count",
    "received_line",
    "special_kind",
    "strip_headers",
]
