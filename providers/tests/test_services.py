"""The services' own words: documented error answers, partial refusals and limits (PRV-5, PRV-7)."""

import json
import time

import pytest

from providers.base import RecipientStatus
from providers.exceptions import Misconfigured, PermanentFailure, TemporaryFailure, TooLarge, Unsupported
from providers.tests.harness import rigged
from providers.tests.messages import ANNA, BERT, CARA, PDF, SENDER, outbound, text_only


@pytest.fixture
def rig_of(tmp_path, monkeypatch):
    managers = []

    def make(type_):
        managers.append(rigged(type_, tmp_path, monkeypatch))
        return managers[-1].__enter__()

    yield make
    for manager in managers:
        manager.__exit__(None, None, None)


def sendgrid(message, field=None):
    return {"errors": [{"message": message, "field": field, "help": None}]}


def postmark(code, message="x"):
    return {"ErrorCode": code, "Message": message}


def brevo(code, message="x"):
    return {"code": code, "message": message}


def mailjet(code, message="x", related=()):
    error = {"ErrorIdentifier": "1", "ErrorCode": code, "StatusCode": 400, "ErrorMessage": message}
    return {"Messages": [{"Status": "error", "Errors": [{**error, "ErrorRelatedTo": list(related)}]}]}


def resend(status, name, message="x"):
    return {"statusCode": status, "name": name, "message": message}


def mailersend(**errors):
    return {"message": "The given data was invalid.", "errors": {k.replace("__", "."): [v] for k, v in errors.items()}}


def mandrill(name, message="x"):
    return {"status": "error", "code": -1, "name": name, "message": message}


def mailgun(message):
    return {"message": message}


def sparkpost(code, message="x", description="y"):
    return {"errors": [{"code": code, "message": message, "description": description}]}


def postal(code):
    return {"status": "error", "time": 0.1, "flags": {}, "data": {"code": code, "message": "x"}}


def scaleway(type_, **more):
    return {"type": type_, "message": "x", **more}


def argument(name, text="x"):
    return {"details": [{"argument_name": name, "reason": "constraint", "help_message": text}]}


def mailtrap(*errors):
    return {"success": False, "errors": list(errors)}


LIMITED = "Domain mg.acme.test is not allowed to send: recipient limit exceeded, try again after 120 seconds"
SANDBOX = "Sandbox subdomains are for test purposes only. Please add the address to authorized recipients."
UNVERIFIED = "Domain mg.acme.test is not allowed to send: The domain is unverified and requires DNS configuration."

