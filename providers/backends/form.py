"""multipart/form-data as services with upload forms read it (RFC 7578)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from urllib3.fields import RequestField
from urllib3.filepost import encode_multipart_formdata


@dataclass(frozen=True, slots=True)
class Upload:
    """A file of a form; `content_type` may have parameters."""

    filename: str
    content: bytes
    content_type: str


def encode(fields: Iterable[tuple[str, str | Upload]]) -> tuple[bytes, str]:
    """The body of a form and its Content-Type; a name may come more than once, the order is kept.

    Texts and file names are written as UTF-8 (RFC 7578 §5.1). A quotation mark or a line end in a name is
    percent-encoded, as browsers do; not every service reads that back.
    """
    parts = []
    for name, value in fields:
        if isinstance(value, Upload):
            part = RequestField(name, value.content, filename=value.filename)
            part.make_multipart(content_type=value.content_type)
        else:
            part = RequestField(name, value)
            part.make_multipart()
        parts.append(part)
    return encode_multipart_formdata(parts)
