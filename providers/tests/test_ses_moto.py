"""Amazon SES as moto's server plays it, and botocore's own validation of requests (PRV-2, QLT-2)."""

import pytest
from moto.backends import get_backend
from moto.core import DEFAULT_ACCOUNT_ID
from moto.server import ThreadedMotoServer

from providers import registry
from providers.backends.ses_request import SesClient
from providers.exceptions import PermanentFailure, Unsupported
from providers.fidelity import Fidelity
from providers.tests.messages import ANNA, BERT, CARA, PDF, SENDER, outbound, plain
from providers.tests.signing import Signer

REGION = "eu-west-1"


@pytest.fixture(scope="module")
def moto():
    """Settings for moto's server, which has verified acme's domain."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    settings = {
        "region": REGION,
        "access_key_id": "AKIAACME",
        "secret_access_key": "secret-of-acme",
        "session_token": "",
        "base_url": f"http://{host}:{port}",
    }
    client = SesClient(settings, timeout=5)
    assert client.call("CreateEmailIdentity", {"EmailIdentity": "acme.test"}).status == 200
    client.close()
    yield settings
    server.stop()


@pytest.fixture
def backend(moto):
    backend = registry.connect("ses", moto, timeout=5)
    yield backend
    backend.close()


def sent():
    return get_backend("ses")[DEFAULT_ACCOUNT_ID][REGION].sent_messages


def test_a_plain_message_arrives_taken_apart(backend):
    message = outbound(plain(Cc=BERT), [ANNA, BERT, CARA])
    assert backend.verdict(message).fidelity is Fidelity.MAPPED
    result = backend.send(message)
    mail = sent()[-1]
    assert result.provider_message_id == mail.id
    assert mail.destinations == {"ToAddresses": [f"Anna Arndt <{ANNA}>"], "CcAddresses": [BERT], "BccAddresses": [CARA]}
    assert (mail.source, mail.subject) == (f"Acme Shop <{SENDER}>", "Your order")
    assert "Grüße" in mail.body


def test_a_message_with_an_attachment_arrives_byte_for_byte(backend):
    message = plain()
    message.add_attachment(PDF, maintype="application", subtype="pdf", filename="a.pdf")
    whole = outbound(message, [ANNA, CARA])
    result = backend.send(whole)
    mail = sent()[-1]
    assert result.provider_message_id == mail.id
    assert mail.raw_data.encode() == whole.raw
    assert {ANNA, CARA} <= set(mail.destinations)


def test_signed_mail_arrives_byte_for_byte(backend):
    signer = Signer(SENDER)
    raw = signer.dkim(plain().as_bytes())
    backend.send(outbound(raw))
    assert sent()[-1].raw_data.encode() == raw
    assert signer.dkim_verifies(sent()[-1].raw_data.encode())


def test_a_sender_nobody_has_verified_is_for_another_provider(backend):
    before = len(sent())
    for message in (plain(From="x@globex.test"), Signer(SENDER).dkim(plain(From="x@globex.test").as_bytes())):
        with pytest.raises(Unsupported) as caught:
            backend.send(outbound(message))
        assert caught.value.code == "sender_not_verified"
    assert len(sent()) == before


@pytest.mark.parametrize(
    ("parameters", "named"),
    [
        ({}, "Content"),
        ({"Content": {"Raw": {"Data": 5}}}, "Content.Raw.Data"),
        ({"Content": {"Raw": {"Data": b"x"}}, "Destination": {"ToAddresses": "secret@acme.test"}}, "ToAddresses"),
    ],
)
def test_botocore_refuses_what_does_not_fit_its_description_and_nothing_is_quoted(moto, parameters, named):
    with pytest.raises(PermanentFailure, match=named) as caught:
        SesClient(moto, timeout=5).call("SendEmail", parameters)
    assert "secret" not in caught.value.text
    assert caught.value.__cause__ is None
