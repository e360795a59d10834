"""Mailgun's two forms: the message byte for byte, and taken apart (PRV-4, PRV-5, PRV-13)."""

import pytest

from providers import registry
from providers.exceptions import Misconfigured, TemporaryFailure, Unsupported
from providers.fidelity import Fidelity
from providers.tests.messages import ANNA, BERT, CARA, PDF, PNG, SENDER, letter, outbound, text_only
from providers.tests.signing import Signer
from providers.tests.standins import MailgunStandIn


@pytest.fixture
def mailgun():
    with MailgunStandIn() as service:
        yield service


def backend_of(service, **settings):
    return registry.connect("mailgun", service.config(**settings), 5)


def test_signed_mail_arrives_byte_for_byte_and_verifies(mailgun, tmp_path):
    """PRV-4: S/MIME inside, DKIM around it."""
    signer = Signer(SENDER)
    part = b"Content-Type: text/plain; charset=utf-8\r\n\r\nInvoice 4711\r\n"
    headers = f"From: {SENDER}\r\nTo: {ANNA}\r\nSubject: Invoice\r\nMIME-Version: 1.0\r\n".encode()
    raw = signer.dkim(signer.smime(part, headers))
    message = outbound(raw)
    backend = backend_of(mailgun)
    assert backend.verdict(message).fidelity is Fidelity.LOSSLESS
    backend.send(message)
    (mail,) = mailgun.accepted
    assert mail.data == raw
    assert signer.dkim_verifies(mail.data)
    assert signer.smime_part(mail.data, tmp_path) == part
    structured = backend_of(mailgun, format="structured").verdict(message)
    assert structured.fidelity is Fidelity.BROKEN


def test_octets_that_are_no_text_and_a_boundary_in_the_message_survive(mailgun):
    raw = b"From: shop@acme.test\r\n\r\n\xff\xfe\x00--\r\n--boundary\r\n\r\n\r\n"
    backend_of(mailgun).send(outbound(raw))
    assert mailgun.accepted[0].data == raw


def test_the_envelope_alone_says_who_gets_the_mime(mailgun):
    message = text_only(Cc=BERT)
    backend_of(mailgun).send(outbound(message, [CARA, ANNA]))
    (mail,) = mailgun.accepted
    assert mail.recipients == [CARA, ANNA]
    assert CARA.encode() not in mail.data


def test_tracking_is_off_unless_the_row_wants_it(mailgun):
    """Rewritten links are not the message that was written."""
    message = outbound(text_only())
    assert backend_of(mailgun).send(message)
    tracked = backend_of(mailgun, tracking=True)
    tracked.send(message)
    assert [mail.payload["o:tracking"] for mail in mailgun.accepted] == [["no"], ["yes"]]
    assert [mail.payload["o:tracking-clicks"] for mail in mailgun.accepted] == [["no"], ["yes"]]
    assert tracked.verdict(message).fidelity is Fidelity.LOSSY
    assert tracked.verdict(outbound(Signer(SENDER).dkim(message.raw))).fidelity is Fidelity.BROKEN


@pytest.mark.parametrize("name", ["Rechnung März.pdf", "a; b=c.pdf", "it's.pdf", "100%22.pdf", "日本語.pdf", " x .pdf"])
def test_any_file_name_survives_the_form(mailgun, name):
    message = text_only()
    message.add_attachment(PDF, maintype="application", subtype="pdf", filename=name)
    sent = outbound(message)
    backend = backend_of(mailgun, format="structured")
    backend.send(sent)
    assert [file.name for file in mailgun.accepted[0].files] == [name.strip()]
    assert mailgun.accepted[0].files[0].content == PDF


def test_a_file_name_the_form_cannot_say_is_a_named_loss(mailgun):
    message = text_only()
    message.add_attachment(PDF, maintype="application", subtype="pdf", filename='a/"b".pdf')
    sent = outbound(message)
    backend = backend_of(mailgun, format="structured")
    assert any("file name" in entry for entry in backend.verdict(sent).lost)
    backend.send(sent)
    assert [file.name for file in mailgun.accepted[0].files] == ["a__b_.pdf"]


def test_an_inline_part_whose_content_id_is_no_file_name_becomes_an_attachment(mailgun):
    message = letter()
    message.set_content("<img src='cid:a/b@acme'>", subtype="html")
    message.add_related(PNG, "image", "png", cid="<a/b@acme>", filename="logo.png")
    sent = outbound(message)
    backend = backend_of(mailgun, format="structured")
    assert any("inline part" in entry for entry in backend.verdict(sent).lost)
    backend.send(sent)
    assert [(file.name, file.cid) for file in mailgun.accepted[0].files] == [("logo.png", "")]


def test_more_header_fields_than_the_structured_form_takes_go_to_another_provider(mailgun):
    message = outbound(text_only(X_Long="x" * 17_000))
    with pytest.raises(Unsupported) as caught:
        backend_of(mailgun, format="structured").send(message)
    assert caught.value.code == "headers_too_large"
    assert mailgun.requests == 0
    backend_of(mailgun).send(message)


def test_internationalised_header_addresses_are_refused_with_a_reason(mailgun):
    """PRV-4: SMTPUTF8 mail for a route that cannot carry it."""
    raw = f"From: jörg@acme.test\r\nTo: {ANNA}\r\n\r\nhi\r\n".encode()
    with pytest.raises(Unsupported) as caught:
        backend_of(mailgun).send(outbound(raw, smtputf8=True))
    assert (caught.value.code, mailgun.requests) == ("smtputf8_required", 0)


def test_the_pause_is_read_from_header_field_or_text(mailgun):
    backend = backend_of(mailgun)
    text = {"message": "Domain x is not allowed to send: request limit exceeded, try again after 120 seconds"}
    mailgun.fail_next(429, text)
    mailgun.fail_next(429, text, {"Retry-After": "7"})
    for expected in (120, 7):
        with pytest.raises(TemporaryFailure) as caught:
            backend.send(outbound(text_only()))
        assert caught.value.retry_after == expected


def test_the_greeting_of_a_path_that_is_none_marks_the_row(mailgun):
    mailgun.fail_next(200, b"Mailgun Magnificent API")
    with pytest.raises(Misconfigured) as caught:
        backend_of(mailgun).send(outbound(text_only()))
    assert caught.value.code == "wrong_url"


def test_the_connection_check_asks_for_the_domain_and_sends_nothing(mailgun):
    backend = backend_of(mailgun)
    assert backend.check_connection() == "Domain mg.acme.test: active."
    with pytest.raises(Misconfigured) as caught:
        backend_of(mailgun, domain="other.test").check_connection()
    assert caught.value.code == "domain_not_found"
    with pytest.raises(Misconfigured) as caught:
        registry.connect("mailgun", mailgun.config("wrong-key-0123456789"), 5).check_connection()
    assert caught.value.code == "bad_credentials"
    assert mailgun.accepted == []


@pytest.mark.parametrize("domain", ["mg.acme.test/../x", "a b", "", "mg.acme.test?x"])
def test_a_domain_that_is_none_is_refused_as_a_setting(mailgun, domain):
    with pytest.raises(Misconfigured, match="domain"):
        backend_of(mailgun, domain=domain)
