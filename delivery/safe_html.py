"""The HTML of a message, for a frame in which nothing of it can run or be fetched (ADM-4)."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from base64 import b64encode
from collections.abc import Iterable

from providers.base import Attachment

LARGEST = 500_000
"""Characters of HTML that are made safe; of more its source is shown."""
MOST_SECONDS = 3
MOST_MEMORY = 512 * 1024 * 1024
"""Octets. A few hundred thousand characters can be written so that a reader of HTML needs minutes or gigabytes."""
MOST_PICTURES = 3 * 1024 * 1024
"""Octets of pictures that came with the message and are put into its HTML."""

_PICTURES = frozenset({"image/gif", "image/jpeg", "image/png", "image/webp"})
_REMOTE = re.compile(
    r"\b(?:src|srcset|background|poster)\s{0,9}=\s{0,9}[\"']?\s{0,9}(?:https?:)?//|\burl\(\s{0,9}[\"']?(?:https?:)?//",
    re.IGNORECASE,
)
_CID = re.compile(r'src="cid:([^"]{1,300})"')
_PROGRAM = """
import json, resource, sys
import nh3
most = json.loads(sys.argv[1])
resource.setrlimit(resource.RLIMIT_AS, (most["memory"],) * 2)
resource.setrlimit(resource.RLIMIT_CPU, (most["seconds"],) * 2)
look = {"align", "bgcolor", "border", "cellpadding", "cellspacing", "color", "dir", "face", "height", "size", "style",
        "title", "valign", "width"}
attributes = {tag: set(names) for tag, names in nh3.ALLOWED_ATTRIBUTES.items()}
attributes["*"] = attributes.get("*", set()) | look
sys.stdout.buffer.write(nh3.clean(
    sys.stdin.buffer.read().decode(),
    tags=nh3.ALLOWED_TAGS | {"center", "font"},
    attributes=attributes,
    url_schemes={"http", "https", "mailto", "tel", "cid"},
    url_relative="deny",
    set_tag_attribute_values={"a": {"target": "_blank"}},
).encode())
"""
"""In a process of its own, since it cannot be told to stop once it has begun."""


def clean(html: str, attachments: Iterable[Attachment] = ()) -> str | None:
    """The HTML without scripts, forms, frames and events; pictures that came with it are put in.

    None where it is too large, or takes too long or too much memory.
    """
    if len(html) > LARGEST:
        return None
    most = json.dumps({"memory": MOST_MEMORY, "seconds": MOST_SECONDS})
    try:
        done = subprocess.run(  # noqa: S603 -- our own program; the HTML is only its input
            [sys.executable, "-I", "-c", _PROGRAM, most],
            input=html.encode("utf-8", "replace"),
            capture_output=True,
            timeout=MOST_SECONDS,
            check=True,
        )
    except subprocess.SubprocessError:
        return None
    return _with_pictures(done.stdout.decode(), attachments)


def remote(html: str) -> int:
    """How many pictures and the like it would fetch from elsewhere."""
    return sum(1 for _ in _REMOTE.finditer(html))


def _with_pictures(html: str, attachments: Iterable[Attachment]) -> str:
    known = {one.content_id: one for one in attachments if one.content_id and one.content_type in _PICTURES}
    left = MOST_PICTURES

    def put_in(found: re.Match[str]) -> str:
        nonlocal left
        picture = known.get(found[1].replace("&amp;", "&"))
        if picture is None or len(picture.content) > left:
            return 'src=""'
        left -= len(picture.content)
        return f'src="data:{picture.content_type};base64,{b64encode(picture.content).decode()}"'

    return _CID.sub(put_in, html)
