"""Every SMTP reply by name (SMTP-16): the wire contract on one screen.

Each carries an enhanced status code (RFC 2034, RFC 3463), save the greeting, EHLO, 334 and 354, which may not.
No reply repeats what the client sent, and none tells why something inside failed.
"""

from __future__ import annotations

import re
import uuid

from delivery.exceptions import Deferred, NotAccepted

# --- Success ---
OK = b"250 2.0.0 Ok"
SENDER_OK = b"250 2.1.0 Sender ok"
RECIPIENT_OK = b"250 2.1.5 Recipient ok"
RESET = b"250 2.0.0 Reset"
BYE = b"221 2.0.0 Bye"
CANNOT_VERIFY = b"252 2.0.0 Addresses are not disclosed; send the message and see"
HELP = b"214 2.0.0 Commands: EHLO HELO STARTTLS AUTH MAIL RCPT DATA RSET NOOP VRFY HELP QUIT"
READY_FOR_TLS = b"220 2.0.0 Ready to start TLS"
AUTHENTICATED = b"235 2.7.0 Authentication successful"

# --- Go on ---
START_MAIL_INPUT = b"354 End data with <CR><LF>.<CR><LF>"
AUTH_EMPTY_CHALLENGE = b"334 "
AUTH_USERNAME_CHALLENGE = b"334 VXNlcm5hbWU6"
AUTH_PASSWORD_CHALLENGE = b"334 UGFzc3dvcmQ6"

# --- The connection ends ---
SHUTTING_DOWN = b"421 4.3.2 Service shutting down; connect again"
TOO_MANY_CONNECTIONS = b"421 4.7.0 Too many connections; try again later"
TOO_MANY_FROM_ADDRESS = b"421 4.7.0 Too many connections from your address; try again later"
TOO_MANY_NEW_FROM_ADDRESS = b"421 4.7.0 Your address connects too often; try again later"
TOO_MANY_MESSAGES = b"421 4.7.0 Enough messages on this connection; connect again"
LOGIN_ENDED = b"421 4.7.0 This login is no longer valid; connect and log in again"
TOO_MANY_ERRORS = b"421 4.7.0 Too many errors; closing the connection"
TOO_MANY_RECIPIENT_COMMANDS = b"421 4.5.3 Far too many recipients; closing the connection"
TOO_MANY_AUTH_FAILURES = b"421 4.7.0 Too many failed logins from your address; try again later"
NOT_SMTP = b"421 4.7.0 This is an SMTP server"
IDLE_TOO_LONG = b"421 4.4.2 Waited too long for a command"
IDLE_WITHOUT_CRLF = b"421 4.4.2 Waited too long for a command; lines must end with CR LF"
TRY_LATER_CLOSING = b"421 4.3.0 Temporary failure; closing the connection"
DATA_TOO_SLOW = b"421 4.4.2 The message came too slowly"

# --- Commands ---
LINE_TOO_LONG = b"500 5.5.2 Line too long"
BAD_LINE = b"500 5.5.2 Lines must end with CR LF and hold no NUL"
UNKNOWN_COMMAND = b"500 5.5.2 Command not recognised"
NOT_IMPLEMENTED = b"502 5.5.1 Command not implemented"
NO_PARAMETERS_ALLOWED = b"501 5.5.4 This command takes no parameters"
SYNTAX_HELO = b"501 5.5.4 Syntax: HELO hostname"
SYNTAX_EHLO = b"501 5.5.4 Syntax: EHLO hostname"
SYNTAX_MAIL = b"501 5.5.4 Syntax: MAIL FROM:<address> [parameters]"
SYNTAX_RCPT = b"501 5.5.4 Syntax: RCPT TO:<address>"
SYNTAX_VRFY = b"501 5.5.4 Syntax: VRFY address"
NEED_HELO = b"503 5.5.1 Send HELO or EHLO first"
NEED_EHLO = b"503 5.5.1 Send EHLO first"
NEED_MAIL = b"503 5.5.1 Send MAIL first"
NEED_RCPT = b"503 5.5.1 Send RCPT first"
NESTED_MAIL = b"503 5.5.1 A mail transaction is already open; send RSET to abandon it"
NO_VALID_RECIPIENTS = b"554 5.5.1 No valid recipients"

