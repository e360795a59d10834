"""The settings of the SMTP type that do not fit each other, and its TLS context."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from typing import Any

from providers import destinations
from providers.exceptions import BadSettings


def check_login(settings: Mapping[str, Any], host: str) -> None:
    """Raises BadSettings for half a login, and for one that anybody could read on the way."""
    if settings["username"] and not settings["password"]:
        raise BadSettings({"password": "required with a user name"})
    if settings["password"] and not settings["username"]:
        raise BadSettings({"username": "required with a password"})
    in_the_clear = settings["security"] == "none" and not destinations.is_loopback(host)
    if settings["username"] and in_the_clear and not settings["allow_plaintext"]:
        raise BadSettings({"security": "a user name and password need starttls or tls"})


def tls_context(verify: bool, ca_certificate: str | None) -> ssl.SSLContext:
    """The context for STARTTLS and TLS; `ca_certificate` is PEM text. Raises BadSettings."""
    if "PRIVATE KEY" in (ca_certificate or ""):
        raise BadSettings({"ca_certificate": "must hold certificates only, no private key"})
    try:
        context = ssl.create_default_context(cadata=ca_certificate or None)
        if ca_certificate and not context.cert_store_stats()["x509"]:
            raise ValueError("no certificate")
    except (ssl.SSLError, ValueError) as error:
        raise BadSettings({"ca_certificate": "must be certificates as PEM text"}) from error
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
