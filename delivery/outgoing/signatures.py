"""The secret that a webhook's requests are signed with, and the signature: HMAC-SHA-256 over time and body (EVT-3).

A receiver that takes no signature older than some minutes cannot be sent an old request again by somebody else.
"""

from __future__ import annotations

import hashlib
import hmac
from datetime import datetime, timedelta
from typing import Any

from django.utils import timezone

from accounts.crypto import DecryptionError
from accounts.generated import generate

PREFIX = "whsec_"
BOTH_VALID = timedelta(hours=24)
"""How long requests are signed with the previous secret as well."""


def renewed(secrets: dict[str, Any]) -> dict[str, Any]:
    """What a webhook's `secrets` become with a new one. The one it had signs beside it for a day."""
    fresh: dict[str, Any] = {"current": PREFIX + generate(43)}  # 256 bits
    if secrets.get("current"):
        fresh |= {"previous": secrets["current"], "previous_until": (timezone.now() + BOTH_VALID).isoformat()}
    return fresh


def valid(secrets: dict[str, Any], now: datetime) -> list[str]:
    """The secrets to sign with, the current one first. Raises DecryptionError when there is none."""
    if not secrets.get("current"):
        raise DecryptionError("There is no secret.")
    until = secrets.get("previous_until")
    previous = until is not None and datetime.fromisoformat(until) > now
    return [secrets["current"], *([secrets["previous"]] if previous else [])]


def header(secrets: dict[str, Any], body: bytes, now: datetime) -> str:
    """The value of Smtpproxy-Signature: `t=<seconds since 1970>,v1=<hex>`, with a `v1` for each secret."""
    stamp = int(now.timestamp())
    signed = str(stamp).encode() + b"." + body
    codes = [hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest() for secret in valid(secrets, now)]
    return ",".join([f"t={stamp}", *(f"v1={code}" for code in codes)])
