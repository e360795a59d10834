"""TLS: the configured certificate, or in development one of our own that is made once and kept (SMTP-1, SMTP-3)."""

from __future__ import annotations

import os
import secrets
import ssl
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import structlog
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from relay.config import Config

log = structlog.get_logger(__name__)

VALID = timedelta(days=3650)
RENEW_BEFORE = timedelta(days=30)


def context(config: Config) -> ssl.SSLContext | None:
    """A fresh context for new connections; None when this listener does not speak TLS.

    Raises ImproperlyConfigured when the certificate cannot be used.
    """
    if not config.tls:
        return None
    certificate, key = config.tls_certificate, config.tls_key or config.tls_certificate
    if not certificate:
        certificate = key = str(development_certificate(Path(settings.DATA_DIR) / "tls", config.hostname))
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    made.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
    try:
        made.load_cert_chain(certificate, key, password=_no_passphrase)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ImproperlyConfigured(f"SMTP_TLS_CERTIFICATE or SMTP_TLS_KEY cannot be used: {reason}.") from error
    return made


def development_certificate(directory: Path, hostname: str) -> Path:
    """A file with a self-signed certificate for `hostname` and its key, readable by nobody else; made if missing.

    Made anew when it is about to expire or is for another name. Two processes at once do no harm.
    """
    path = directory / "development.pem"
    if not _still_good(path, hostname):
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        draft = directory / f".{secrets.token_hex(8)}"
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(_self_signed(hostname))
        draft.replace(path)
        log.warning("self-signed certificate made; clients will not trust it", path=str(path), hostname=hostname)
    return path


def _still_good(path: Path, hostname: str) -> bool:
    try:
        certificate = x509.load_pem_x509_certificate(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return False
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    same_name = hostname in names.get_values_for_type(x509.DNSName)
    return same_name and certificate.not_valid_after_utc > datetime.now(UTC) + RENEW_BEFORE


def _self_signed(hostname: str) -> bytes:
    """Certificate and key in PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, hostname[:64])])
    names: list[x509.GeneralName] = [x509.DNSName(entry) for entry in dict.fromkeys((hostname, "localhost"))]
    names += [x509.IPAddress(ip_address(entry)) for entry in ("127.0.0.1", "::1")]
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + VALID)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(key, hashes.SHA256())
    )
    return certificate.public_bytes(serialization.Encoding.PEM) + key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _no_passphrase() -> str:
    """Instead of asking on a terminal that is not there."""
    raise ValueError("the key has a passphrase")
