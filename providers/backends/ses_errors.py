"""What Amazon SES says when it does not take a message (PRV-7).

https://docs.aws.amazon.com/ses/latest/APIReference-V2/API_SendEmail.html#API_SendEmail_Errors
https://docs.aws.amazon.com/ses/latest/APIReference-V2/CommonErrors.html
https://docs.aws.amazon.com/ses/latest/dg/troubleshoot-error-messages.html
https://docs.aws.amazon.com/ses/latest/dg/manage-sending-quotas-errors.html
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from providers import http
from providers.exceptions import Misconfigured, PermanentFailure, ProviderError, TemporaryFailure, TooLarge, Unsupported
from providers.http import Answer
from providers.scrub import scrub

Meaning = tuple[type[ProviderError], str]

_KEYS: Meaning = (Misconfigured, "bad_credentials")
_BLOCKED: Meaning = (Misconfigured, "account_blocked")
_THROTTLED: Meaning = (TemporaryFailure, "throttled")
_QUOTA: Meaning = (TemporaryFailure, "quota")
_BROKEN: Meaning = (TemporaryFailure, "server_error")
_SENDER: Meaning = (Unsupported, "sender_not_verified")

_BY_NAME: dict[str, Meaning] = {
    # SendEmail
    "TooManyRequestsException": _THROTTLED,
    "LimitExceededException": _QUOTA,
    "AccountSuspendedException": _BLOCKED,
    "SendingPausedException": (Misconfigured, "account_paused"),
    "MessageRejected": (PermanentFailure, "refused"),
    "MailFromDomainNotVerifiedException": _SENDER,
    "NotFoundException": (Misconfigured, "not_found"),
    "BadRequestException": (PermanentFailure, "bad_request"),
    # Every operation
    "AccessDeniedException": (Misconfigured, "access_denied"),
    "AccessDenied": (Misconfigured, "access_denied"),
    "ExpiredTokenException": _KEYS,
    "ExpiredToken": _KEYS,
    "IncompleteSignature": _KEYS,
    "IncompleteSignatureException": _KEYS,
    "InvalidAccessKeyId": _KEYS,
    "InvalidClientTokenId": _KEYS,
    "InvalidSignatureException": _KEYS,
    "MissingAuthenticationToken": _KEYS,
    "MissingAuthenticationTokenException": _KEYS,
    "NotAuthorized": _KEYS,
    "OptInRequired": _KEYS,
    "RequestExpired": (Misconfigured, "wrong_clock"),
    "RequestTimeTooSkewed": (Misconfigured, "wrong_clock"),
    "SignatureDoesNotMatch": _KEYS,
    "UnrecognizedClientException": _KEYS,
    "InternalFailure": _BROKEN,
    "InternalServerError": _BROKEN,
    "InternalServerErrorException": _BROKEN,
    "InternalServiceErrorException": _BROKEN,
    "ServiceUnavailable": _BROKEN,
    "ServiceUnavailableException": _BROKEN,
    "RequestTimeout": _BROKEN,
    "Throttling": _THROTTLED,
    "ThrottlingException": _THROTTLED,
    "RequestLimitExceeded": _THROTTLED,
    "RequestThrottled": _THROTTLED,
    "RequestThrottledException": _THROTTLED,
    "ThrottledException": _THROTTLED,
    "SlowDown": _THROTTLED,
    "RequestEntityTooLarge": (TooLarge, "too_large"),
    "ValidationError": (PermanentFailure, "bad_request"),
    "ValidationException": (PermanentFailure, "bad_request"),
}

_LIMITS = frozenset({_THROTTLED, _QUOTA})
_CONTENT = frozenset({"MessageRejected", "BadRequestException"})
_BY_TEXT: tuple[tuple[re.Pattern[str], Meaning], ...] = tuple(
    (re.compile(pattern, re.IGNORECASE), meaning)
    for pattern, meaning in (
        (r"address(?:es)? (?:is |are )?not verified|not have authority to send", _SENDER),
        (r"sending (?:is |has been )?(?:suspended|disabled|paused)", _BLOCKED),
        (r"configuration set .*(?:does not exist|doesn.t exist|not found)", (Misconfigured, "not_found")),
        (r"(?:message|size).*(?:too (?:large|long|big)|more than [0-9]+ bytes|exceed)", (TooLarge, "too_large")),
        # Another service may carry these.
        (r"duplicate header", (Unsupported, "header_refused")),
        (r"illegal filename|attachment|file ?(?:type|extension)", (Unsupported, "attachment_refused")),
    )
)
# "Signature expired: 20261122T100000Z is now earlier than …", "Signature not yet current: …"
_CLOCK = re.compile(r"signature (?:expired|not yet current)", re.IGNORECASE)
_IDENTITIES = re.compile(r"failed the check in region [\w-]+:\s*(.+)", re.IGNORECASE | re.DOTALL)
_BAD_ADDRESS = re.compile(
    r"missing final '?@|missing start '?@|local address contains|domain (?:contains|starts|ends|name)|"
    r"illegal address|invalid (?:email )?address|address .* invalid|missing '?@",
    re.IGNORECASE,
)


def name(answer: Answer) -> str:
    """The error's name: `X-Amzn-ErrorType: TooManyRequestsException:http://…`, or `__type` or `code` in the body."""
    body = answer.json()
    body = body if isinstance(body, dict) else {}
    named = str(answer.headers.get("x-amzn-errortype") or body.get("__type") or body.get("code") or "")
    return named.partition(":")[0].rpartition("#")[2].strip()


def words(answer: Answer) -> str:
    """What the service says about the error."""
    body = answer.json()
    text = (body.get("message") or body.get("Message") or "") if isinstance(body, dict) else ""
    return f"{name(answer)}: {text}".strip(": ")


def failure(answer: Answer, *, worked: bool, secrets: Iterable[str]) -> ProviderError:
    """What an error answer means for the message. `worked` is whether these settings have sent mail before."""
    called, said = name(answer), words(answer)
    meaning = _meaning(called, said)
    if meaning is None:
        return http.failure(answer, said, secrets=secrets)
    kind, code = meaning
    if code == "access_denied" and worked:
        # A policy that covers some senders only. The settings are right for the others, which must not wait.
        kind = TemporaryFailure
    if kind is TemporaryFailure:
        return http.temporary(answer, said, code=code, secrets=secrets)
    return kind(scrub(f"{answer.reason}: {said}", secrets), code=code, status_code=answer.status)


def _meaning(called: str, said: str) -> Meaning | None:
    meaning = _BY_NAME.get(called)
    if meaning == _KEYS and _CLOCK.search(said):
        return (Misconfigured, "wrong_clock")
    if meaning in _LIMITS and re.search(r"daily|24.hour", said, re.IGNORECASE):
        return _QUOTA
    if called in _CONTENT:
        return next((found for pattern, found in _BY_TEXT if pattern.search(said)), meaning)
    return meaning


def unverified(said: str) -> list[str]:
    """The identities the service names as not verified, recipients among them while the account is in the sandbox."""
    match = _IDENTITIES.search(said)
    return [identity.strip(" .<>") for identity in match[1].split(",")] if match else []


def blames_address(answer: Answer) -> bool:
    """Whether the service could not read some address of the request; it does not say which."""
    return name(answer) in _CONTENT and bool(_BAD_ADDRESS.search(words(answer)))
