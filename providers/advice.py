"""What to do about a provider that did not take a test: one line for each kind of failure (PRV-13)."""

from __future__ import annotations

_CREDENTIALS = "Check user name, password or key: enter it again, without spaces, and see that it has not expired."
_SENDER = "Let the service verify this sender address or its domain, or send from one it knows."
_REACH = "Check host and port, and whether a firewall lets this server out; then try again."
_CERTIFICATE = "Check the security and port settings, and whether the server's certificate is valid for this host name."
_WAIT = "The service is busy or down: wait a little and try again. Mail that waits is sent later by itself."
_SETTINGS = "Correct the settings beside this, save, and try again."
_ACCOUNT = "Look into your account at the service: it has to be unblocked or completed there."
_RECIPIENT = "Try another recipient: the service does not take this one."

_BY_CODE = {
    "bad_credentials": _CREDENTIALS,
    "no_credentials": _CREDENTIALS,
    "undecryptable": "The stored settings cannot be read any more: enter every secret again and save.",
    "sender_not_verified": _SENDER,
    "domain_not_verified": _SENDER,
    "domain_not_found": _SENDER,
    "sender_refused": _SENDER,
    "no_sender": _SENDER,
    "relay_denied": "The server does not relay for this login or sender: enter a user name, or allow this host there.",
    "connection_failed": _REACH,
    "connect_timeout": _REACH,
    "timeout": _REACH,
    "connection_lost": _REACH,
    "wrong_url": "Check the base URL: it leads somewhere else than to this service.",
    "tls": _CERTIFICATE,
    "tls_certificate": _CERTIFICATE,
    "tls_unavailable": "The server offers no STARTTLS on this port: choose another port or another security.",
    "throttled": _WAIT,
    "unavailable": _WAIT,
    "server_error": _WAIT,
    "turned_away": _WAIT,
    "quota": "The quota at the service is used up: raise it there, or wait until it is renewed.",
    "account_blocked": _ACCOUNT,
    "account_pending": _ACCOUNT,
    "bad_config": _SETTINGS,
    "bad_recipient": _RECIPIENT,
    "bad_address": _RECIPIENT,
    "recipient_not_verified": "Accounts on trial may write to verified recipients only: verify it, or leave the trial.",
    "recipient_not_allowed": _RECIPIENT,
    "no_check": "Send a test message instead.",
    "not_writable": "Let this server write to the directory, or choose another.",
}


def advice(code: str, status_code: int | None) -> str:
    """What a person can do about this failure; "" where nobody can say."""
    if code in _BY_CODE:
        return _BY_CODE[code]
    if status_code in (401, 403, 535):
        return _CREDENTIALS
    if status_code is not None and (status_code >= 500 or status_code == 429) and status_code < 600:
        return _WAIT
    return ""
