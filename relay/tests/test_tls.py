"""TLS with the first octet, and certificates (SMTP-1, SMTP-3)."""

import smtplib
import socket
import ssl
import stat
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from relay import certificates
from relay.config import Config
from relay.tests.listening import PASSWORD, Client, client_context, config, cut_off


def test_implicit_tls_takes_mail(listener, recorder):
    with smtplib.SMTP_SSL("127.0.0.1", listener.tls_port, context=client_context()) as client:
        client.login("crm@acme", PASSWORD)
        client.sendmail("app@acme.example", ["bob@example.org"], b"Subject: x\r\n\r\nhello\r\n")
    assert recorder.body == b"Subject: x\r\n\r\nhello\r\n"
    assert b"with ESMTPSA (TLSv1.3" in recorder.bodies[0].replace(b"\r\n\t", b" ")


def test_tls_1_2_is_spoken(listener):
    context = client_context()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with smtplib.SMTP_SSL("127.0.0.1", listener.tls_port, context=context) as client:
        assert client.sock.version() == "TLSv1.2"


def test_the_development_certificate_can_be_trusted_by_name(listener):
    path = certificates.development_certificate(Path(settings.DATA_DIR) / "tls", "localhost")
    context = ssl.create_default_context(cafile=str(path))
    with smtplib.SMTP_SSL("localhost", listener.tls_port, context=context) as client:
        assert client.noop()[0] == 250


@pytest.mark.parametrize("garbage", [b"EHLO plain\r\n" * 10, bytes(3000), b"\x16\x03\x01\xff\xff" + b"A" * 3000])
def test_what_is_no_handshake_ends_that_connection_alone(listener, garbage):
    with Client(listener.tls_port, greeted=False) as bad:
        bad.send(garbage)
        bad.socket.shutdown(socket.SHUT_WR)
        assert cut_off(lambda: bad.socket.recv(1000) or bad.reply())
    with Client(listener.tls_port, tls=True) as good:
        assert good.command("NOOP").startswith("250")


def test_a_client_hello_on_the_plain_port_is_junk(listen):
    running = listen(idle_timeout_before_auth=0.3)
    with running.client() as client, pytest.raises(OSError, match=r"SSL|WRONG"):
        client_context().wrap_socket(client.socket)
    with running.client() as other:
        assert other.command("NOOP").startswith("250")


def test_the_certificate_is_made_once_and_kept_to_ourselves(tmp_path):
    path = certificates.development_certificate(tmp_path / "tls", "mx.acme.example")
    first = path.read_bytes()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert certificates.development_certificate(tmp_path / "tls", "mx.acme.example").read_bytes() == first
    assert [entry.name for entry in path.parent.iterdir()] == ["development.pem"]
    names = x509.load_pem_x509_certificate(first).extensions.get_extension_for_class(x509.SubjectAlternativeName)
    assert "mx.acme.example" in names.value.get_values_for_type(x509.DNSName)


def test_it_is_made_anew_for_another_name_or_when_it_expires(tmp_path, monkeypatch):
    path = certificates.development_certificate(tmp_path, "one.example")
    first = path.read_bytes()
    second = certificates.development_certificate(tmp_path, "two.example").read_bytes()
    assert second != first
    monkeypatch.setattr(certificates, "RENEW_BEFORE", timedelta(days=4000))
    assert certificates.development_certificate(tmp_path, "two.example").read_bytes() != second
    path.write_text("broken")
    assert b"PRIVATE KEY" in certificates.development_certificate(tmp_path, "two.example").read_bytes()


def configured(**changes):
    return Config.from_settings(config(**changes))


def test_a_certificate_that_cannot_be_used_stops_with_a_clear_text(tmp_path):
    with pytest.raises(ImproperlyConfigured, match="No such file"):
        certificates.context(configured(tls_certificate=str(tmp_path / "missing.pem")))
    (tmp_path / "bad.pem").write_text("nonsense")
    with pytest.raises(ImproperlyConfigured, match="SMTP_TLS_CERTIFICATE"):
        certificates.context(configured(tls_certificate=str(tmp_path / "bad.pem")))
    with pytest.raises(ImproperlyConfigured, match="without SMTP_TLS_CERTIFICATE"):
        configured(tls_key="key.pem")


def test_a_key_with_a_passphrase_is_refused_and_not_asked_for(tmp_path):
    key = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"secret"),
    )
    certificate = certificates._self_signed("mx.acme.example")
    (tmp_path / "mx.pem").write_bytes(certificate[: certificate.index(b"-----BEGIN PRIVATE")])
    (tmp_path / "key.pem").write_bytes(key)
    with pytest.raises(ImproperlyConfigured, match="passphrase"):
        certificates.context(configured(tls_certificate=str(tmp_path / "mx.pem"), tls_key=str(tmp_path / "key.pem")))


def test_without_tls_there_is_no_context():
    assert certificates.context(configured(tls_mode="none")) is None