DOCUMENTED = [
    ("sendgrid", 401, sendgrid("The provided authorization grant is invalid"), Misconfigured, "bad_credentials"),
    ("sendgrid", 401, sendgrid("Maximum credits exceeded"), Misconfigured, "bad_credentials"),
    ("sendgrid", 403, sendgrid("access forbidden"), Misconfigured, "bad_credentials"),
    ("sendgrid", 400, sendgrid("The subject is required.", "subject"), PermanentFailure, "bad_request"),
    ("sendgrid", 500, sendgrid("internal server error"), TemporaryFailure, "server_error"),
    ("postmark", 401, postmark(10, "Bad or missing API token"), Misconfigured, "bad_credentials"),
    ("postmark", 422, postmark(300, "Invalid 'From' address: 'x'."), PermanentFailure, "bad_request"),
    ("postmark", 422, postmark(300, "Invalid 'From': not a verified signature"), Unsupported, "sender_not_verified"),
    ("postmark", 422, postmark(400), Unsupported, "sender_not_verified"),
    ("postmark", 422, postmark(401), Unsupported, "sender_not_verified"),
    ("postmark", 422, postmark(405), Misconfigured, "account_limit"),
    ("postmark", 422, postmark(411), Unsupported, "attachment_refused"),
    ("postmark", 422, postmark(412), Misconfigured, "account_pending"),
    ("postmark", 422, postmark(413), Misconfigured, "account_blocked"),
    ("postmark", 422, postmark(1235), Misconfigured, "bad_stream"),
    ("postmark", 422, postmark(100, "Maintenance"), TemporaryFailure, "server_error"),
    ("postmark", 429, postmark(429), TemporaryFailure, "throttled"),
    ("brevo", 401, brevo("unauthorized", "Key not found"), Misconfigured, "bad_credentials"),
    ("brevo", 403, brevo("permission_denied"), Misconfigured, "bad_credentials"),
    ("brevo", 400, brevo("not_enough_credits"), Misconfigured, "account_limit"),
    ("brevo", 403, brevo("account_under_validation"), Misconfigured, "account_pending"),
    ("brevo", 400, brevo("invalid_parameter", "valid sender email required"), Unsupported, "sender_not_verified"),
    ("brevo", 400, brevo("invalid_parameter", "Unsupported file type"), Unsupported, "attachment_refused"),
    ("brevo", 400, brevo("missing_parameter", "subject is missing"), PermanentFailure, "bad_request"),
    ("brevo", 429, brevo("too_many_requests"), TemporaryFailure, "throttled"),
    ("mailjet", 401, {"ErrorMessage": "API key authentication failure."}, Misconfigured, "bad_credentials"),
    ("mailjet", 403, {"ErrorMessage": "Blocked", "ErrorCode": "mj-0015"}, Misconfigured, "bad_credentials"),
    ("mailjet", 400, mailjet("send-0008", "not an authorized sender", ["From"]), Unsupported, "sender_not_verified"),
    ("mailjet", 400, mailjet("send-0011", "Header cannot be customized", ["Headers"]), PermanentFailure, "bad_request"),
    ("mailjet", 500, {"ErrorIdentifier": "1", "ErrorMessage": "oops"}, TemporaryFailure, "server_error"),
    ("resend", 401, resend(401, "missing_api_key"), Misconfigured, "bad_credentials"),
    ("resend", 401, resend(401, "restricted_api_key"), Misconfigured, "bad_credentials"),
    ("resend", 403, resend(403, "invalid_api_key"), Misconfigured, "bad_credentials"),
    ("resend", 403, resend(403, "validation_error", "domain is not verified"), Unsupported, "sender_not_verified"),
    ("resend", 422, resend(422, "invalid_from_address"), Unsupported, "sender_not_verified"),
    ("resend", 422, resend(422, "invalid_attachment"), Unsupported, "attachment_refused"),
    ("resend", 422, resend(422, "missing_required_field"), PermanentFailure, "bad_request"),
    ("resend", 409, resend(409, "concurrent_idempotent_requests"), TemporaryFailure, "already_taken"),
    ("resend", 429, resend(429, "rate_limit_exceeded"), TemporaryFailure, "throttled"),
    ("resend", 429, resend(429, "daily_quota_exceeded"), TemporaryFailure, "quota"),
    ("mailersend", 401, {"message": "Unauthenticated."}, Misconfigured, "bad_credentials"),
    ("mailersend", 403, {"message": "This action is unauthorized."}, Misconfigured, "bad_credentials"),
    ("mailersend", 422, mailersend(from__email="must be verified. #MS42207"), Unsupported, "sender_not_verified"),
    ("mailersend", 422, mailersend(subject="The subject field is required."), PermanentFailure, "bad_request"),
    ("mailersend", 421, {"message": "maintenance"}, TemporaryFailure, "server_error"),
    ("mailersend", 408, {"message": "timeout"}, TemporaryFailure, "server_error"),
    ("mailgun", 400, mailgun("message parameter is missing"), PermanentFailure, "bad_request"),
    ("mailgun", 400, mailgun("Message body is too large"), TooLarge, "too_large"),
    ("mailgun", 401, b"Forbidden", Misconfigured, "bad_credentials"),
    ("mailgun", 402, mailgun("Payment required"), Misconfigured, "account_limit"),
    ("mailgun", 403, mailgun("Invalid private key"), Misconfigured, "bad_credentials"),
    ("mailgun", 403, mailgun(LIMITED), TemporaryFailure, "throttled"),
    ("mailgun", 403, mailgun(SANDBOX), Unsupported, "recipient_not_allowed"),
    ("mailgun", 403, mailgun(UNVERIFIED), Misconfigured, "domain_not_verified"),
    ("mailgun", 404, mailgun("Domain not found: mg.acme.test"), Misconfigured, "domain_not_found"),
    ("mailgun", 413, b"", TooLarge, "too_large"),
    ("mailgun", 429, mailgun(LIMITED), TemporaryFailure, "throttled"),
    ("mailgun", 500, mailgun("Internal Server Error"), TemporaryFailure, "server_error"),
    ("mailgun structured", 400, mailgun("from parameter is missing"), PermanentFailure, "bad_request"),
    ("sparkpost", 400, sparkpost("7001", "Invalid domain"), Unsupported, "sender_not_verified"),
    ("sparkpost", 400, sparkpost("7000"), Unsupported, "sender_refused"),
    ("sparkpost", 400, sparkpost("1502"), TemporaryFailure, "server_error"),
    ("sparkpost", 400, sparkpost("1902", "Message generation rejected"), Unsupported, "refused"),
    ("sparkpost", 400, sparkpost("1200"), PermanentFailure, "bad_request"),
    ("sparkpost", 401, sparkpost("1303"), Misconfigured, "bad_credentials"),
    ("sparkpost", 403, sparkpost("1100", "permission denied"), Misconfigured, "bad_credentials"),
    ("sparkpost", 403, sparkpost("1601", "No license"), Misconfigured, "account_limit"),
    ("sparkpost", 403, sparkpost("1100", "Account is suspended"), Misconfigured, "account_blocked"),
    ("sparkpost", 413, sparkpost("1300"), TooLarge, "too_large"),
    ("sparkpost", 420, sparkpost("2101", "Exceed Sending Limit (hourly)"), TemporaryFailure, "quota"),
    ("sparkpost", 420, sparkpost("2103", "Exceed Sending Limit (sandbox)"), TemporaryFailure, "quota"),
    ("sparkpost", 422, sparkpost("1400", "required field is missing", "content"), PermanentFailure, "bad_request"),
    ("sparkpost", 422, sparkpost("3000", "template language syntax error"), Unsupported, "template_syntax"),
    ("sparkpost", 422, sparkpost("3020", "template mime parsing error"), Unsupported, "bad_mime"),
    ("sparkpost", 429, sparkpost("", "Too many requests"), TemporaryFailure, "throttled"),
    ("sparkpost", 500, sparkpost("1500"), TemporaryFailure, "server_error"),
    ("sparkpost", 503, sparkpost("1900"), TemporaryFailure, "server_error"),
    ("postal", 200, postal("AccessDenied"), Misconfigured, "bad_credentials"),
    ("postal", 200, postal("InvalidServerAPIKey"), Misconfigured, "bad_credentials"),
    ("postal", 200, postal("ServerSuspended"), Misconfigured, "account_blocked"),
    ("postal", 200, postal("UnauthenticatedFromAddress"), Unsupported, "sender_not_verified"),
    ("postal", 200, postal("NoContent"), PermanentFailure, "bad_request"),
    ("postal", 200, postal("AttachmentMissingData"), PermanentFailure, "bad_request"),
    ("postal", 200, {"status": "parameter-error", "data": {"message": "x"}}, PermanentFailure, "bad_request"),
    ("postal", 200, postal("SomethingNew"), TemporaryFailure, "server_error"),
    ("scaleway", 400, scaleway("invalid_arguments", **argument("subject")), PermanentFailure, "bad_request"),
    ("scaleway", 400, scaleway("invalid_arguments", **argument("text", "at least 10")), Unsupported, "too_short"),
    ("scaleway", 400, scaleway("invalid_arguments", **argument("from.email")), Unsupported, "sender_not_verified"),
    ("scaleway", 400, scaleway("invalid_arguments", **argument("attachments.0")), Unsupported, "attachment_refused"),
    ("scaleway", 401, scaleway("denied_authentication"), Misconfigured, "bad_credentials"),
    ("scaleway", 403, scaleway("permissions_denied"), Misconfigured, "bad_credentials"),
    ("scaleway", 403, scaleway("quotas_exceeded"), TemporaryFailure, "quota"),
    ("scaleway", 404, scaleway("not_found", resource="domain"), Unsupported, "sender_not_verified"),
    ("scaleway", 404, scaleway("not_found", resource="project"), Misconfigured, "bad_project"),
    ("scaleway", 409, scaleway("transient_state"), TemporaryFailure, "server_error"),
    ("scaleway", 412, scaleway("precondition_failed"), Unsupported, "sender_not_verified"),
    ("scaleway", 429, scaleway("too_many_requests"), TemporaryFailure, "throttled"),
    ("mailtrap", 400, mailtrap("'subject' is required"), PermanentFailure, "bad_request"),
    ("mailtrap", 401, mailtrap("Unauthorized"), Misconfigured, "bad_credentials"),
    ("mailtrap", 403, mailtrap("Forbidden"), Misconfigured, "bad_credentials"),
    ("mailtrap", 403, mailtrap("Sending from domain acme.test is not allowed"), Unsupported, "sender_not_verified"),
    ("mailtrap", 403, mailtrap("Account is suspended"), Misconfigured, "account_blocked"),
    ("mailtrap", 429, mailtrap("Too many requests"), TemporaryFailure, "throttled"),
    ("mailtrap", 500, mailtrap("Internal server error"), TemporaryFailure, "server_error"),
    ("mandrill", 500, mandrill("Invalid_Key"), Misconfigured, "bad_credentials"),
    ("mandrill", 500, mandrill("PaymentRequired"), Misconfigured, "account_limit"),
    ("mandrill", 500, mandrill("PoorReputation"), Misconfigured, "account_blocked"),
    ("mandrill", 500, mandrill("ValidationError", "subject"), PermanentFailure, "bad_request"),
    ("mandrill", 500, mandrill("ServiceUnavailable"), TemporaryFailure, "server_error"),
    ("mandrill", 500, mandrill("GeneralError"), TemporaryFailure, "server_error"),
]  # fmt: skip


