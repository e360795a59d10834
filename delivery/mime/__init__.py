"""The MIME room: octets to parts, byte-exact header editing, header access that never raises.

Pure Python without models or settings. `limits.py` holds every bound, `structure.py` finds the parts, `bodies.py`
decides what is text, HTML and attachment.
"""

from delivery.mime.addresses import addresses
from delivery.mime.compose import StreamedAttachment, compose, pieces
from delivery.mime.edit import REMOVED_AT_DELIVERY, strip_headers, without_headers
from delivery.mime.fields import HeaderBlock
from delivery.mime.headers import (
    first_values,
    header_block,
    header_items,
    header_values,
    is_multipart,
    looks_multipart,
    read_header,
    received_count,
    values_of,
)
from delivery.mime.kinds import special_kind
from delivery.mime.message import parse
from delivery.mime.originators import Originators, originators
from delivery.mime.parameters import parse as parse_parameters
from delivery.mime.trace import received_line
from delivery.mime.written import is_content_type

__all__ = [
    "REMOVED_AT_DELIVERY",
    "HeaderBlock",
    "Originators",
    "StreamedAttachment",
    "addresses",
    "compose",
    "first_values",
    "header_block",
    "header_items",
    "header_values",
    "is_content_type",
    "is_multipart",
    "looks_multipart",
    "originators",
    "parse",
    "parse_parameters",
    "pieces",
    "read_header",
    "received_count",
    "received_line",
    "special_kind",
    "strip_headers",
    "values_of",
    "without_headers",
]
