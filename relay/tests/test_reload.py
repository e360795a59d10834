"""SIGHUP: limits, log level and certificates without dropping connections (SMTP-15)."""

import logging
import socket
import ssl

import pytest
from cryptography import x509
from django.core.exceptions import ImproperlyConfigured

from relay import certificates
from relay.tests.listening import Client, client_context


@pytest.fixture(autouse=True)
def _log_level():
    level = logging.getLogger().level
    yield
    logging.getLogger().setLevel(level)


def test_an_open_connection_lives_on_under_the_new_limits(listen):
    running = listen(max_message_size=1_000_000)
    with running.client() as client:
        client.command("EHLO x")
        running.reload(max_message_size=5000)
        assert "SIZE 5000" in client.command("EHLO x")


def test_the_connection_limit_changes(listen):
    running = listen(max_connections=1)
    with running.client():
        assert Client(running.port, greeted=False).reply().startswith("421")
        running.reload(max_connections=2)
        with running.client() as second:
            assert second.command("NOOP").startswith("250")


def test_the_log_level_changes(listen):
    running = listen()
    running.reload(log_level="ERROR")
    assert logging.getLogger().level == logging.ERROR


def certificate_of(running):
    with client_context().wrap_socket(socket.create_connection(("127.0.0.1", running.tls_port))) as secure:
        return x509.load_der_x509_certificate(secure.getpeercert(binary_form=True)).serial_number


def test_a_renewed_certificate_is_shown_to_new_connections_and_old_ones_stay(listen, tmp_path):
    path = tmp_path / "mx.pem"
    path.write_bytes(certificates._self_signed("mx.acme.example"))
    running = listen(tls_certificate=str(path))
    with Client(running.tls_port, tls=True) as old:
        before = certificate_of(running)
        path.write_bytes(certificates._self_signed("mx.acme.example"))
        assert certificate_of(running) == before
        running.reload()
        assert certificate_of(running) != before
        assert old.command("NOOP").startswith("250")


def test_a_bad_certificate_changes_nothing(listen, tmp_path):
    path = tmp_path / "mx.pem"
    path.write_bytes(certificates._self_signed("mx.acme.example"))
    running = listen(tls_certificate=str(path))
    before = certificate_of(running)
    path.write_text("broken")
    with pytest.raises(ImproperlyConfigured, match="SMTP_TLS_CERTIFICATE"):
        running.reload(max_message_size=5000)
    assert certificate_of(running) == before
    with running.client() as client:
        assert "SIZE 5000" not in client.command("EHLO x")


def test_what_needs_a_restart_stays_as_it_is(listen):
    running = listen()
    running.reload(tls_mode="none", port=1)
    with running.client() as client:
        assert "STARTTLS" in client.command("EHLO x")
    assert isinstance(running.listener.site.tls, ssl.SSLContext)