# --- TLS and AUTH ---
TLS_ALREADY_ACTIVE = b"503 5.5.1 TLS is already active"
ENCRYPTION_REQUIRED = b"538 5.7.11 Encryption required for authentication; send STARTTLS first"
STARTTLS_REQUIRED = b"530 5.7.0 Send STARTTLS and authenticate first"
AUTHENTICATION_REQUIRED = b"530 5.7.0 Authentication required"
ALREADY_AUTHENTICATED = b"503 5.5.1 Already authenticated"
AUTH_IN_TRANSACTION = b"503 5.5.1 AUTH is not allowed during a mail transaction"
SYNTAX_AUTH = b"501 5.5.4 Syntax: AUTH mechanism [initial-response]"
UNKNOWN_MECHANISM = b"504 5.5.4 Authentication mechanism not supported"
BAD_BASE64 = b"501 5.5.2 That is not valid base64"
BAD_CREDENTIALS_FORM = b"501 5.5.2 The credentials are not in the form the mechanism asks for"
AUTH_CANCELLED = b"501 5.7.0 Authentication cancelled"
AUTH_LINE_TOO_LONG = b"500 5.5.6 Authentication exchange line too long"
CREDENTIALS_INVALID = b"535 5.7.8 Authentication credentials invalid"
AUTH_TEMPORARILY_REFUSED = b"454 4.7.0 Too many failed logins for this username; try again later"
AUTH_UNAVAILABLE = b"454 4.7.0 Temporary authentication failure"

# --- Envelope ---
BAD_SENDER_SYNTAX = b"501 5.1.7 Sender address is malformed"
BAD_RECIPIENT_SYNTAX = b"501 5.1.3 Recipient address is malformed"
SENDER_NOT_ALLOWED = b"550 5.7.1 This account may not send from this address"
UNQUALIFIED_POSTMASTER = b"550 5.1.1 There are no local mailboxes; name a domain"
SMTPUTF8_REQUIRED = b"553 5.6.7 Internationalised addresses need the SMTPUTF8 parameter"
UNKNOWN_PARAMETER = b"555 5.5.4 Parameter not recognised or not implemented"
BAD_PARAMETER = b"501 5.5.4 Parameter malformed"
TOO_MANY_RECIPIENTS = b"452 4.5.3 Too many recipients for one message; send the rest in another"

# --- The message ---
MESSAGE_TOO_BIG = b"552 5.3.4 Message exceeds the maximum size"
BARE_LINE_END = b"550 5.6.11 The message holds a bare CR or LF; lines must end with CR LF"
NUL_IN_MESSAGE = b"550 5.6.0 The message holds a NUL octet"
LOOP_DETECTED = b"554 5.4.6 Too many Received header fields; this looks like a loop"
TRY_LATER = b"451 4.3.0 Temporary failure; try again later"


def greeting(hostname: str) -> bytes:
    return b"220 %b ESMTP ready" % hostname.encode("ascii")


def helo(hostname: str) -> bytes:
    return b"250 " + hostname.encode("ascii")


def ehlo(hostname: str, extensions: list[str]) -> bytes:
    """The multi-line answer to EHLO: our name, then one extension a line."""
    lines = [hostname, *extensions]
    return "\r\n".join([*(f"250-{line}" for line in lines[:-1]), f"250 {lines[-1]}"]).encode("ascii")


def queued(message_id: uuid.UUID) -> bytes:
    return b"250 2.0.0 Ok: queued as %b" % str(message_id).encode("ascii")


def told(reply: bytes) -> str:
    """A reply as people read it."""
    return reply.decode("ascii", "replace")


def reason(reply: bytes) -> str:
    """What a reply of this file is called, as a code: `starttls_required`; "refused" for any other."""
    return _REASONS.get(reply, "refused")


_REASONS = {value: name.lower() for name, value in list(globals().items()) if isinstance(value, bytes)}
_REJECTED = {"5.3.4": 552, "5.2.2": 552, "5.6.7": 553, "5.1.7": 553, "5.4.6": 554}
_DEFERRED = {"4.2.2": 452, "4.3.1": 452, "4.5.3": 452}
_STATUS = re.compile(r"[45]\.\d{1,3}\.\d{1,3}")
_UNPRINTABLE = re.compile(r"[^ -~]+")


def refused(error: NotAccepted) -> bytes:
    """The reply for a message acceptance did not take: 5xx when rejected, 4xx when deferred, in its own words."""
    deferred = isinstance(error, Deferred)
    status = error.status
    if not _STATUS.fullmatch(status) or (status[0] == "4") != deferred:
        status = "4.3.0" if deferred else "5.7.1"
    code = _DEFERRED.get(status, 451) if deferred else _REJECTED.get(status, 550)
    text = _UNPRINTABLE.sub(" ", error.text).strip()[:400] or ("Try again later" if deferred else "Refused")
    return f"{code} {status} {text}".encode("ascii")
