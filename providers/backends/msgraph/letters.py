"""Messages in Graph's structured form, for what cannot go as MIME (PRV-3, PRV-4).

https://learn.microsoft.com/en-us/graph/api/resources/message
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from providers.backends.letter import Abilities, Letter, Types, compose
from providers.base import Attachment, Mailbox, OutboundMessage
from providers.envelope import Limits

MAX_HEADERS = 5
"""Custom headers in one message; more are refused as InvalidInternetMessageHeaderCollection."""
MAX_VALUE = 995
ABILITIES = Abilities(
    # https://learn.microsoft.com/en-us/graph/api/resources/message: 500 in To, Cc and Bcc together.
    limits=Limits(total=500, to_required=False),
    reply_tos=500,
    types=Types.BARE,
)
MARK = "String {6f4c9f5e-2f0a-4b0e-9b77-5d1f1f2c6a31} Name smtpproxy-attempt"
"""The extended property by which a draft is known again whose id was lost with the worker that made it."""
_DELETE_AFTER_SUBMIT = "Boolean 0x0E01"  # PidTagDeleteAfterSubmit: no copy in Sent Items (MS-OXOMSG 2.2.3.8)
_PROPERTIES = {
    # Headers that Graph cannot name and Exchange writes from these (MS-OXPROPS): PidTagInReplyToId and
    # PidTagInternetReferences.
    "in-reply-to": "String 0x1042",
    "references": "String 0x1039",
}
_IMPORTANCE = frozenset({"low", "normal", "high"})
_PRECIOUS = ("signature", "encryption", "S/MIME", "report structure", "calendar part", "structure:")


def letter_of(message: OutboundMessage) -> Letter:
    """The letter for this call, with the losses of Graph's own. Raises Unsupported or PermanentFailure."""
    letter = compose(message, ABILITIES)
    lost = list(letter.lost)
    if letter.text and letter.html:
        lost.append("plain text alternative: written anew from the HTML")
    kept: dict[str, str] = {}
    for name, value in letter.headers.items():
        own = sum(1 for other in kept if other.lower().startswith("x-"))
        key = name.lower()
        custom = key.startswith("x-") and own < MAX_HEADERS and len(value) <= MAX_VALUE
        told = key == "message-id" or key in _PROPERTIES or (key == "importance" and value.lower() in _IMPORTANCE)
        if custom or told:
            kept[name] = value
        else:
            lost.append(f"header {name}")
    return replace(letter, headers=kept, lost=tuple(lost))


def precious(letter: Letter) -> bool:
    """Whether the structured form would damage more than headers: such messages go as MIME wherever they can."""
    return letter.broken or any(loss.startswith(_PRECIOUS) for loss in letter.lost)


def payload(letter: Letter, attachments: Iterable[Attachment]) -> dict[str, Any]:
    """The `message` of a request, with those attachments that travel in it."""
    content, kind = (letter.html, "html") if letter.html else (letter.text, "text")
    written: dict[str, Any] = {
        "subject": letter.subject,
        "body": {"contentType": kind, "content": content},
        "from": _box(letter.sender),
    }
    lists = {
        "toRecipients": letter.addressing.to,
        "ccRecipients": letter.addressing.cc,
        "bccRecipients": letter.addressing.bcc,
        "replyTo": letter.reply_to,
    }
    written |= {name: [_box(box) for box in boxes] for name, boxes in lists.items() if boxes}
    headers = {name.lower(): value for name, value in letter.headers.items()}
    if "message-id" in headers:
        written["internetMessageId"] = headers["message-id"]
    if "importance" in headers:
        written["importance"] = headers["importance"].lower()
    custom = [(name, value) for name, value in letter.headers.items() if name.lower().startswith("x-")]
    if custom:
        written["internetMessageHeaders"] = [{"name": name, "value": value} for name, value in custom]
    properties = [{"id": id_, "value": headers[name]} for name, id_ in _PROPERTIES.items() if name in headers]
    if properties:
        written["singleValueExtendedProperties"] = properties
    files = [attached(file) for file in attachments]
    if files:
        written["attachments"] = files
    return written


def marked(written: Mapping[str, Any], key: str, *, save_to_sent_items: bool) -> dict[str, Any]:
    """The same for a draft: it can be found by the attempt's key, and says what becomes of it once it is sent."""
    properties = [*written.get("singleValueExtendedProperties", []), {"id": MARK, "value": key}]
    if not save_to_sent_items:
        properties.append({"id": _DELETE_AFTER_SUBMIT, "value": "true"})
    return {**written, "singleValueExtendedProperties": properties}


def attached(file: Attachment) -> dict[str, Any]:
    """A fileAttachment (https://learn.microsoft.com/en-us/graph/api/resources/fileattachment)."""
    return {
        "@odata.type": "#microsoft.graph.fileAttachment",
        "name": file.filename,
        "contentType": file.content_type,
        "contentBytes": base64.b64encode(file.content).decode("ascii"),
        "isInline": file.inline,
        **({"contentId": file.content_id} if file.inline else {}),
    }


def _box(box: Mailbox) -> dict[str, Any]:
    return {"emailAddress": {"address": box.address, **({"name": box.name} if box.name else {})}}
