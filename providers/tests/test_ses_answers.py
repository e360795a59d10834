"""Amazon SES: what its answers mean (PRV-7, PRV-9, PRV-13)."""

import pytest

from providers.base import Quota
from providers.exceptions import Misconfigured, PermanentFailure, TemporaryFailure, TooLarge, Unsupported
from providers.tests.messages import ANNA, outbound, plain
from providers.tests.standins.ses import refused


def test_recipients_the_sandbox_does_not_let_through_all_at_once_are_for_another_provider(ses_of, ses):
    ses.bad_recipients.add(ANNA)
    with pytest.raises(Unsupported) as caught:
        ses_of().send(outbound(plain()))
    assert caught.value.code == "recipient_not_verified"


ANSWERS = [
    ("TooManyRequestsException", "Maximum sending rate exceeded.", 429, TemporaryFailure, "throttled"),
    ("ThrottlingException", "Daily message quota exceeded.", 400, TemporaryFailure, "quota"),
    ("Throttling", "Rate exceeded", 400, TemporaryFailure, "throttled"),
    ("LimitExceededException", "x", 400, TemporaryFailure, "quota"),
    ("AccountSuspendedException", "x", 400, Misconfigured, "account_blocked"),
    ("SendingPausedException", "Email sending is disabled.", 400, Misconfigured, "account_paused"),
    ("MailFromDomainNotVerifiedException", "x", 400, Unsupported, "sender_not_verified"),
    ("NotFoundException", "Configuration set <x> does not exist.", 404, Misconfigured, "not_found"),
    ("BadRequestException", "Configuration set <x> does not exist.", 400, Misconfigured, "not_found"),
    ("BadRequestException", "x", 400, PermanentFailure, "bad_request"),
    ("BadRequestException", "Duplicate header 'DKIM-Signature'.", 400, Unsupported, "header_refused"),
    ("BadRequestException", "Message length is more than 41943040 bytes long: '5'.", 400, TooLarge, "too_large"),
    ("MessageRejected", "Sending suspended for this account.", 400, Misconfigured, "account_blocked"),
    ("MessageRejected", "Email address is not verified.", 400, Unsupported, "sender_not_verified"),
    ("MessageRejected", "Illegal filename 'a.exe'.", 400, Unsupported, "attachment_refused"),
    ("MessageRejected", "x", 400, PermanentFailure, "refused"),
    ("AccessDeniedException", "not authorized to perform: ses:SendEmail", 403, Misconfigured, "access_denied"),
    ("UnrecognizedClientException", "token is invalid.", 403, Misconfigured, "bad_credentials"),
    ("InvalidClientTokenId", "x", 403, Misconfigured, "bad_credentials"),
    ("ExpiredTokenException", "x", 403, Misconfigured, "bad_credentials"),
    ("InvalidSignatureException", "The request signature … does not match", 403, Misconfigured, "bad_credentials"),
    ("InvalidSignatureException", "Signature expired: 20261122T1000Z is …", 403, Misconfigured, "wrong_clock"),
    ("InvalidSignatureException", "Signature not yet current: 2026 …", 403, Misconfigured, "wrong_clock"),
    ("RequestThrottledException", "x", 400, TemporaryFailure, "throttled"),
    ("InternalFailure", "x", 500, TemporaryFailure, "server_error"),
    ("ServiceUnavailable", "x", 503, TemporaryFailure, "server_error"),
    ("SomethingNew", "x", 400, PermanentFailure, "bad_request"),
    ("SomethingNew", "x", 500, TemporaryFailure, "server_error"),
]


@pytest.mark.parametrize(("name", "text", "status", "kind", "code"), ANSWERS)
@pytest.mark.parametrize("place", ["header", "body"])
def test_documented_errors_have_their_class(ses_of, ses, name, text, status, kind, code, place):
    """The name comes in a header or in the body: https://smithy.io/2.0/aws/protocols/aws-restjson1-protocol.html"""
    answer = refused(name, text, status)
    if place == "header":
        ses.fail_next(status, answer.body, answer.headers)
    else:
        ses.fail_next(status, {"__type": f"com.amazonaws.ses#{name}", "Message": text})
    with pytest.raises(kind) as caught:
        ses_of().send(outbound(plain()))
    assert type(caught.value) is kind
    assert (caught.value.code, caught.value.status_code) == (code, status)
    assert name in caught.value.text


def test_a_policy_that_leaves_out_one_sender_does_not_stop_the_others(ses_of, ses):
    """AccessDenied after a success is about this message, not about the row."""
    backend = ses_of()
    backend.send(outbound(plain()))
    ses.fail_next(403, {"message": "x"}, refused("AccessDeniedException", "").headers)
    with pytest.raises(TemporaryFailure) as caught:
        backend.send(outbound(plain()))
    assert caught.value.code == "access_denied"


def test_a_gateway_in_amazons_place_leaves_the_outcome_unknown(ses_of, ses):
    ses.fail_next(504, b"<html>")
    with pytest.raises(TemporaryFailure) as caught:
        ses_of().send(outbound(plain()))
    assert caught.value.outcome_unknown


def test_no_request_is_sent_twice(ses_of, ses):
    """botocore would try five times, and a repeated SendEmail is a second mail."""
    ses.fail_next(500)
    with pytest.raises(TemporaryFailure):
        ses_of().send(outbound(plain()))
    assert ses.requests == 1


def test_the_quota_is_read(ses_of, ses):
    """PRV-9; https://docs.aws.amazon.com/ses/latest/APIReference-V2/API_SendQuota.html"""
    assert ses_of().quota() == Quota(14.0, 50000, 12)
    ses.account["SendQuota"] = {"Max24HourSend": -1.0, "MaxSendRate": -1, "SentLast24Hours": 7.0}
    assert ses_of().quota() == Quota(None, None, 7)
    ses.account["SendQuota"] = {"Max24HourSend": "many"}
    assert ses_of().quota() == Quota(None, None, 0)


@pytest.mark.parametrize("body", [b"<html>", b"[]", b"{}", b"3", b'{"SendQuota": 3}'])
def test_a_quota_that_cannot_be_read_is_a_temporary_failure(ses_of, ses, body):
    ses.fail_next(200, body)
    with pytest.raises(TemporaryFailure) as caught:
        ses_of().quota()
    assert caught.value.code == "bad_answer"


def test_the_connection_is_checked_with_the_services_own_words(ses_of, ses):
    """PRV-13"""
    said = ses_of().check_connection()
    assert "HEALTHY" in said
    assert "production access" in said
    assert "12 of 50,000" in said
    ses.account |= {"ProductionAccessEnabled": False, "EnforcementStatus": "PROBATION", "SendingEnabled": False}
    said = ses_of().check_connection()
    assert "sandbox" in said
    assert "PROBATION" in said
    assert "sending off" in said
    assert ses.accepted == []


def test_a_wrong_key_shows_when_the_connection_is_checked(ses_of):
    with pytest.raises(Misconfigured) as caught:
        ses_of(secret_access_key="wrong-secret").check_connection()
    assert caught.value.code == "bad_credentials"
    assert "wrong-secret" not in caught.value.text
