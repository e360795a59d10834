"""What several services' ways of proving themselves have in common. Comparisons take the same time for any input."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from datetime import UTC, datetime, timedelta
from typing import Literal

from providers.webhooks.contract import WebhookRefused, WebhookRequest

Digest = Literal["sha1", "sha256"]
FUTURE = timedelta(minutes=15)
"""How far the clock of a service may be ahead of ours."""


def refused(reason: str) -> WebhookRefused:
    return WebhookRefused(403, reason)


def equal(given: str, expected: str) -> bool:
    """Both hashed first, so that not even the length shows in the time it takes."""
    left, right = (hashlib.sha256(text.encode("utf-8", "replace")).digest() for text in (given, expected))
    return hmac.compare_digest(left, right)


def check(given: str, expected: str, reason: str = "The signature is wrong.") -> None:
    """Raise WebhookRefused (403) unless both are the same."""
    if not equal(given, expected):
        raise refused(reason)


def check_body(request: WebhookRequest, name: str, key: str) -> None:
    """The header `name` holds the HMAC-SHA-256 of the body in hexadecimal; raises WebhookRefused (403)."""
    check(header(request, name), digest(key, request.body).hex())


def digest(key: str | bytes, message: bytes, kind: Digest = "sha256") -> bytes:
    return hmac.new(key.encode() if isinstance(key, str) else key, message, kind).digest()


def header(request: WebhookRequest, name: str) -> str:
    """A header that must be there; raises WebhookRefused (403)."""
    value = request.headers.get(name.lower(), "")
    if not value:
        raise refused(f"The header {name} is missing.")
    return value


def basic(request: WebhookRequest) -> tuple[str, str] | None:
    """User and password of RFC 7617, None when there are none."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        user, colon, password = base64.b64decode(token.strip(), validate=True).decode("utf-8").partition(":")
    except (binascii.Error, ValueError):
        return None
    return (user, password) if colon else None


def bearer(request: WebhookRequest) -> str:
    """The token of RFC 6750, or of a header that people add by hand where the service lets them; "" when none."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else request.headers.get("x-webhook-token", "")


def moment(text: str) -> datetime:
    """Seconds since 1970; raises WebhookRefused (403)."""
    try:
        return datetime.fromtimestamp(float(text), UTC)
    except (ValueError, OverflowError, OSError):
        raise refused("The timestamp cannot be read.") from None


def check_recent(when: datetime, now: datetime, past: timedelta) -> None:
    """Raise WebhookRefused (403) for what is older than `past`, or not yet."""
    if not now - past <= when <= now + FUTURE:
        raise refused("The timestamp is too far from now.")