@pytest.mark.parametrize(("type_", "status", "body", "kind", "code"), DOCUMENTED)
def test_documented_errors_have_their_class(rig_of, type_, status, body, kind, code):
    rig = rig_of(type_)
    rig.service.fail_next(status, body)
    with pytest.raises(kind) as caught:
        rig.backend().send(outbound(text_only()))
    assert type(caught.value) is kind
    assert (caught.value.code, caught.value.status_code) == (code, status)


@pytest.mark.parametrize("body", [{}, [], None, 3, "x", {"errors": "x"}, {"errors": [3]}, {"errors": {"to": 3}},
                                  {"Messages": [3]}, {"Messages": 3}, {"ErrorCode": "x"}, {"name": None}])  # fmt: skip
def test_strange_error_bodies_raise_nothing_else(service_rig, body):
    service_rig.service.fail_next(400, json.dumps(body).encode())
    with pytest.raises((PermanentFailure, TemporaryFailure)):
        service_rig.backend().send(outbound(text_only()))


def test_a_sender_the_service_does_not_know_leaves_the_row_healthy(service_rig):
    """Another provider may take it, and other senders of this row go on."""
    if service_rig.type == "mailgun":
        pytest.skip("its domains may send in anybody's name")
    service_rig.service.unverified.add(SENDER)
    with pytest.raises(Unsupported) as caught:
        service_rig.backend().send(outbound(text_only()))
    assert caught.value.code == "sender_not_verified"
    assert service_rig.mails() == []


