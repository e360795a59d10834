"""What the codes of refusals mean, and what helps, in the words of people (SMTP-18)."""

from __future__ import annotations

_WORDS = {
    "unknown_account": ("No account has this username", "Check the username in the client's settings."),
    "wrong_password": ("Wrong password", "Check the client's password, or issue a new one on the account's page."),
    "password_changed": ("The password was changed", "Give the client the new password."),
    "account_suspended": ("The account is suspended", "Activate the account on its page."),
    "tenant_suspended": ("The tenant is suspended", "Ask the platform's operator."),
    "network_not_allowed": (
        "Not allowed from this address",
        "Add the client's address to the networks of the account or the tenant.",
    ),
    "acts_for_another": ("Signed in to act for another", "Leave the authorization identity of AUTH PLAIN empty."),
    "too_many_failures_of_address": ("Too many failed logins from this address", "Mend the password, then wait."),
    "too_many_failures_of_username": ("Too many failed logins for this username", "Mend the password, then wait."),
    "authentication_required": ("Sent mail without signing in", "Switch SMTP authentication on in the client."),
    "starttls_required": ("Sent mail without TLS and without signing in", "Switch STARTTLS and authentication on."),
    "encryption_required": ("Signed in without TLS", "Switch STARTTLS on in the client, or use the TLS port."),
    "tls_failed": ("The TLS handshake failed", "The client may know no TLS 1.2, or not trust our certificate."),
    "sender_not_allowed": (
        "May not send from this address",
        "Add the sender's domain to the account's allowed sender domains.",
    ),
    "header_sender_not_allowed": (
        "May not write this address into From",
        "Add the domain in the From field to the account's allowed sender domains.",
    ),
    "message_too_big": ("Message too big", "Send it smaller, or have SMTP_MAX_MESSAGE_SIZE raised."),
    "too_large": ("Too large for every provider", "Send it smaller, or add a provider that takes more."),
    "quota": ("The quota is used up", "Wait for the next period, or have the quota raised."),
    "nul_octet": ("The message holds a NUL", "Mend the program that writes the message."),
    "bare_cr": ("The message holds a bare CR", "Mend the program: lines end with CR LF."),
    "bare_lf": ("The message holds a bare LF", "Mend the program: lines end with CR LF."),
    "loop": ("The message goes round in circles", "Look at its Received fields for where it comes back."),
    "not_kept": ("It could not be written to disk", "The client tries again; look at the disk of SMTP_SPOOL_PATH."),
    "queue_full": ("Too much mail waits already", "The client tries again later."),
    "store_full": ("The message store is full", "The client tries again later; make room in the store."),
    "acceptance_timeout": ("The database did not answer in time", "The client tries again later."),
    "acceptance_stuck": ("The database does not answer", "The client tries again later."),
    "max_connections": ("Too many connections", "The client tries again later."),
    "max_connections_per_address": ("Too many connections from this address", "Open fewer connections at once."),
    "max_new_connections_per_minute": ("This address connects too often", "Send several messages on one connection."),
    "too_many_recipients": ("Too many recipients for one message", "Send the rest in another message."),
}


def in_words(reason: str) -> str:
    """A code as people would say it."""
    known = _WORDS.get(reason)
    return known[0] if known else reason.replace("_", " ").capitalize()


def advice(reason: str) -> str:
    """What helps against it; "" where nothing can be said."""
    known = _WORDS.get(reason)
    return known[1] if known else ""
