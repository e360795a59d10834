"""What a message that is not accepted is answered with: the same reasons as by SMTP, as HTTP says them (API-3)."""

from __future__ import annotations

from rest_framework import exceptions, status

from accounts.api.errors import RETRY_AFTER
from delivery.exceptions import Deferred, NotAccepted

_FORBIDDEN = frozenset({"sender_not_allowed", "header_sender_not_allowed", "suspended", "unknown_account"})
KEY_REUSED = "key_reused"
_TOO_LARGE = frozenset({"too_large", "too_large_for_providers"})


class Refused(exceptions.APIException):
    """One refusal of acceptance: its code and text, and with `wait` the seconds until trying again may help."""

    def __init__(self, refusal: NotAccepted) -> None:
        super().__init__(refusal.text, refusal.code)
        self.status_code = status_of(refusal)
        self.wait = _wait(refusal)
        field = getattr(refusal, "field", "")
        self.details = {field: [refusal.text]} if field else {}


def status_of(refusal: NotAccepted) -> int:
    """403, 413 or 400 for what will be refused again, 429 for a quota, 503 for all else that may pass."""
    if isinstance(refusal, Deferred):
        of_quota = refusal.code.startswith("quota_") and refusal.code != "quota_unknown"
        return status.HTTP_429_TOO_MANY_REQUESTS if of_quota else status.HTTP_503_SERVICE_UNAVAILABLE
    if refusal.code == KEY_REUSED:
        return status.HTTP_409_CONFLICT
    if refusal.code in _FORBIDDEN:
        return status.HTTP_403_FORBIDDEN
    return status.HTTP_413_REQUEST_ENTITY_TOO_LARGE if refusal.code in _TOO_LARGE else status.HTTP_400_BAD_REQUEST


def _wait(refusal: NotAccepted) -> float | None:
    if not isinstance(refusal, Deferred):
        return None
    return RETRY_AFTER if refusal.retry_after is None else refusal.retry_after
