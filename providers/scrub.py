"""What other people's servers say, made fit for logs, the database and people (PRV-12, SEC-8)."""

from __future__ import annotations

import re
from collections.abc import Iterable

MAX_LENGTH = 500
"""Characters kept of one text."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]+")
_CREDENTIALS = re.compile(
    r"(?i)\b(?:bearer|basic|auth\s+(?:plain|login))\s+[\w+/=.~:-]+"  # an echoed Authorization header or AUTH command
    r"|\bSG\.[\w.-]{10,}"  # SendGrid keys
    r"|\bre_\w{10,}"  # Resend keys
    r"|\bxkeysib-[\w-]+"  # Brevo keys
    r"|\bmlsn\.\w+"  # MailerSend tokens
    r"|\bkey-[0-9a-f]{32}\b"  # Mailgun keys
)
_USERINFO = re.compile(r"(?<=://)[^/\s@]+@")


def scrub(text: str | bytes, secrets: Iterable[str] = ()) -> str:
    """One line of at most 500 characters without control characters, credentials or any of `secrets`.

    Bytes are read as UTF-8, anything else in them is shown as a replacement character.
    """
    if isinstance(text, bytes):
        text = text[: 8 * MAX_LENGTH].decode("utf-8", "replace")
    text = _CONTROL.sub(" ", text).strip()
    for secret in sorted({s for s in secrets if len(s) > 3}, key=len, reverse=True):
        text = text.replace(secret, "***")
    text = scrub_credentials(text)
    return text if len(text) <= MAX_LENGTH else text[: MAX_LENGTH - 1] + "…"


def scrub_credentials(text: str) -> str:
    """The text without what looks like a credential, for example a password in a URL."""
    return _USERINFO.sub("***@", _CREDENTIALS.sub("***", text))