def test_one_bad_recipient_fails_and_the_others_are_tried_again(service_rig):
    if service_rig.type == "postal":
        pytest.skip("takes whatever looks like an address")
    service_rig.service.bad_recipients.add(BERT)
    backend = service_rig.backend()
    message = outbound(text_only(Cc=BERT), [ANNA, BERT, CARA])
    if service_rig.type in {"brevo", "resend", "mandrill", "mailgun"}:  # they do not say which
        with pytest.raises(PermanentFailure) as caught:
            backend.send(message)
        assert caught.value.code == "bad_recipient"
        result = backend.send(message.for_call([BERT], "k"))
        assert result.recipients[BERT].status is RecipientStatus.FAILED
        return
    result = backend.send(message)
    assert {r: (one.status.value, one.code) for r, one in result.recipients.items()} == {
        ANNA: ("deferred", "not_sent"),
        BERT: ("failed", "bad_recipient"),
        CARA: ("deferred", "not_sent"),
    }
    assert service_rig.mails() == []


def test_sendgrid_names_the_bad_one_among_copies_apart(rig_of):
    rig = rig_of("sendgrid")
    rig.service.bad_recipients.add(CARA)
    result = rig.backend().send(outbound(text_only(To=None), [ANNA, BERT, CARA]))
    assert [one.status.value for one in result.recipients.values()] == ["deferred", "deferred", "failed"]


