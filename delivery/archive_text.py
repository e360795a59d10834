"""The text of a copy that it is found by, where the tenant wants that (ARC-2)."""

from __future__ import annotations

import html
import re

import nh3

from delivery import mime

LONGEST = 100_000
"""Characters of one copy that are indexed; PostgreSQL takes a megabyte of words."""
_MOST_HTML = 1_000_000
_UNFIT = re.compile("[\x00\ud800-\udfff]")
_BLOCK = re.compile(r"<(?=/?(?:p|div|br|td|th|tr|li|h[1-6]|table|ul|ol)\b)", re.IGNORECASE)


def of(raw: bytes) -> str:
    """Subject, text and names of attachments; of HTML what is to be read. Never raises."""
    content = mime.parse(raw)
    text = content.text if content.text and content.text.strip() else _readable(content.html or "")
    names = (attachment.filename for attachment in content.attachments)
    return _UNFIT.sub(" ", "\n".join([content.subject, text, *names])[:LONGEST])


def _readable(source: str) -> str:
    spaced = _BLOCK.sub(" <", _UNFIT.sub(" ", source[:_MOST_HTML]))
    return html.unescape(nh3.clean(spaced, tags=set()))
