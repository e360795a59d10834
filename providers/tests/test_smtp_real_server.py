"""The SMTP type against an independent server: signatures survive (PRV-4)."""

import pytest

from providers import registry
from providers.tests.messages import ANNA, BERT, PDF, outbound, text_only
from providers.tests.signing import Signer, far_end

SHOP = "shop@acme.test"


@pytest.fixture
def mailbox():
    with far_end() as mailbox:
        yield mailbox


@pytest.fixture(scope="module")
def signer():
    return Signer(SHOP)


def deliver(mailbox, raw):
    backend = registry.connect("smtp", {"host": "127.0.0.1", "port": mailbox.port, "security": "none"}, 5)
    backend.send(outbound(raw, [ANNA, BERT]))
    backend.close()
    (mail,) = mailbox.mails
    return mail


def test_a_dkim_signature_verifies_at_the_far_end(mailbox, signer):
    message = text_only()
    message.add_attachment(PDF, maintype="application", subtype="pdf", filename="a.pdf")
    raw = signer.dkim(message.as_bytes())
    sender, recipients, arrived = deliver(mailbox, raw)
    assert (sender, recipients, arrived) == (SHOP, [ANNA, BERT], raw)
    assert signer.dkim_verifies(arrived)
    assert not signer.dkim_verifies(arrived.replace(b"Thank", b"thank"))


def test_an_smime_signature_verifies_at_the_far_end(mailbox, signer, tmp_path):
    part = b"Content-Type: text/plain; charset=utf-8\r\n\r\n.\r\nGr\xc3\xbc\xc3\x9fe\r\n..dots\r\n"
    raw = signer.smime(part, b"From: shop@acme.test\r\nTo: anna@globex.test\r\nSubject: signed\r\n")
    _, _, arrived = deliver(mailbox, raw)
    assert arrived == raw
    assert signer.smime_part(arrived, tmp_path) == part