@pytest.mark.parametrize("status", [200, 201])
def test_another_success_of_sendgrid_is_one_when_it_names_the_message(rig_of, status):
    rig = rig_of("sendgrid")
    rig.service.fail_next(status, b"", {"X-Message-Id": "abc"})
    result = rig.backend().send(outbound(text_only()))
    assert (result.provider_message_id, result.recipients[ANNA].status) == ("abc", RecipientStatus.DELIVERED)
    rig.service.fail_next(status, b"")
    with pytest.raises(TemporaryFailure) as caught:
        rig.backend().send(outbound(text_only()))
    assert caught.value.outcome_unknown


def test_sparkpost_may_leave_out_the_counts(rig_of):
    rig = rig_of("sparkpost")
    rig.service.fail_next(200, {"results": {"id": "11"}})
    result = rig.backend().send(outbound(text_only()))
    assert (result.provider_message_id, result.recipients[ANNA].status) == ("11", RecipientStatus.DELIVERED)


def test_sendgrid_names_the_time_of_its_next_window(rig_of):
    rig = rig_of("sendgrid")
    rig.service.fail_next(429, headers={"X-RateLimit-Reset": str(int(time.time()) + 40)})
    rig.service.fail_next(429, headers={"X-RateLimit-Reset": "soon"})
    backend = rig.backend()
    with pytest.raises(TemporaryFailure) as caught:
        backend.send(outbound(text_only()))
    assert 35 <= caught.value.retry_after <= 40
    with pytest.raises(TemporaryFailure) as caught:
        backend.send(outbound(text_only()))
    assert caught.value.retry_after is None


def test_postmark_reports_inactive_recipients_of_a_message_it_took(rig_of):
    rig = rig_of("postmark")
    rig.service.inactive.add(BERT)
    result = rig.backend().send(outbound(text_only(Cc=BERT), [ANNA, BERT, CARA]))
    assert [one.status.value for one in result.recipients.values()] == ["delivered", "failed", "delivered"]
    assert rig.reached() == [ANNA, CARA]


def test_postmark_refuses_a_message_only_to_inactive_recipients(rig_of):
    rig = rig_of("postmark")
    rig.service.inactive |= {ANNA, BERT}
    result = rig.backend().send(outbound(text_only(Cc=BERT), [ANNA, BERT]))
    assert {one.status for one in result.recipients.values()} == {RecipientStatus.FAILED}


def test_postmark_keeps_the_message_id(rig_of):
    rig = rig_of("postmark")
    backend = rig.backend()
    backend.send(outbound(text_only()))
    backend.send(outbound(text_only(Message_ID=None)))
    with_id, without = rig.mails()
    assert (with_id.headers["Message-ID"], with_id.headers["X-PM-KeepID"]) == ("<order-1@acme.test>", "true")
    assert "X-PM-KeepID" not in without.headers


def test_postmark_forbidden_files_go_to_another_provider(rig_of):
    message = text_only()
    message.add_attachment(PDF, maintype="application", subtype="octet-stream", filename="setup.exe")
    with pytest.raises(Unsupported) as caught:
        rig_of("postmark").backend().send(outbound(message))
    assert caught.value.code == "attachment_refused"


