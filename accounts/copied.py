"""A text with a button that copies it; `accounts/copy.js` does the copying."""

from __future__ import annotations

from django.utils.html import format_html
from django.utils.safestring import SafeString


def copied(id_: str, text: str) -> SafeString:
    """The text in a box with a button beside it; `id_` is the box's id on the page."""
    return format_html(
        '<div class="copied"><code class="code" id="{id}">{text}</code>'
        '<button type="button" class="tool" data-copy="#{id}" aria-live="polite">Copy</button></div>',
        id=id_,
        text=text,
    )
