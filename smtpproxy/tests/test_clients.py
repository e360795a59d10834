"""Real clients send through a real installation: STARTTLS with the certificate checked, AUTH, 10 MB attached."""

import email
import json
import os
import shutil
import sys

import pytest
import trustme

from smtpproxy.tests import clients, environment, npm, services
from smtpproxy.tests.installation import installation

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(240),
    pytest.mark.skipif(sys.platform != "linux", reason="processes are found by /proc"),
]
ATTACHMENT = os.urandom(10 * 1024 * 1024)


@pytest.fixture(scope="module")
def secured(tmp_path_factory):
    """A running installation with a certificate that clients trust, and the authority's file."""
    folder = tmp_path_factory.mktemp("clients")
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost", "127.0.0.1")
    certificate.private_key_and_cert_chain_pem.write_to_path(folder / "server.pem")
    authority.cert_pem.write_to_path(folder / "ca.pem")
    (folder / "ca.pem").chmod(0o644)
    with installation(folder / "data", SMTP_TLS_CERTIFICATE=str(folder / "server.pem")) as one:
        one.start()
        yield one, folder / "ca.pem"


@pytest.fixture
def server(secured, tmp_path):
    one, ca = secured
    made = one.credentials()
    return clients.Server(one.port, made["username"], made["password"], ca, tmp_path)


def _arrived(secured, subject):
    """The message with this subject, once it lies in the outbox, and its envelope."""
    one, _ = secured
    for name, content in one.arrived().items():
        if f"Subject: {subject}\r\n".encode() in content[:2000]:
            return email.message_from_bytes(content), json.loads((one.outbox / name).with_suffix(".json").read_text())
    return None


def _wait_for(secured, subject):
    services.wait_until(lambda: _arrived(secured, subject), f"the arrival of {subject}", 60)
    return _arrived(secured, subject)


def _check(secured, subject):
    message, envelope = _wait_for(secured, subject)
    assert (envelope["mail_from"], envelope["recipients"]) == (clients.SENDER, [clients.RECIPIENT])
    [attachment] = [part for part in message.walk() if part.get_filename() == "data.bin"]
    assert attachment.get_payload(decode=True) == ATTACHMENT
    assert "with ESMTPSA" in message["Received"]


@pytest.mark.parametrize("name", ["swaks", "curl", "python", "msmtp"])
def test_a_client_sends_ten_megabytes_under_tls_and_password(secured, server, name):
    if name != "python" and not shutil.which(name):
        environment.missing(f"{name} is not installed")
    getattr(clients, name)(server, f"From {name}", ATTACHMENT)
    _check(secured, f"From {name}")


def test_nodemailer_sends_ten_megabytes_under_tls_and_password(secured, server):
    if reason := npm.install(server.folder, clients.NODEMAILER):
        pytest.skip(reason)
    clients.nodemailer(server, "From Nodemailer", ATTACHMENT)
    _check(secured, "From Nodemailer")


def test_a_postfix_relays_ten_megabytes_under_tls_and_password(secured, server):
    if reason := clients.why_no_postfix():
        environment.missing(reason) if os.getuid() == 0 else pytest.skip(reason)
    with clients.postfix(server, "From Postfix", ATTACHMENT):
        _check(secured, "From Postfix")
