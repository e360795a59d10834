"""SparkPost's RFC 822 content: what its template language and its JSON do to a message (PRV-4, PRV-7, PRV-13)."""

import pytest

from providers import registry
from providers.base import RecipientStatus
from providers.exceptions import Misconfigured, TemporaryFailure, Unsupported
from providers.fidelity import Fidelity
from providers.tests.messages import ANNA, BERT, CARA, SENDER, outbound, parse, text_only
from providers.tests.signing import Signer
from providers.tests.standins import SparkPostStandIn


@pytest.fixture
def sparkpost():
    with SparkPostStandIn() as service:
        yield service


def backend_of(service, **settings):
    return registry.connect("sparkpost", service.config(**settings), 5)


def mail(subject="Invoice", body="Hello\r\n", extra=""):
    return f"From: {SENDER}\r\nTo: {ANNA}\r\nSubject: {subject}\r\n{extra}\r\n{body}".encode()


def test_signed_mail_arrives_byte_for_byte_and_verifies(sparkpost, tmp_path):
    """PRV-4: S/MIME inside, DKIM around it."""
    signer = Signer(SENDER)
    part = b"Content-Type: text/plain; charset=utf-8\r\n\r\nInvoice 4711\r\n"
    headers = f"From: {SENDER}\r\nTo: {ANNA}\r\nSubject: Invoice\r\nMIME-Version: 1.0\r\n".encode()
    raw = signer.dkim(signer.smime(part, headers))
    backend = backend_of(sparkpost)
    assert backend.verdict(outbound(raw)).fidelity is Fidelity.LOSSLESS
    backend.send(outbound(raw))
    (arrived,) = sparkpost.accepted
    assert arrived.data == raw
    assert signer.dkim_verifies(arrived.data)
    assert signer.smime_part(arrived.data, tmp_path) == part


def test_links_and_braces_of_the_body_stay_as_they_were_written(sparkpost):
    raw = mail(body='<a href="http://acme.test/{{id}}">{{name}} {{{x}}}</a> {% if %}\r\n')
    backend_of(sparkpost).send(outbound(raw))
    assert sparkpost.accepted[0].data == raw


@pytest.mark.parametrize(
    "subject",
    ["{{name}}", "{{{a}}} and }}", "{{{{x}}}}", "{ {{ } }}}", "{{{{{x}}}}}}", "}}{{", "{{opening_double_curly()}}"],
)
def test_braces_of_the_header_come_out_as_they_were_written(sparkpost, subject):
    """Substitutions in header fields cannot be turned off."""
    message = outbound(mail(subject))
    backend = backend_of(sparkpost)
    verdict = backend.verdict(message)
    assert (verdict.fidelity, bool(verdict.lost)) == (Fidelity.MAPPED, True)
    backend.send(message)
    assert sparkpost.accepted[0].data == message.raw


@pytest.mark.parametrize(
    "raw",
    [
        Signer(SENDER).dkim(mail("{{name}}")),
        mail("{{}"),
        mail("{}}"),
        mail("=?utf-8?q?=7B=7Bname=7D=7D?="),
        mail("=?utf-8?b?e3tuYW1lfX0=?="),
    ],
)
def test_braces_that_cannot_be_written_safely_go_to_another_provider(sparkpost, raw):
    with pytest.raises(Unsupported) as caught:
        backend_of(sparkpost).send(outbound(raw))
    assert (caught.value.code, sparkpost.requests) == ("template_syntax", 0)


def test_eight_bit_mail_is_encoded_anew_and_signed_mail_is_not(sparkpost):
    """PRV-4: the content is a JSON string, and the service encodes 8-bit parts itself."""
    backend, message = backend_of(sparkpost), outbound(text_only())
    assert backend.verdict(message).fidelity is Fidelity.MAPPED
    backend.send(message)
    assert parse(sparkpost.accepted[0].data).text == message.content.text
    with pytest.raises(Unsupported) as caught:
        backend.send(outbound(Signer(SENDER).dkim(text_only().as_bytes())))
    assert caught.value.code == "8bitmime_required"


def test_addresses_that_need_smtputf8_are_refused_with_a_reason(sparkpost):
    with pytest.raises(Unsupported) as caught:
        backend_of(sparkpost).send(outbound(mail(), ["jörg@globex.test"]))
    assert (caught.value.code, sparkpost.requests) == ("smtputf8_required", 0)


def test_recipients_refused_in_a_transmission_it_took_have_failed(sparkpost):
    """PRV-7: per-recipient refusals."""
    sparkpost.suppressed.add(BERT)
    result = backend_of(sparkpost).send(outbound(mail(), [ANNA, BERT, CARA]))
    assert [one.status.value for one in result.recipients.values()] == ["delivered", "failed", "delivered"]
    assert "suppressed" in result.recipients[BERT].text
    sparkpost.names_them = False
    result = backend_of(sparkpost).send(outbound(mail(), [BERT]))
    assert result.recipients[BERT].status is RecipientStatus.FAILED


def test_refused_recipients_nobody_names_leave_the_outcome_unknown(sparkpost):
    sparkpost.suppressed.add(BERT)
    sparkpost.names_them = False
    with pytest.raises(TemporaryFailure) as caught:
        backend_of(sparkpost).send(outbound(mail(), [ANNA, BERT]))
    assert (caught.value.code, caught.value.outcome_unknown) == ("partial", True)


def test_a_rejected_recipient_is_blamed_alone(sparkpost):
    error = {"code": "1902", "message": "Message generation rejected", "description": "recipient address suppressed"}
    sparkpost.fail_next(400, {"errors": [error]})
    result = backend_of(sparkpost).send(outbound(mail(), [ANNA]))
    assert result.recipients[ANNA].status is RecipientStatus.FAILED


def test_tracking_and_the_return_path_are_the_rows_choice(sparkpost):
    backend_of(sparkpost).send(outbound(mail()))
    tracked = backend_of(sparkpost, tracking=True, return_path="bounces@mail.acme.test")
    tracked.send(outbound(mail()))
    plain, other = (accepted.payload for accepted in sparkpost.accepted)
    assert plain["options"] == {
        "open_tracking": False,
        "click_tracking": False,
        "transactional": True,
        "perform_substitutions": False,
    }
    assert "return_path" not in plain
    assert (other["options"]["click_tracking"], other["return_path"]) == (True, "bounces@mail.acme.test")
    assert tracked.verdict(outbound(mail())).fidelity is Fidelity.LOSSY


def test_the_connection_check_asks_for_the_account_and_sends_nothing(sparkpost):
    assert backend_of(sparkpost).check_connection() == "Account Acme: active."
    with pytest.raises(Misconfigured) as caught:
        registry.connect("sparkpost", sparkpost.config("wrong-key-0123456789"), 5).check_connection()
    assert caught.value.code == "bad_credentials"
    assert sparkpost.accepted == []
