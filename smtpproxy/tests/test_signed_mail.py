"""Signed mail through the whole system, SMTP in and SMTP out: it verifies at a server that is not ours (PRV-4)."""

import smtplib
import subprocess
import uuid

import pytest

from accounts.tests.factories import PASSWORD
from delivery import sender
from delivery.models import Message
from providers import connections
from providers.tests.factories import ProviderFactory
from providers.tests.signing import Signer, far_end
from relay.handler import Domain
from relay.tests.listening import Running

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.redis]
CRM = "crm@acme.example"
BODY = b".\r\n..two dots\r\nGr\xc3\xbc\xc3\x9fe \t \r\n\r\n" + b"x" * 990 + b"\r\n\r\n\r\n"


@pytest.fixture(scope="module")
def signer():
    return Signer(CRM)


@pytest.fixture
def arrives(acme, acme_account):
    """Sends octets in by SMTP under TLS and password; gives what the far end received."""
    with far_end() as mailbox, Running(Domain()) as listener:
        config = {"host": "127.0.0.1", "port": mailbox.port, "security": "none"}
        ProviderFactory(tenant=acme, type="smtp", config=config)

        def through(raw):
            with smtplib.SMTP("127.0.0.1", listener.port, timeout=20) as client:
                client.starttls()
                client.login("crm@acme", PASSWORD)
                client.mail(CRM, ["BODY=8BITMIME"])
                for recipient in ("one@outside.example", "blind@outside.example"):
                    client.rcpt(recipient)
                code, text = client.data(raw)
            assert code == 250, text
            message_id = uuid.UUID(text.decode().rpartition(" ")[2])
            sender.deliver([message_id])
            assert Message.objects.get(pk=message_id).status == "delivered"
            [(mail_from, recipients, arrived)] = mailbox.mails
            assert (mail_from, sorted(recipients)) == (CRM, ["blind@outside.example", "one@outside.example"])
            return arrived

        yield through
        connections.forget_all()
        listener.stop()


def test_a_dkim_signed_message_still_verifies(arrives, signer):
    headers = b"From: %b\r\nTo:  one@outside.example\r\nSubject: folded\r\n  subject\r\n" % CRM.encode()
    raw = signer.dkim(headers + b"Content-Transfer-Encoding: 8bit\r\n\r\n" + BODY)
    arrived = arrives(raw)
    assert signer.dkim_verifies(arrived)
    assert arrived.endswith(raw)
    assert not signer.dkim_verifies(arrived.replace(b"two dots", b"two dotz"))


def test_an_smime_signed_message_still_verifies(arrives, signer, tmp_path):
    part = b"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n" + BODY
    raw = signer.smime(part, b"From: %b\r\nTo: one@outside.example\r\nSubject: signed\r\n" % CRM.encode())
    arrived = arrives(raw)
    assert arrived.endswith(raw)
    assert signer.smime_part(arrived, tmp_path) == part
    with pytest.raises(subprocess.CalledProcessError):
        signer.smime_part(arrived.replace(b"two dots", b"two dotz"), tmp_path)