def test_mailersend_reports_suppressed_recipients(rig_of):
    rig = rig_of("mailersend")
    rig.service.suppressed.add(BERT)
    backend = rig.backend()
    result = backend.send(outbound(text_only(Cc=BERT), [ANNA, BERT]))
    assert [one.status.value for one in result.recipients.values()] == ["delivered", "failed"]
    result = backend.send(outbound(text_only(To=BERT), [BERT]))
    assert result.recipients[BERT].status is RecipientStatus.FAILED
    assert rig.reached() == [ANNA]


def test_mailersend_sends_own_headers_where_the_plan_allows_them(rig_of):
    rig = rig_of("mailersend")
    rig.service.headers_allowed = True
    config = {**rig.config(), "custom_headers": True}
    backend = type(rig.backend())(config, timeout=5)
    message = outbound(text_only())
    assert backend.verdict(message).lost == ()
    backend.send(message)
    assert rig.mails()[0].headers["X-Order"] == "4711"


def test_mandrill_may_say_what_it_is_by_the_status_alone(rig_of):
    rig = rig_of("mandrill")
    rig.service.fail_next(401, {"name": "SomethingNew", "message": "x"})
    with pytest.raises(Misconfigured):
        rig.backend().send(outbound(text_only()))


def test_mandrill_says_why_a_recipient_was_rejected(rig_of):
    rig = rig_of("mandrill")
    rig.service.rejected[BERT] = "hard-bounce"
    result = rig.backend().send(outbound(text_only(Cc=BERT), [ANNA, BERT]))
    assert result.recipients[ANNA].status is RecipientStatus.DELIVERED
    assert "hard-bounce" in result.recipients[BERT].text
    assert result.recipients[BERT].status is RecipientStatus.FAILED


def test_mandrill_gives_each_recipient_an_id_of_his_own(rig_of):
    result = rig_of("mandrill").backend().send(outbound(text_only(Cc=BERT), [ANNA, BERT]))
    ids = [one.provider_message_id for one in result.recipients.values()]
    assert len(set(ids)) == 2
    assert all(ids)


def test_brevo_takes_the_same_attempt_once(rig_of):
    rig = rig_of("brevo")
    backend, message = rig.backend(), outbound(text_only())
    backend.send(message)
    again = backend.send(message)
    assert again.recipients[ANNA].status is RecipientStatus.DELIVERED
    assert rig.reached() == [ANNA]


def test_resend_drops_nothing_because_type_and_name_disagree(rig_of):
    rig = rig_of("resend")
    message = text_only()
    message.add_attachment(PDF, maintype="application", subtype="octet-stream", filename="invoice.pdf")
    message.add_attachment(b"a;b\r\n", maintype="text", subtype="csv", filename="data.txt")
    message.add_attachment(b"?", maintype="application", subtype="x-unheard-of")
    rig.backend().send(outbound(message))
    assert rig.service.dropped == []
    assert [file.type for file in rig.mails()[0].files] == ["application/pdf", "text/plain", "application/octet-stream"]


def test_resend_is_told_when_a_key_was_used_for_something_else(rig_of):
    rig = rig_of("resend")
    backend = rig.backend()
    backend.send(outbound(text_only(), key="same"))
    with pytest.raises(TemporaryFailure) as caught:
        backend.send(outbound(text_only(Subject="Another"), key="same"))
    assert (caught.value.code, caught.value.outcome_unknown) == ("already_taken", True)


def test_nothing_of_the_global_anymail_settings_is_used(service_rig, settings):
    settings.ANYMAIL = {
        "SEND_DEFAULTS": {"bcc": ["spy@globex.test"], "tags": ["global"]},
        "POSTMARK_SEND_DEFAULTS": {"bcc": ["spy@globex.test"]},
        "IGNORE_UNSUPPORTED_FEATURES": True,
        "DEBUG_API_REQUESTS": True,
        **{f"{type_.upper()}_API_URL": "http://127.0.0.1:1/" for type_ in ("postmark", "brevo", "resend", "mailjet")},
    }
    service_rig.backend().send(outbound(text_only()))
    assert service_rig.reached() == [ANNA]
    assert "spy@globex.test" not in str(service_rig.mails()[0].payload)
