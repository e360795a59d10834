"""Ready lines that send a first message with an account's credentials."""

from __future__ import annotations

import shlex

from django.conf import settings

from accounts.models import Account


def swaks(account: Account, password: str) -> str:
    """A swaks command for this account against this installation's listener; holds the password.

    "" for an account that may not send from any domain.
    """
    if not account.allowed_senders:
        return ""
    domain = account.allowed_senders[0]
    host = settings.SMTP["HOSTNAME"]
    arguments = {
        "--server": f"{host}:{settings.SMTP['PORT']}",
        "--auth": "PLAIN",
        "--auth-user": account.username,
        "--auth-password": password,
        "--from": f"test@{domain.replace('*.', 'mail.', 1)}",
        "--to": "you@example.com",
    }
    tls = ["--tls"] if settings.SMTP["TLS_MODE"] == "starttls" else []
    return shlex.join(["swaks", *tls, *(part for pair in arguments.items() for part in pair)])
