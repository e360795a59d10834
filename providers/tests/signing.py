"""Signed mail, an independent mail server, and the verdicts of independent verifiers."""

from __future__ import annotations

import base64
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path

import dkim
from aiosmtpd.controller import Controller
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import pkcs7
from cryptography.x509.oid import NameOID


class Mailbox:
    """What a mail server that is not ours has received: (sender, recipients, octets)."""

    port = 0

    def __init__(self) -> None:
        self.mails: list[tuple[str, list[str], bytes]] = []

    async def handle_DATA(self, server, session, envelope):
        self.mails.append((envelope.mail_from, envelope.rcpt_tos, envelope.original_content))
        return "250 2.0.0 Ok"


@contextmanager
def far_end() -> Iterator[Mailbox]:
    """An aiosmtpd on loopback that keeps what it is given."""
    mailbox = Mailbox()
    with socket.create_server(("127.0.0.1", 0)) as free:
        mailbox.port = free.getsockname()[1]
    controller = Controller(mailbox, hostname="127.0.0.1", port=mailbox.port)
    controller.start()
    try:
        yield mailbox
    finally:
        controller.stop()


class Signer:
    """A key with which mail is signed, and what others check it by."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.key = rsa.generate_private_key(public_exponent=65537, key_size=2048)

    def dkim(self, raw: bytes) -> bytes:
        pem = self.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
        )
        domain = self.address.rpartition("@")[2].encode()
        return dkim.sign(raw, b"s1", domain, pem, include_headers=[b"From", b"To", b"Subject"]) + raw

    def dkim_verifies(self, raw: bytes) -> bool:
        public = self.key.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        record = b"v=DKIM1; k=rsa; p=" + base64.b64encode(public)
        return bool(dkim.verify(raw, dnsfunc=lambda name, timeout=5: record))

    @cached_property
    def certificate(self) -> x509.Certificate:
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, self.address)])
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(self.key.public_key())
            .serial_number(1)
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=1))
            .sign(self.key, hashes.SHA256())
        )

    def smime(self, part: bytes, headers: bytes) -> bytes:
        """A multipart/signed message around `part`, with `headers` in front."""
        body = (
            pkcs7.PKCS7SignatureBuilder()
            .set_data(part)
            .add_signer(self.certificate, self.key, hashes.SHA256())
            .sign(serialization.Encoding.SMIME, [pkcs7.PKCS7Options.DetachedSignature])
        )
        return headers + body.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")

    def smime_part(self, raw: bytes, folder: Path) -> bytes:
        """What OpenSSL verifies the signature to be about; raises CalledProcessError when it does not verify."""
        (folder / "mail.eml").write_bytes(raw)
        (folder / "ca.pem").write_bytes(self.certificate.public_bytes(serialization.Encoding.PEM))
        command = ["openssl", "cms", "-verify", "-in", "mail.eml", "-CAfile", "ca.pem", "-purpose", "any"]
        subprocess.run([*command, "-out", "part"], cwd=folder, capture_output=True, check=True)
        return (folder / "part").read_bytes()
