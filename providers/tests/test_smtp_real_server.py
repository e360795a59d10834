"""The SMTP type against an independent server: signatures survive (PRV-4)."""

import base64
import socket
import subprocess
from datetime import UTC, datetime, timedelta

import dkim
import pytest
from aiosmtpd.controller import Controller
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import pkcs7
from cryptography.x509.oid import NameOID

from providers import registry
from providers.tests.messages import ANNA, BERT, PDF, outbound, text_only


class Mailbox:
    def __init__(self):
        self.mails = []

    async def handle_DATA(self, server, session, envelope):
        self.mails.append((envelope.mail_from, envelope.rcpt_tos, envelope.original_content))
        return "250 2.0.0 Ok"


@pytest.fixture
def mailbox():
    mailbox = Mailbox()
    with socket.create_server(("127.0.0.1", 0)) as free:
        mailbox.port = free.getsockname()[1]
    controller = Controller(mailbox, hostname="127.0.0.1", port=mailbox.port)
    controller.start()
    yield mailbox
    controller.stop()


@pytest.fixture(scope="module")
def key():
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def deliver(mailbox, raw, **envelope):
    backend = registry.connect("smtp", {"host": "127.0.0.1", "port": mailbox.port, "security": "none"}, 5)
    backend.send(outbound(raw, [ANNA, BERT], **envelope))
    backend.close()
    (mail,) = mailbox.mails
    return mail


def signed_with_dkim(raw, key):
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )
    return dkim.sign(raw, b"s1", b"acme.test", pem, include_headers=[b"From", b"To", b"Subject"]) + raw


def test_a_dkim_signature_verifies_at_the_far_end(mailbox, key):
    message = text_only()
    message.add_attachment(PDF, maintype="application", subtype="pdf", filename="a.pdf")
    raw = signed_with_dkim(message.as_bytes(), key)
    public = key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    record = b"v=DKIM1; k=rsa; p=" + base64.b64encode(public)

    sender, recipients, arrived = deliver(mailbox, raw)
    assert (sender, recipients, arrived) == ("shop@acme.test", [ANNA, BERT], raw)
    assert dkim.verify(arrived, dnsfunc=lambda name, timeout=5: record)
    assert not dkim.verify(arrived.replace(b"Thank", b"thank"), dnsfunc=lambda name, timeout=5: record)


def test_an_smime_signature_verifies_at_the_far_end(mailbox, key, tmp_path):
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "shop@acme.test")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    part = b"Content-Type: text/plain; charset=utf-8\r\n\r\n.\r\nGr\xc3\xbc\xc3\x9fe\r\n..dots\r\n"
    body = (
        pkcs7.PKCS7SignatureBuilder()
        .set_data(part)
        .add_signer(certificate, key, hashes.SHA256())
        .sign(serialization.Encoding.SMIME, [pkcs7.PKCS7Options.DetachedSignature])
    )
    head = b"From: shop@acme.test\r\nTo: anna@globex.test\r\nSubject: signed\r\n"
    raw = head + body.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")

    _, _, arrived = deliver(mailbox, raw)
    assert arrived == raw
    (tmp_path / "mail.eml").write_bytes(arrived)
    (tmp_path / "ca.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    command = ["openssl", "cms", "-verify", "-in", "mail.eml", "-CAfile", "ca.pem", "-purpose", "any", "-out", "part"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "part").read_bytes() == part
