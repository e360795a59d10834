"""What is wrong with the settings taken together; each finding has an id and says what to do (OPS-4).

Errors stop every command; warnings are shown by `manage.py check` and fail it in CI. What only matters where several
machines work together is left to `manage.py check --deploy`.
"""

from __future__ import annotations

import ipaddress
import os
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from cryptography.fernet import Fernet
from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning, register

_NEW_KEY = "openssl rand -base64 32 | tr +/ -_"
_ANY = {"0.0.0.0", "::", ""}  # noqa: S104 -- what people may configure


def credential_keys() -> Iterator[CheckMessage]:
    for number, key in enumerate(settings.CREDENTIAL_KEYS, 1):
        try:
            Fernet(key)
        except ValueError:
            yield Error(
                f"Key {number} of CREDENTIAL_KEYS is not a Fernet key.",
                hint=f"A Fernet key is 32 octets in URL-safe base64; {_NEW_KEY} makes one.",
                id="smtpproxy.E001",
            )
    if not settings.CREDENTIAL_KEYS:
        yield Error("CREDENTIAL_KEYS names no key.", hint=f"{_NEW_KEY} makes one.", id="smtpproxy.E001")


def shared_keys() -> Iterator[CheckMessage]:
    """Keys made by this machine alone are of no use to the next one that opens the same database."""
    local = settings.DATABASES["default"]["ENGINE"].endswith("sqlite3") and settings.QUEUE_TYPE == "embedded"
    if not local and not settings.KEYS_CONFIGURED and not settings.DEBUG:
        yield Warning(
            "SECRET_KEY and CREDENTIAL_KEYS are not both set, while database or broker can be shared by machines.",
            hint="Give every machine the same two values; those in use here are in DATA_DIR/keys.",
            id="smtpproxy.W002",
        )


def message_store() -> Iterator[CheckMessage]:
    if settings.STORAGE_TYPE == "s3" and not settings.S3_BUCKET:
        yield Error("STORAGE_TYPE=s3 without a bucket.", hint="Set S3_BUCKET.", id="smtpproxy.E003")
    if settings.STORAGE_TYPE == "local" and not _can_write(Path(settings.STORAGE_PATH)):
        yield Error(
            f"Messages cannot be written to {settings.STORAGE_PATH}.",
            hint="Set STORAGE_PATH to a folder this user may write to.",
            id="smtpproxy.E004",
        )


def lease() -> Iterator[CheckMessage]:
    """A lease that runs out during an attempt lets a second worker send the same message (DEL-2)."""
    if settings.DELIVERY_LEASE < 2 * settings.PROVIDER_TIMEOUT:
        yield Error(
            f"DELIVERY_LEASE ({settings.DELIVERY_LEASE:g} s) is less than twice PROVIDER_TIMEOUT "
            f"({settings.PROVIDER_TIMEOUT:g} s).",
            hint="Raise DELIVERY_LEASE or lower PROVIDER_TIMEOUT.",
            id="smtpproxy.E005",
        )
    visibility = settings.CELERY_BROKER_TRANSPORT_OPTIONS["visibility_timeout"]
    if visibility <= settings.DELIVERY_LEASE:
        yield Error(
            f"DELIVERY_LEASE ({settings.DELIVERY_LEASE:g} s) is not below the broker's visibility timeout "
            f"({visibility} s).",
            hint="Lower DELIVERY_LEASE.",
            id="smtpproxy.E006",
        )


def certificate() -> Iterator[CheckMessage]:
    """A certificate that cannot be used stops the start, not the first client."""
    chain, key = settings.SMTP["TLS_CERTIFICATE"], settings.SMTP["TLS_KEY"]
    if key and not chain:
        yield Error("SMTP_TLS_KEY without SMTP_TLS_CERTIFICATE.", hint="Set both, or neither.", id="smtpproxy.E007")
    elif chain and settings.SMTP["TLS_MODE"] != "none":
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(chain, key or None, password=_no_password)
        except (OSError, ValueError) as error:
            yield Error(
                f"SMTP_TLS_CERTIFICATE and SMTP_TLS_KEY cannot be used: {error}.",
                hint="Both are PEM files; the certificate comes before its chain, the key has no password.",
                id="smtpproxy.E008",
            )


def plaintext() -> Iterator[CheckMessage]:
    """SMTP-3: without TLS only on a loopback or private address, unless told so."""
    smtp = settings.SMTP
    if smtp["TLS_MODE"] == "none" and not smtp["ALLOW_PUBLIC_PLAINTEXT"]:
        for host in smtp["HOSTS"]:
            if _is_public(host):
                yield Error(
                    f"SMTP_TLS_MODE=none on the public address {host}: passwords would cross the network in clear.",
                    hint="Use TLS, listen on a private address, or set SMTP_ALLOW_PUBLIC_PLAINTEXT=true.",
                    id="smtpproxy.E009",
                )


def nothing_to_listen_on() -> Iterator[CheckMessage]:
    smtp = settings.SMTP
    if not smtp["HOSTS"] or not (smtp["PORT"] or (smtp["TLS_PORT"] and smtp["TLS_MODE"] != "none")):
        yield Error(
            "The listener has no address or no port.",
            hint="Set SMTP_HOSTS, SMTP_PORT or SMTP_TLS_PORT.",
            id="smtpproxy.E010",
        )


CHECKS: tuple[Callable[[], Iterator[CheckMessage]], ...] = (
    credential_keys,
    message_store,
    lease,
    certificate,
    plaintext,
    nothing_to_listen_on,
)


@register()
def configuration(**_: Any) -> list[CheckMessage]:
    return [found for check in CHECKS for found in check()]


@register(deploy=True)
def deployment(**_: Any) -> list[CheckMessage]:
    return list(shared_keys())


def _can_write(folder: Path) -> bool:
    """Whether it, or the nearest folder above that exists, lets us write."""
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    return existing.is_dir() and os.access(existing, os.W_OK | os.X_OK)


def _is_public(host: str) -> bool:
    if host in _ANY:
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host != "localhost"
    return not (address.is_private or address.is_loopback)


def _no_password() -> str:
    """Without it OpenSSL would ask for one at the terminal."""
    return ""
