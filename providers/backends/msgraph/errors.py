"""What Graph's error codes mean for a message (PRV-7).

Codes and statuses: https://learn.microsoft.com/en-us/graph/errors; the mailbox's own (Error…) are those of Exchange:
https://learn.microsoft.com/en-us/exchange/client-developer/web-service-reference/responsecode
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from providers import http
from providers.exceptions import (
    Misconfigured,
    PermanentFailure,
    ProviderError,
    TemporaryFailure,
    TooLarge,
    Unsupported,
)
from providers.http import Answer
from providers.scrub import scrub

BAD_RECIPIENT = frozenset({"ErrorInvalidRecipients", "ErrorNonExistentRecipient"})
NOT_FOUND = frozenset({"ErrorItemNotFound", "itemNotFound"})

# The mailbox of the row does not exist or is closed to the application. Where the sender chooses the mailbox, that is
# this sender's trouble only.
_MAILBOX = {
    "ErrorAccessDenied": "access_denied",
    "accessDenied": "access_denied",
    "Authorization_RequestDenied": "access_denied",
    "extensionError": "access_denied",
    "ErrorInvalidUser": "no_mailbox",
    "ErrorNonExistentMailbox": "no_mailbox",
    "MailboxNotFound": "no_mailbox",
    "ResourceNotFound": "no_mailbox",
    "Request_ResourceNotFound": "no_mailbox",
    "MailboxNotEnabledForRESTAPI": "no_mailbox",
    "MailboxNotSupportedForRESTAPI": "no_mailbox",
    "ErrorMailboxNotEnabledForRESTAPI": "no_mailbox",
    "ErrorAccountSuspend": "account_blocked",
}

_MEANINGS: dict[str, tuple[type[ProviderError], str]] = {
    **{code: (Misconfigured, ours) for code, ours in _MAILBOX.items()},
    **dict.fromkeys(BAD_RECIPIENT, (PermanentFailure, "bad_recipient")),
    "InvalidAuthenticationToken": (Misconfigured, "bad_credentials"),
    "AuthenticationError": (Misconfigured, "bad_credentials"),
    "unauthenticated": (Misconfigured, "bad_credentials"),
    # The application may use the mailbox, but not send as the address in From.
    "ErrorSendAsDenied": (Unsupported, "sender_not_verified"),
    "ErrorMessageSizeExceeded": (TooLarge, "too_large"),
    "ErrorItemSizeExceeded": (TooLarge, "too_large"),
    "ErrorAttachmentSizeLimitExceeded": (TooLarge, "too_large"),
    "maxFileSizeExceeded": (TooLarge, "too_large"),
    "ErrorMimeContentInvalid": (Unsupported, "mime_refused"),
    "ErrorMimeContentInvalidBase64String": (Unsupported, "mime_refused"),
    "ErrorMimeContentConversionFailed": (Unsupported, "mime_refused"),
    "ErrorContentConversionFailed": (Unsupported, "mime_refused"),
    "malwareDetected": (Unsupported, "content_refused"),
    "virusSuspicious": (Unsupported, "content_refused"),
    # The day's or hour's mail of the mailbox, and its storage.
    "ErrorExceededMessageLimit": (TemporaryFailure, "quota"),
    "ErrorExceededHourlyMessageLimit": (TemporaryFailure, "quota"),
    "ErrorExceededMaxRecipientLimit": (TemporaryFailure, "quota"),
    "quotaLimitReached": (TemporaryFailure, "quota"),
    "ErrorQuotaExceeded": (TemporaryFailure, "mailbox_full"),
    "ApplicationThrottled": (TemporaryFailure, "throttled"),
    "TooManyRequests": (TemporaryFailure, "throttled"),
    "ErrorTooManyRequests": (TemporaryFailure, "throttled"),
    "activityLimitReached": (TemporaryFailure, "throttled"),
    "MailboxConcurrency": (TemporaryFailure, "throttled"),
    "ErrorServerBusy": (TemporaryFailure, "throttled"),
    "serviceNotAvailable": (TemporaryFailure, "server_error"),
    "ErrorInternalServerError": (TemporaryFailure, "server_error"),
    "ErrorInternalServerTransientError": (TemporaryFailure, "server_error"),
    "ErrorMailboxStoreUnavailable": (TemporaryFailure, "server_error"),
    "ErrorMailboxMoveInProgress": (TemporaryFailure, "server_error"),
    "ErrorTimeoutExpired": (TemporaryFailure, "server_error"),
    "ErrorConnectionFailed": (TemporaryFailure, "server_error"),
}


def codes(answer: Answer) -> tuple[str, ...]:
    """The error codes of an answer, the most detailed one first."""
    found: list[str] = []
    error = _error(answer)
    while isinstance(error, Mapping) and len(found) < 8:
        if isinstance(error.get("code"), str):
            found.insert(0, error["code"])
        error = error.get("innererror") or error.get("innerError")
    return tuple(found)


def words(answer: Answer) -> str:
    """Graph's own explanation."""
    error = _error(answer)
    said = error.get("message") if isinstance(error, Mapping) else ""
    code = codes(answer)[-1:]
    return f"{said} ({code[0]})" if code else str(said or "")


def failure(answer: Answer, secrets: Iterable[str], *, mailbox_of_row: bool) -> ProviderError:
    """What an answer that is no success means. `mailbox_of_row`: every message goes through this mailbox."""
    text = scrub(f"{answer.reason}: {words(answer)}", secrets)
    for code in codes(answer):
        if code in _MAILBOX and not mailbox_of_row:
            return Unsupported(text, code="sender_not_verified", status_code=answer.status)
        kind, ours = _MEANINGS.get(code, (None, ""))
        if kind is TemporaryFailure:
            return http.temporary(answer, words(answer), code=ours, secrets=secrets)
        if kind is not None:
            return kind(text, code=ours, status_code=answer.status)
    if answer.status == 507:
        return http.temporary(answer, words(answer), code="mailbox_full", secrets=secrets)
    return http.failure(answer, words(answer), secrets=secrets)


def _error(answer: Answer) -> Any:
    body = answer.json()
    return body.get("error") if isinstance(body, Mapping) else None
